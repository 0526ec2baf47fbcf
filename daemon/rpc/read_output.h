#pragma once

// ReadOutput: one bounded look at what is kept of a command's output. Loop thread; matching runs on
// workers, a chunk at a time, so a large log holds nobody.

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "daemon/core/command_run.h"
#include "daemon/rpc/decode.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/workers.h"
#include "hermes/v1/exec.pb.h"

namespace hermes {

// A line longer than this is matched in pieces of this size.
inline constexpr size_t kMaxLineBytes = 64 << 10;
// Scanned by one call; beyond it the answer says `more` and where to go on.
inline constexpr uint64_t kMaxScanBytes = 256 << 20;
// Gaps in one answer; beyond it, too.
inline constexpr int kMaxGaps = 100;

// OFFSET_BEYOND_END, BAD_FIELD for a pattern that RE2 refuses or a channel the command has not.
Task<absl::StatusOr<v1::ReadOutputResponse>> ReadOutput(std::shared_ptr<CommandRun> run,
                                                        ReadCall request, Workers* workers);

}  // namespace hermes
