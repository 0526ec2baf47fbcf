#pragma once

// UndoStore: the syncs that landed in a mount's root, with the versions that they replaced. Keeps
// them for a time and a size, oldest first out, and takes one back. Blocking; worker threads, one
// thread at a time; the caller holds the sync lock during Revert and Expire.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/runtime/clock.h"
#include "sync/land.h"

namespace hermes::sync {

struct UndoLimits {
  int64_t max_age_s = 7 * 24 * 3600;
  // Of all versions kept below one root. The newest sync stays even if it alone is larger, for else
  // a large one could never be taken back; a mount's own limits bound it.
  uint64_t max_bytes = 256 << 20;
};

struct UndoEntry {
  std::string id;
  int64_t time_s = 0;
  uint32_t in_place = 0;  // files that Revert would take back
  uint32_t kept = 0;      // edits of the host that came in between and are kept here
  uint64_t bytes = 0;
  bool readable = true;  // its journal can be read
  // A turn was interrupted, or that can't be told now: Recover ends it, and until then it does not
  // expire.
  bool open = false;
};

class UndoStore {
 public:
  // `root` and `fs` as for Landing.
  UndoStore(Fs& fs, int root) : fs_(fs), root_(root) {}

  // Oldest first. What is being landed right now is left out.
  absl::StatusOr<std::vector<UndoEntry>> List();

  // Puts back every file of the sync that is still as the sync left it; the others are kHostChanged
  // and untouched. Journaled as the landing was, and ends such a turn that was interrupted. Done
  // again it does nothing: what is in place no more is what was wanted. RESULT_EXPIRED: not kept.
  // SYNC_HELD: somebody works on it. SYNC_FAILED: its journal is unreadable.
  absl::StatusOr<LandReport> Revert(std::string_view id);

  absl::Status Expire(const UndoLimits& limits, int64_t now_s);
  // For whom a failure of that is none of their own: it is logged.
  void Tidy(const UndoLimits& limits, int64_t now_s);

 private:
  UndoEntry Describe(const SyncDir& sync, bool* begun);

  Fs& fs_;
  const int root_;
};

int64_t SecondsNow(const Clock& clock);  // since 1970, as landings are dated

}  // namespace hermes::sync
