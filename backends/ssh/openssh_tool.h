#pragma once

// Runs the ssh program to its end for what it says: `ssh -G`, `ssh -V`. Loop thread.

#include <string>

#include "absl/status/statusor.h"
#include "daemon/runtime/child.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

inline constexpr size_t kMaxToolOutput = 256 << 10;  // more: BACKEND_UNREACHABLE
inline constexpr size_t kMaxComplaint = 8 << 10;     // of stderr; the last of it is kept
// Reading configuration may run programs of the user's (Match exec); longer is given up.
inline constexpr Duration kToolLimit = std::chrono::seconds(10);

struct ToolResult {
  Child::ExitStatus status;
  std::string out;
  std::string err;
};

// CAPABILITY_MISSING when the program cannot be started, BACKEND_UNREACHABLE when it does not end
// in time (it is killed then).
Task<absl::StatusOr<ToolResult>> RunTool(Loop& loop, Clock& clock, ChildSpec spec);

}  // namespace hermes
