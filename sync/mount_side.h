#pragma once

// MountSide: one mount of one session, and what its pushes and pulls share: the pair, the far end,
// and how far they are. Owned by the SyncManager; loop thread.

#include <cstdint>
#include <memory>
#include <string>

#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"
#include "daemon/runtime/workers.h"
#include "sync/fs.h"
#include "sync/ignore.h"
#include "sync/lock.h"
#include "sync/mount.h"
#include "sync/mount_pair.h"
#include "sync/remote_tree.h"
#include "sync/report.h"
#include "sync/undo.h"

namespace hermes::sync {

// What syncing stands on; outlives whoever syncs.
struct SyncDeps {
  Loop& loop;
  Clock& clock;
  Random& random;
  Workers& workers;
  Fs& fs;
  SyncLocks& locks;
  MountPairs& pairs;
  std::string unpack_program;  // see FindUnpack
  std::string quarantine_dir;  // of streams that lied; empty: nothing is kept of them
  UndoLimits undo;
  std::string* confinement = nullptr;  // told which layers confined the parser when it last ran
  // Counted up: files of which both sides had a version; looks that found what no notice told.
  uint64_t* conflicts = nullptr;
  uint64_t* drift = nullptr;
};

class MountSide {
 public:
  MountSide(Mount m, std::shared_ptr<MountPair> p, std::unique_ptr<RemoteTree> f);

  const Mount mount;
  size_t number = 0;  // of the mount in its session
  const IgnoreList ignore;
  const std::shared_ptr<MountPair> pair;
  const std::unique_ptr<RemoteTree> far;

  const RemoteRoot remote_root;
  // A pull would bring files but for their names, which are those of secrets: so it tells them.
  const bool withholds;
  const RemoteRoot look_root;  // for a pull's look, with the names that it tells
};

// Adds up how far all mounts of one sync are, and tells it.
class SyncMeter {
 public:
  explicit SyncMeter(SyncListener* listener) : listener_(listener) {}
  void Phase(std::string_view phase);
  void Entry(const SyncEntry& entry);
  void Expect(uint64_t files, uint64_t bytes);  // more than before
  void Done(uint64_t files, uint64_t bytes);
  const SyncProgress& progress() const { return progress_; }

 private:
  SyncListener* const listener_;  // may be null
  SyncProgress progress_;
};

// One push or pull of one side, as its parts pass it on.
struct SideWork {
  const SyncDeps& deps;
  MountSide* side;
  SyncMeter* meter;
  SyncReport* report;
  WishPtr wish;  // withdrawn: CANCELLED, soon

  RemoteRoot Root() const;  // of what is asked for this
  RemoteRoot LookRoot() const;
};

// For what several attempts are worth: a transport that broke. Nothing else is tried again.
bool IsTransport(const absl::Status& status);
inline constexpr int kSyncAttempts = 3;
// Before attempt 2 and 3: 2 s and 4 s, and up to half of it more; shorter if nobody waits any more.
Task<void> PauseBefore(int attempt, SideWork work);

void AddTo(SyncReport* sum, const SyncReport& part);

}  // namespace hermes::sync
