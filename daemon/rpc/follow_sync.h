#pragma once

// One reader of one sync: its progress and entries as a stream of events at the reader's own pace,
// one message in flight. As long as somebody reads, the sync is wanted. Loop thread only.

#include <memory>

#include "absl/status/status.h"
#include "daemon/core/sync_job.h"
#include "daemon/rpc/call.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"

namespace hermes {

inline constexpr Duration kProgressInterval = std::chrono::milliseconds(100);
inline constexpr Duration kSyncBeatInterval = std::chrono::seconds(15);

// Sends `started`; then phases, progress and every entry in order; `finished` last. Entries beyond
// kMaxSyncEntries are only counted. Returns what the call ends with.
Task<absl::Status> FollowSync(Clock& clock, std::shared_ptr<Call> call,
                              std::shared_ptr<SyncJob> job);

}  // namespace hermes
