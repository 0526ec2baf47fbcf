#pragma once

// PythonHolder: a live Python process that takes an flock as the agents' gateway does, for tests of
// who waits for whom.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "daemon/runtime/check.h"
#include "daemon/runtime/fd.h"

namespace hermes::sync {

// Says H if somebody else holds the lock, L once it has it, and after it was told, U.
class PythonHolder {
 public:
  explicit PythonHolder(const std::string& path) {
    int to_child[2];
    int from_child[2];
    CHECK(pipe2(to_child, O_CLOEXEC) == 0 && pipe2(from_child, O_CLOEXEC) == 0);
    pid_ = fork();
    CHECK(pid_ >= 0);
    if (pid_ == 0) {
      dup2(to_child[0], 0);
      dup2(from_child[1], 1);
      execlp("python3", "python3", "-c", kProgram, path.c_str(), nullptr);
      _exit(127);
    }
    close(to_child[0]);
    close(from_child[1]);
    tell_.reset(to_child[1]);
    hear_.reset(from_child[0]);
  }
  ~PythonHolder() {
    tell_.reset();
    waitpid(pid_, nullptr, 0);
  }
  bool Says(char what) {
    char said = 0;
    return read(hear_.get(), &said, 1) == 1 && said == what;
  }
  void Tell() { CHECK(write(tell_.get(), "\n", 1) == 1); }
  pid_t pid() const { return pid_; }

 private:
  static constexpr char kProgram[] =
      "import fcntl, sys\n"
      "f = open(sys.argv[1], 'w')\n"
      "def say(what): sys.stdout.write(what); sys.stdout.flush()\n"
      "try: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
      "except BlockingIOError: say('H'); fcntl.flock(f, fcntl.LOCK_EX)\n"
      "say('L')\n"
      "sys.stdin.readline()\n"
      "fcntl.flock(f, fcntl.LOCK_UN)\n"
      "f.close()\n"
      "say('U')\n"
      "sys.stdin.readline()\n";
  pid_t pid_ = -1;
  Fd tell_;
  Fd hear_;
};

}  // namespace hermes::sync
