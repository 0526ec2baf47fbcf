#pragma once

// One connection to the control socket of a running `ssh`. Kept alive by the coroutines that use
// it. Loop thread.

#include <sys/types.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include <asio/local/stream_protocol.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/ssh/mux_wire.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// Runs `task` on the loop with nobody waiting for it; it keeps alive what it needs.
void Detach(Loop& loop, Task<void> task);

class MuxSocket {
 public:
  // BACKEND_UNREACHABLE when nobody listens at `path`. Waits a little while ssh is busy accepting
  // others.
  static Task<absl::StatusOr<std::shared_ptr<MuxSocket>>> Connect(Loop& loop, Clock& clock,
                                                                  std::string path);

  explicit MuxSocket(Loop& loop) : socket_(loop.context()) {}

  // Everything now or an error: never waits. A connection's first 64 KiB fit for certain.
  absl::Status Send(std::string_view bytes);

  // Hands a descriptor over, as a message of its own. Whoever sends a request that needs
  // descriptors sends them before anything else is awaited: ssh reads them without looking at its
  // other connections.
  absl::Status SendDescriptor(int fd);

  // The next message. BACKEND_UNREACHABLE when ssh has closed the connection or Close was called.
  static Task<absl::StatusOr<mux::Message>> Next(std::shared_ptr<MuxSocket> self);

  // The process that listens there; 0: not known.
  pid_t Peer();

  void Close();

 private:
  asio::local::stream_protocol::socket socket_;
  mux::Decoder decoder_;
  std::array<char, 4096> buffer_;
};

}  // namespace hermes
