#pragma once

// Landing: puts received files into a mount's root so that each is at every moment the old or the
// new version, whatever is killed, unplugged or edited meanwhile, and so that the old ones are kept
// (undo.h takes them back). Two phases: everything is staged and verified before the first name
// changes. Blocking, no loop: worker threads, one thread at a time; the caller holds the sync lock
// during Land and Recover, not while it receives.

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sync/fs.h"
#include "sync/journal.h"
#include "sync/land_place.h"
#include "sync/land_turn.h"
#include "sync/parents.h"

namespace hermes::sync {

// A sync that is being received. Destroyed before it landed, it takes its files along.
class Stage {
 public:
  Stage(Place place, SyncDir sync) : place_(place), sync_(std::move(sync)) {}
  ~Stage();
  Stage(Stage&&) = default;
  Stage& operator=(Stage&&) = delete;

  // Where the received files go, under plain names that do not start with a dot: the one directory
  // that whoever parses what a place sent may write to.
  int files() const { return sync_.files.get(); }
  const std::string& id() const { return sync_.id; }

 private:
  friend class Landing;
  Place place_;
  SyncDir sync_;
  bool landing_ = false;
};

class Landing {
 public:
  // `root`: the held directory of the mount, of this Fs; it and `fs` outlive this object.
  Landing(Fs& fs, int root) : fs_(fs), root_(root) {}

  // A stage with room for `bytes` of received files, else DISK_FULL. `id`: the sync's, once.
  absl::StatusOr<Stage> NewStage(std::string_view id, uint64_t bytes);

  // Lands what was staged. Each change's `slot` is the staged file's name; of a deletion it is
  // empty. Every staged file is hashed again here, for its writer parsed hostile bytes: one that is
  // not `to` (or is linked elsewhere) refuses the whole batch with SYNC_FAILED, as does a plan that
  // names a path twice or a name of ours. DISK_FULL: nothing was changed. `now_s`: since 1970, for
  // the undo store. The results are in the order of `changes`. A file that is replaced keeps its
  // permission bits but for those that say "executable": what was private stays private.
  // kHostChanged leaves the received version in the undo store until it expires.
  absl::StatusOr<LandReport> Land(Stage stage, std::vector<Change> changes, int64_t now_s);

  // Ends what a kill or a power cut interrupted, one report each, and removes what was staged and
  // never landed. Before the first Land, and after one that failed. Leaves alone what is locked or
  // no landing. After an error something may wait for its end still.
  absl::StatusOr<std::vector<LandReport>> Recover();

 private:
  absl::Status Prepare(const Stage& stage, std::vector<Change>* changes);
  absl::Status Verify(const Stage& stage, const Change& change, Parents& parents);
  void MakeDirs(const LandPlan& plan);
  std::optional<uint32_t> OldMode(const Change& change, Parents& parents);

  Fs& fs_;
  const int root_;
};

// The permission bits of a landed file: of the file that it replaces, if any, with the executable
// bits as `executable` says. Never set-user-id and its like.
uint32_t LandedMode(std::optional<uint32_t> old, bool executable);

}  // namespace hermes::sync
