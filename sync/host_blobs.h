#pragma once

// HostBlobs: the bytes of a push. Few bytes are read before the push is planned to its end, so what
// is announced is what is sent, whoever writes to the files meanwhile; many are read as they go
// out, and a file that moved under us is told as bad and sent again by the next round. One that has
// gone is left out, and an entry says so. Used by one push; loop thread, reading on the workers.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/runtime/fd.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/workers.h"
#include "sync/mount_side.h"
#include "sync/plan.h"
#include "sync/remote_tree.h"

namespace hermes::sync {

inline constexpr uint64_t kMaxHeldBytes = 4 << 20;  // of one push; more is read as it goes out

struct PushBatch {
  std::vector<RemoteChange> changes;  // as asked for, but for files that moved on since
  std::unique_ptr<BlobSource> source;
  uint64_t bytes = 0;                  // of all files
  std::vector<RemoteChange> left_out;  // of what was asked for: they cannot be read
  bool held = false;                   // in memory
  bool moved = false;                  // some file moved on: there is more to push than this
};

// Makes the batch of these changes. `still`: a copy of each file is made first, so that one that
// never stands still arrives, too, as it was at one moment. `meter` and `side` outlive the batch.
Task<PushBatch> MakeBatch(Workers& workers, const MountSide* side, SyncMeter* meter,
                          std::vector<RemoteChange> changes, bool still);

}  // namespace hermes::sync
