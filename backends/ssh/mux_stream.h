#pragma once

// A program on the far side as a stream, opened through the control socket of a running `ssh`: the
// program's stdio are three pipes of ours, which ssh fills and drains. Loop thread. The process
// must ignore SIGPIPE.

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/ssh/mux_wire.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// The running ssh, as its streams need it.
class MuxMaster {
 public:
  virtual ~MuxMaster() = default;

  // OK: it was at work after this was called; what it closed before, it closed on purpose. Else how
  // the connection broke. A pipe that ends looks the same both ways, so every end is asked about.
  virtual Task<absl::Status> Check() = 0;
};

// Of a command: the request goes out in one piece. Longer: BAD_FIELD.
inline constexpr size_t kMaxMuxCommand = 48 << 10;

// A request without a reply for this long: ssh is asked whether it is at work, again and again. One
// that is stopped takes requests for ever; what its Check finds ends the wait.
inline constexpr Duration kReplyPatience = std::chrono::seconds(3);

// What became of a request: OK for kOpened, IsSlotBusy for a refused channel.
absl::Status StatusOfReply(const mux::Message& reply);

// Has the far side run `command`; returns when the channel is open. IsSlotBusy, or
// BACKEND_UNREACHABLE.
Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenMuxStream(Loop& loop, Clock& clock,
                                                            std::shared_ptr<MuxMaster> master,
                                                            std::string path, std::string command);

}  // namespace hermes
