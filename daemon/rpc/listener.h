#pragma once

// Listener: the daemon's Unix socket and its accept loop. Loop thread only. A connection that
// cannot be taken is closed; running out of descriptors makes it pause, never end.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/task_group.h"

namespace hermes {

// Makes the socket `path` with `mode` and listens. A dead daemon's socket is replaced; one that
// answers is an error.
absl::StatusOr<Fd> ListenUnix(const std::string& path, mode_t mode);

// The socket that systemd opened for us: nullopt without one, an error if it is not a listening
// Unix stream socket. Takes LISTEN_* out of the environment.
absl::StatusOr<std::optional<Fd>> TakeActivationSocket();

class Listener {
 public:
  using Accepted = std::function<void(Fd connection)>;

  // `path`: removed when the listener stops, if the socket there is still ours; empty: nothing is.
  Listener(Loop& loop, Clock& clock, Fd socket, std::string path, Accepted accepted);
  ~Listener();

  void Start();
  // No connection is accepted any more. Idempotent.
  void Stop();
  Task<void> Join() { return tasks_.Join(); }

 private:
  class Socket;
  static Task<void> Run(std::shared_ptr<Socket> socket, Clock* clock, Accepted accepted);

  Clock& clock_;
  std::shared_ptr<Socket> socket_;
  std::string path_;
  uint64_t inode_ = 0;
  Accepted accepted_;
  TaskGroup tasks_;
};

}  // namespace hermes
