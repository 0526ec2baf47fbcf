#include "daemon/runtime/child.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <optional>
#include <utility>

#include <asio/posix/stream_descriptor.hpp>

#include "daemon/runtime/check.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// The soft limit of open files from before RaiseFileLimit(); 0: never raised.
std::atomic<rlim_t> soft_file_limit_at_start{0};

// posix_spawn cannot set limits, so this comes right after it; a child that asks at once may still
// see ours. Failure (it is gone, it changed its uid) leaves it with ours, too.
void RestoreFileLimit(pid_t pid) {
  const rlim_t soft = soft_file_limit_at_start.load();
  rlimit limit{};
  if (soft == 0 || prlimit(pid, RLIMIT_NOFILE, nullptr, &limit) != 0) return;
  limit.rlim_cur = soft;
  prlimit(pid, RLIMIT_NOFILE, &limit, nullptr);
}

// An inherited SIG_IGN would make the kernel reap our children and lose their status.
void KeepExitStatuses() {
  struct sigaction action{};
  if (sigaction(SIGCHLD, nullptr, &action) != 0 || action.sa_handler != SIG_IGN) return;
  action.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &action, nullptr);
}

struct Pipe {
  Fd read;
  Fd write;
};

// Above the three standard numbers: where ours are closed, what prints there must not reach a
// child.
absl::Status LiftAboveStandard(Fd& fd) {
  if (fd.get() > STDERR_FILENO) return absl::OkStatus();
  fd.reset(fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  return fd.valid() ? absl::OkStatus() : ErrnoStatus(errno, "duplicate a pipe");
}

absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "make a pipe");
  Pipe pipe{Fd(ends[0]), Fd(ends[1])};
  RETURN_IF_ERROR(LiftAboveStandard(pipe.read));
  RETURN_IF_ERROR(LiftAboveStandard(pipe.write));
  return pipe;
}

void SetNonBlocking(const Fd& fd) {
  CHECK(fcntl(fd.get(), F_SETFL, fcntl(fd.get(), F_GETFL) | O_NONBLOCK) == 0);
}

// The kernel tells the owner of a pipe's end when the other end goes. `end` is one object with the
// child's stdin: what is set here stays when our number for it is closed.
absl::Status SignalAtOurEnd(const Fd& end, pid_t group, int signal) {
  const bool set = fcntl(end.get(), F_SETOWN, -group) == 0 &&
                   fcntl(end.get(), F_SETSIG, signal) == 0 &&
                   fcntl(end.get(), F_SETFL, fcntl(end.get(), F_GETFL) | O_ASYNC) == 0;
  return set ? absl::OkStatus() : ErrnoStatus(errno, "tie a child to this process");
}

// The attributes and file actions of one posix_spawn. Their functions fail only for lack of memory.
class SpawnPlan {
 public:
  SpawnPlan(int stdin_fd, int stdout_fd, int stderr_fd, const std::string& cwd) {
    CHECK(posix_spawn_file_actions_init(&actions_) == 0);
    CHECK(posix_spawnattr_init(&attributes_) == 0);
    if (!cwd.empty()) {
      CHECK(posix_spawn_file_actions_addchdir_np(&actions_, cwd.c_str()) == 0);
    }
    CHECK(posix_spawn_file_actions_adddup2(&actions_, stdin_fd, STDIN_FILENO) == 0);
    CHECK(posix_spawn_file_actions_adddup2(&actions_, stdout_fd, STDOUT_FILENO) == 0);
    CHECK(posix_spawn_file_actions_adddup2(&actions_, stderr_fd, STDERR_FILENO) == 0);
    CHECK(posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1) == 0);

    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    CHECK(posix_spawnattr_setsigdefault(&attributes_, &all) == 0);
    CHECK(posix_spawnattr_setsigmask(&attributes_, &none) == 0);
    CHECK(posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF |
                                                     POSIX_SPAWN_SETSIGMASK) == 0);
  }
  ~SpawnPlan() {
    posix_spawnattr_destroy(&attributes_);
    posix_spawn_file_actions_destroy(&actions_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  absl::StatusOr<pid_t> Run(const std::vector<char*>& argv, const std::vector<char*>& environment) {
    pid_t pid = -1;
    const int err =
        posix_spawnp(&pid, argv[0], &actions_, &attributes_, argv.data(), environment.data());
    if (err != 0) return ErrnoStatus(err, std::string("start ") + argv[0]);
    return pid;
  }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

bool HasNul(const std::string& text) { return text.find('\0') != std::string::npos; }

// exec would silently take the part before a NUL.
absl::Status Validate(const ChildSpec& spec) {
  if (spec.argv.empty()) return ErrnoStatus(EINVAL, "start a program without a name");
  bool nul = HasNul(spec.cwd);
  for (const std::string& text : spec.argv) nul = nul || HasNul(text);
  for (const std::string& text : spec.environment) nul = nul || HasNul(text);
  return nul ? ErrnoStatus(EINVAL, "start a program with a NUL byte in its arguments")
             : absl::OkStatus();
}

}  // namespace

absl::Status RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return ErrnoStatus(errno, "read the file limit");
  if (limit.rlim_cur == limit.rlim_max) return absl::OkStatus();
  const rlim_t soft = std::exchange(limit.rlim_cur, limit.rlim_max);
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return ErrnoStatus(errno, "raise the file limit");
  soft_file_limit_at_start.store(soft);
  return absl::OkStatus();
}

// Shared by the Child, the waiters and the watch on the pidfd; the watch keeps it until the process
// has been reaped.
class Child::Impl : public std::enable_shared_from_this<Child::Impl> {
 public:
  Impl(Loop& loop, pid_t pid) : pid_(pid), pidfd_(loop.context()), ended_(loop) {}

  // Only a loop that was destroyed under the watch leaves something to do here.
  ~Impl() {
    if (status_.has_value()) return;
    SignalGroup(SIGKILL);
    siginfo_t info{};
    while (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) != 0 && errno == EINTR) {
    }
  }

  absl::Status Watch() {
    Fd fd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
    if (!fd.valid()) return ErrnoStatus(errno, "watch a child");
    asio::error_code failed;
    pidfd_.assign(fd.get(), failed);
    if (failed) return ErrnoStatus(failed.value(), "watch a child");
    static_cast<void>(fd.release());
    AwaitExit();
    return absl::OkStatus();
  }

  void SignalGroup(int signal) {
    if (!status_.has_value()) kill(-pid_, signal);
  }

  static Task<ExitStatus> Wait(std::shared_ptr<Impl> self) {
    while (!self->status_.has_value()) co_await self->ended_.Wait();
    co_return *self->status_;
  }

  pid_t pid() const { return pid_; }

 private:
  void AwaitExit() {
    pidfd_.async_wait(asio::posix::stream_descriptor::wait_read,
                      [self = shared_from_this()](asio::error_code) { self->Reap(); });
  }

  void Reap() {
    siginfo_t info{};
    CHECK(waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG) == 0);
    if (info.si_pid == 0) return AwaitExit();
    status_ = ExitStatus{.signalled = info.si_code != CLD_EXITED, .value = info.si_status};
    pidfd_.close();
    ended_.NotifyAll();
  }

  const pid_t pid_;
  asio::posix::stream_descriptor pidfd_;
  Event ended_;
  std::optional<ExitStatus> status_;  // set once reaped
};

absl::StatusOr<std::unique_ptr<Child>> Child::Spawn(Loop& loop, ChildSpec spec, Pipes* pipes) {
  RETURN_IF_ERROR(Validate(spec));
  KeepExitStatuses();
  ASSIGN_OR_RETURN(Pipe in, MakePipe());
  ASSIGN_OR_RETURN(Pipe out, MakePipe());
  ASSIGN_OR_RETURN(Pipe err, MakePipe());
  SetNonBlocking(in.write);
  SetNonBlocking(out.read);
  SetNonBlocking(err.read);

  SpawnPlan plan(in.read.get(), out.write.get(), err.write.get(), spec.cwd);
  ASSIGN_OR_RETURN(const pid_t pid, plan.Run(Pointers(spec.argv), Pointers(spec.environment)));
  RestoreFileLimit(pid);
  auto impl = std::make_shared<Impl>(loop, pid);
  if (spec.signal_at_our_end != 0) {
    RETURN_IF_ERROR(SignalAtOurEnd(in.read, pid, spec.signal_at_our_end));
  }
  RETURN_IF_ERROR(impl->Watch());
  *pipes = {.stdin_fd = in.write.release(),
            .stdout_fd = out.read.release(),
            .stderr_fd = err.read.release()};
  return std::unique_ptr<Child>(new Child(std::move(impl)));
}

Child::Child(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Child::~Child() { impl_->SignalGroup(SIGKILL); }

pid_t Child::pid() const { return impl_->pid(); }

void Child::SignalGroup(int signal) { impl_->SignalGroup(signal); }

Task<Child::ExitStatus> Child::Wait() { return Impl::Wait(impl_); }

}  // namespace hermes
