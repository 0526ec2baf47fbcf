#include "tests/client/child.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

namespace hermes::client {
namespace {

constexpr int kPatienceMs = 10'000;

std::string Program() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "hermesctl";
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// The ends for us and for the child; close-on-exec, the child gets copies.
struct Pipe {
  Pipe() { EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0); }
  int ends[2];
};

}  // namespace

Child::Child(std::vector<std::string> arguments, Streams streams,
             std::vector<std::string> environment) {
  signal(SIGPIPE, SIG_IGN);
  arguments.insert(arguments.begin(), Program());
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID;
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, flags);
  std::vector<int> of_child;
  Pipe err;
  stderr_ = err.ends[0];
  of_child.push_back(err.ends[1]);
  posix_spawn_file_actions_adddup2(&actions, err.ends[1], 2);
  if (streams != Streams::kPipes) {
    stdin_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    EXPECT_EQ(grantpt(stdin_) | unlockpt(stdin_), 0);
    // Opened by the leader of a new session: becomes its controlling terminal.
    posix_spawn_file_actions_addopen(&actions, 0, ptsname(stdin_), O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, 0, 1);
    if (streams == Streams::kAllTerminal) posix_spawn_file_actions_adddup2(&actions, 0, 2);
    stdout_ = fcntl(stdin_, F_DUPFD_CLOEXEC, 0);
  } else {
    Pipe in, out;
    stdin_ = in.ends[1];
    stdout_ = out.ends[0];
    of_child.insert(of_child.end(), {in.ends[0], out.ends[1]});
    posix_spawn_file_actions_adddup2(&actions, in.ends[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out.ends[1], 1);
  }
  EXPECT_EQ(posix_spawn(&pid_, arguments[0].c_str(), &actions, &attributes,
                        Pointers(arguments).data(), Pointers(environment).data()),
            0)
      << arguments[0];
  for (int fd : of_child) close(fd);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
}

Child::~Child() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  for (int fd : {stdin_, stdout_, stderr_}) {
    if (fd >= 0) close(fd);
  }
}

void Child::Write(const std::string& data) {
  for (size_t at = 0; at < data.size();) {
    ssize_t count = write(stdin_, data.data() + at, data.size() - at);
    if (count <= 0) return;
    at += static_cast<size_t>(count);
  }
}

void Child::CloseStdin() {
  close(stdin_);
  stdin_ = -1;
}

void Child::CloseStdout() {
  close(stdout_);
  stdout_ = -1;
}

void Child::Signal(int number) const { EXPECT_EQ(kill(pid_, number), 0); }

// False: nothing came in time, or both streams are at their ends.
bool Child::ReadSome(int timeout_ms) {
  pollfd ready[2] = {{stdout_, POLLIN, 0}, {stderr_, POLLIN, 0}};
  if ((stdout_ < 0 && stderr_ < 0) || poll(ready, 2, timeout_ms) <= 0) return false;
  std::string* texts[] = {&out_, &err_};
  int* fds[] = {&stdout_, &stderr_};
  for (int i = 0; i < 2; ++i) {
    if (ready[i].revents == 0) continue;
    char buffer[65536];
    ssize_t count = read(*fds[i], buffer, sizeof buffer);
    if (count > 0) {
      texts[i]->append(buffer, static_cast<size_t>(count));
    } else {
      close(*fds[i]);
      *fds[i] = -1;
    }
  }
  return true;
}

bool Child::WaitFor(const std::string& stream, const std::string& text) {
  while (stream.find(text) == std::string::npos) {
    if (!ReadSome(kPatienceMs)) return false;
  }
  return true;
}

bool Child::WaitForStdout(const std::string& text) { return WaitFor(out_, text); }
bool Child::WaitForStderr(const std::string& text) { return WaitFor(err_, text); }

int Child::Wait() {
  while (ReadSome(kPatienceMs)) {
  }
  int status = 0;
  if (stdout_ >= 0 || stderr_ >= 0) {
    ADD_FAILURE() << "hermesctl did not end; stdout: " << out_ << " stderr: " << err_;
    kill(pid_, SIGKILL);
  }
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

}  // namespace hermes::client
