#include "backends/runner/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "backends/runner/ladder.h"
#include "backends/runner/notice.h"
#include "backends/runner/sys.h"
#include "backends/runner/tree.h"

namespace hermes::runner {
namespace {

using frames::Cause;

constexpr uint32_t kOrphanedGraceMs = 1000;  // when the runner is gone

// Where its descriptors are once the rest is closed.
constexpr int kSocketFd = 3;
constexpr int kStatusFd = 4;

class Supervisor {
 public:
  Supervisor(const Launch& launch, pid_t leader)
      : leader_(leader), ahead_(launch.ahead), ladder_(getpid()) {
    SetTimes(launch.deadline_ms, launch.grace_ms);
  }

  [[noreturn]] void Run();

 private:
  void Wait();
  int64_t NextUs() const;
  void SetTimes(uint64_t deadline_ms, uint32_t grace_ms);
  void OnOrder();
  void OnNobodysEnd();
  void OnLaunchStatus();
  void OnSignals();
  void Reap();
  void OnLeaderEnd(int status, const rusage& usage);
  void BeginKill(uint32_t grace_ms, Cause cause);
  void OnKillDone();
  void Signal(const Order& order);
  void SendEnded();
  void Send(const Notice& notice);

  pid_t leader_;
  uint32_t grace_ms_ = 0;
  bool ahead_;  // its command has not come yet
  Ladder ladder_;
  Fd signals_;
  int64_t deadline_us_ = 0;  // 0: none
  bool launched_ = false;
  bool leader_gone_ = false;
  bool ended_sent_ = false;
  bool childless_ = false;
  bool kill_ordered_ = false;  // the runner waits for a kKilled
  bool runner_gone_ = false;
  Cause cause_ = Cause::kNatural;
  Notice ended_{};
};

void Supervisor::Run() {
  sigset_t watched;
  sigemptyset(&watched);
  for (int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&watched, signal);
  sigprocmask(SIG_SETMASK, &watched, nullptr);
  signals_.Reset(signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK));
  for (;;) {
    Wait();
    Reap();
    if (deadline_us_ != 0 && NowUs() >= deadline_us_ && !leader_gone_) {
      deadline_us_ = 0;
      BeginKill(grace_ms_, Cause::kRunTimeout);
    }
    if (childless_) ladder_.Gone();
    ladder_.Step({});
    if (ladder_.done()) OnKillDone();
    if (leader_gone_ && !ended_sent_ && !ladder_.active() && launched_) SendEnded();
    if (childless_ && ended_sent_) break;
  }
  Notice empty{};
  empty.kind = Notice::kEmpty;
  Send(empty);
  _exit(0);
}

int64_t Supervisor::NextUs() const {
  int64_t next = deadline_us_ != 0 && !leader_gone_ ? deadline_us_ : INT64_MAX;
  return ladder_.active() ? std::min(next, ladder_.next_us()) : next;
}

void Supervisor::Wait() {
  pollfd sources[3] = {{.fd = runner_gone_ ? -1 : kSocketFd, .events = POLLIN, .revents = 0},
                       {.fd = signals_.get(), .events = POLLIN, .revents = 0},
                       {.fd = launched_ ? -1 : kStatusFd, .events = POLLIN, .revents = 0}};
  int timeout_ms = -1;
  if (int64_t next = NextUs(); next != INT64_MAX) {
    constexpr int64_t kLongestMs = 3'600'000;
    int64_t left_ms = (next - NowUs() + 999) / 1000;
    timeout_ms = static_cast<int>(std::clamp<int64_t>(left_ms, 0, kLongestMs));
  }
  if (poll(sources, 3, timeout_ms) <= 0) return;
  if (sources[2].revents != 0) OnLaunchStatus();
  if (sources[1].revents != 0) OnSignals();
  if (sources[0].revents != 0) OnOrder();
}

void Supervisor::SetTimes(uint64_t deadline_ms, uint32_t grace_ms) {
  grace_ms_ = grace_ms;
  if (deadline_ms != 0) deadline_us_ = NowUs() + static_cast<int64_t>(deadline_ms) * 1000;
}

void Supervisor::OnOrder() {
  Order order{};
  ssize_t n = recv(kSocketFd, &order, sizeof order, MSG_DONTWAIT);
  // Told once, and before what was ordered: the runner died with a notice of ours unread.
  if (n < 0 && errno == ECONNRESET) n = recv(kSocketFd, &order, sizeof order, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n != sizeof order) {
    runner_gone_ = true;
    return OnNobodysEnd();
  }
  if (order.kind == Order::kBegin) {
    ahead_ = false;
    return SetTimes(order.deadline_ms, order.grace_ms);
  }
  if (order.kind == Order::kSignal) return Signal(order);
  kill_ordered_ = true;
  BeginKill(order.grace_ms, order.cause);
}

void Supervisor::OnLaunchStatus() {
  LaunchFailure failure{};
  ssize_t n = read(kStatusFd, &failure, sizeof failure);
  if (n < 0 && errno == EINTR) return;
  launched_ = true;
  Notice notice{};
  notice.pid = leader_;
  notice.kind = Notice::kLaunched;
  if (n == sizeof failure) {
    notice.kind = Notice::kFailed;
    notice.stage = failure.stage;
    notice.error = failure.error;
  }
  Send(notice);
  if (notice.kind == Notice::kFailed) _exit(0);  // its zombie goes to the runner, which reaps it
}

void Supervisor::OnSignals() {
  signalfd_siginfo info;
  bool told_to_end = false;
  while (read(signals_.get(), &info, sizeof info) == sizeof info)
    told_to_end |= info.ssi_signo != SIGCHLD;
  if (!told_to_end) return;
  if (ahead_) OnOrder();  // its command may be on the way
  OnNobodysEnd();
}

// The runner is gone or does not want this any more. A shell without a command has started nothing,
// so there is no tree to walk.
void Supervisor::OnNobodysEnd() {
  if (!ahead_) return BeginKill(std::min(grace_ms_, kOrphanedGraceMs), Cause::kSandboxLost);
  if (!leader_gone_) kill(leader_, SIGKILL);
  _exit(0);
}

void Supervisor::Reap() {
  for (;;) {
    int status = 0;
    rusage usage{};
    pid_t pid = wait4(-1, &status, WNOHANG, &usage);
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) childless_ = true;  // ECHILD: with a subreaper that means no descendant at all
    if (pid <= 0) return;
    if (pid == leader_) OnLeaderEnd(status, usage);
  }
}

void Supervisor::OnLeaderEnd(int status, const rusage& usage) {
  auto micros = [](const timeval& t) {
    return uint64_t(t.tv_sec) * 1'000'000 + uint64_t(t.tv_usec);
  };
  if (!launched_) OnLaunchStatus();
  leader_gone_ = true;
  ended_.kind = Notice::kEnded;
  ended_.status = status;
  ended_.cause = cause_;
  ended_.user_us = micros(usage.ru_utime);
  ended_.system_us = micros(usage.ru_stime);
  ended_.max_rss_kb = static_cast<uint64_t>(usage.ru_maxrss);
}

void Supervisor::BeginKill(uint32_t grace_ms, Cause cause) {
  if (cause_ == Cause::kNatural && !leader_gone_) cause_ = cause;
  ladder_.Begin(grace_ms, {});
}

void Supervisor::OnKillDone() {
  if (ladder_.report().verified == 0 && !leader_gone_) kill(-leader_, SIGKILL);
  Notice notice{};
  notice.kind = Notice::kKilled;
  notice.tree = Pack(ladder_.report());
  ended_.has_tree = 1;
  ended_.tree = notice.tree;
  ladder_.Restart();
  if (kill_ordered_) Send(notice);
  kill_ordered_ = false;
  if (runner_gone_) _exit(0);
}

void Supervisor::Signal(const Order& order) {
  if (order.scope == frames::Scope::kTree) {
    for (pid_t pid : Descendants(getpid(), {})) kill(pid, order.signal);
    return;
  }
  if (leader_gone_) return;
  kill(order.scope == frames::Scope::kForeground ? -leader_ : leader_, order.signal);
}

void Supervisor::SendEnded() {
  ended_sent_ = true;
  ended_.empty = childless_ ? 1 : 0;
  Send(ended_);
}

void Supervisor::Send(const Notice& notice) {
  ssize_t sent = send(kSocketFd, &notice, sizeof notice, MSG_NOSIGNAL);
  if (sent != sizeof notice) runner_gone_ = true;
}

void CloseOthers(int socket_fd, int status_fd) {
  if (dup2(socket_fd, kSocketFd) < 0 || dup2(status_fd, kStatusFd) < 0) _exit(1);
  CloseRange(kStatusFd + 1, kLastFd);
}

}  // namespace

void Supervise(const Launch& launch, int socket_fd, pid_t runner) {
  setsid();
  prctl(PR_SET_NAME, "hermes-command");
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != runner) _exit(1);
  Fd status_read, status_write;
  if (!MakePipe(&status_read, &status_write)) _exit(1);
  pid_t leader = Fork();
  if (leader == 0) Become(launch, status_write.get());
  if (leader < 0) {
    LaunchFailure failure{.stage = frames::LaunchStage::kResources, .error = errno};
    ssize_t written = write(status_write.get(), &failure, sizeof failure);
    if (written != sizeof failure) _exit(1);
  }
  CloseOthers(socket_fd, status_read.Release());
  status_write.Release();
  Supervisor(launch, leader).Run();
}

}  // namespace hermes::runner
