#pragma once

// A turn: all changes of a journal's open turn, in an order that works, then durable, then
// committed. First run, replay and revert end here. Blocking; the caller holds the sync's directory
// and, against other writers of the root, the sync lock.

#include <vector>

#include "absl/status/statusor.h"
#include "sync/fs.h"
#include "sync/journal.h"
#include "sync/land_place.h"

namespace hermes::sync {

struct LandResult {
  RelPath path;
  Outcome outcome = Outcome::kFailed;
  // An edit of the host that came between two moves lies in the undo store; what is under the name
  // is a version of the host as well.
  bool kept = false;
  bool removes = false;  // the change is a deletion
  absl::Status why;      // of kFailed
};

struct LandReport {
  // The disk became full on the way; what had been done was taken back, file by file, and such
  // files say kFailed. One that says kDone could not be taken back.
  bool disk_full = false;
  std::vector<LandResult> results;
};

struct TurnPlace {
  Fs& fs;
  int root;
};

// `verified`: nothing was moved yet and all staged files were looked at. An error means that the
// turn stays open: whoever replays ends it.
absl::StatusOr<LandReport> FinishTurn(const TurnPlace& place, const SyncDir& sync, Journal& journal,
                                      bool verified);

}  // namespace hermes::sync
