#pragma once

// Child: a process that hermesd itself spawned (posix_spawn, never fork: this process links gRPC).
// In a session of its own, so it has no terminal of ours; descriptors other than the given three
// are closed. Loop thread. Destroying a Child whose process runs sends KILL to its group; the
// process is reaped in any case.

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// Raises the soft limit of open files to the hard one and remembers what it was: children start
// with the old value. Once, from main, before there are threads.
absl::Status RaiseFileLimit();

struct ChildSpec {
  std::vector<std::string> argv;  // argv[0] is the path, looked up in PATH if it has no slash
  std::vector<std::string> environment;  // "NAME=value", the whole of it
  std::string cwd = {};                  // empty: ours
  // Not 0: the group gets this signal when our end of its stdin closes, and so also when this
  // process is gone, however it ended. Then nothing may be written to stdin.
  int signal_at_our_end = 0;
};

class Child {
 public:
  struct ExitStatus {
    bool signalled = false;
    int value = 0;  // exit code or signal number
  };

  // The parent's ends of the three pipes; the caller owns them (non-blocking, close-on-exec).
  struct Pipes {
    int stdin_fd = -1;
    int stdout_fd = -1;
    int stderr_fd = -1;
  };

  // A failed start is a status with the errno's text; nothing is left behind. Blocks the loop until
  // the program is executed (about a millisecond).
  static absl::StatusOr<std::unique_ptr<Child>> Spawn(Loop& loop, ChildSpec spec, Pipes* pipes);
  ~Child();

  pid_t pid() const;

  // Signals the process and those of its descendants that stayed in its group. Nothing happens once
  // it has been reaped: the group's id may be somebody else's by then.
  void SignalGroup(int signal);

  // Returns once the process has been reaped; may be awaited by several, also beyond the Child's
  // life.
  Task<ExitStatus> Wait();

 private:
  class Impl;
  explicit Child(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace hermes
