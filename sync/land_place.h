#pragma once

// Place: the one directory of a mount's root where received files wait and old versions are kept,
// so that every move between it and the tree is a rename. Below it one directory per sync: its
// journal, and `files`, whose names are the slots. Whoever works in a sync's directory holds an
// advisory lock on it; one without lock and journal is a leftover. Nothing of it is ever synced.
// Worker threads.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sync/fs.h"

namespace hermes::sync {

inline constexpr std::string_view kPlaceName = ".hermesd-stage";

// Of a version, below the mount's root, for people.
std::string PathOfSlot(std::string_view sync_id, std::string_view slot);

// Ours, locked, until it is destroyed.
struct SyncDir {
  std::string id;
  Handle dir;
  Handle files;
};

class Place {
 public:
  Place(Fs& fs, int root) : fs_(fs), root_(root) {}  // `root` stays the caller's

  // A new one. BAD_FIELD: no id of a sync, or taken. SYNC_FAILED: the place is not ours alone.
  absl::StatusOr<SyncDir> Make(std::string_view id) const;
  // RESULT_EXPIRED: there is none. SYNC_HELD: somebody works in it. `files` may be missing.
  absl::StatusOr<SyncDir> Open(std::string_view id) const;
  absl::StatusOr<std::vector<std::string>> Ids() const;  // sorted; none if there is no place
  // The journal first: what is left of a cut removal is a leftover. What can't be removed stays.
  void Remove(SyncDir sync) const;
  uint64_t BytesOf(const SyncDir& sync) const;  // of the versions it holds

 private:
  absl::StatusOr<Handle> OpenPlace(bool make) const;
  absl::StatusOr<SyncDir> Furnish(const Handle& place, std::string_view id) const;
  absl::StatusOr<SyncDir> Lock(const Handle& place, std::string_view id) const;

  Fs& fs_;
  const int root_;
};

}  // namespace hermes::sync
