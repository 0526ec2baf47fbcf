#pragma once

// Listener: the daemon's Unix socket and its accept loop. Loop thread only. A connection that
// cannot be taken is closed; running out of descriptors makes it pause, never end. A socket that
// somebody takes away is made again at once; what lies in its place is left alone, and logged.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/rpc/folder_watch.h"
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

  // `path`: kept there while this listens, and removed when it stops, if the socket there is still
  // ours. Empty: neither, somebody else takes care of the socket.
  Listener(Loop& loop, Clock& clock, Fd socket, std::string path, Accepted accepted);
  ~Listener();

  void Start();  // once
  // No connection is accepted any more. Idempotent.
  void Stop();
  Task<void> Join() { return tasks_.Join(); }

 private:
  class Socket;
  static Task<void> Run(std::shared_ptr<Socket> socket, Clock* clock, Accepted accepted);

  static Task<void> Guard(Listener* self, std::shared_ptr<FolderWatch> folder);
  void Restore();

  Loop& loop_;
  Clock& clock_;
  std::shared_ptr<Socket> socket_;
  const std::string path_;
  uint64_t inode_ = 0;
  mode_t mode_ = 0;
  bool unreachable_ = false;  // and that was logged
  std::shared_ptr<FolderWatch> folder_;
  Accepted accepted_;
  TaskGroup tasks_;
};

}  // namespace hermes
