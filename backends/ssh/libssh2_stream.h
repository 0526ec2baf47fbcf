#pragma once

// A program on the far side as a Stream over one channel. Loop thread.

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/ssh/libssh2_core.h"
#include "daemon/runtime/task.h"

namespace hermes {

// The library refuses longer ones, and Dropbear drops the connection for less than that.
inline constexpr size_t kMaxExec = 32 << 10;  // bytes; longer: BAD_FIELD, nothing is sent

// Has the host run `command`; see SshConnection::Run.
Task<absl::StatusOr<std::unique_ptr<Stream>>> RunProgramOver(std::shared_ptr<Libssh2Core> core,
                                                             std::string command);

}  // namespace hermes
