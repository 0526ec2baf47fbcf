#include "backends/ssh/openssh_master.h"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "backends/ssh/openssh_tool.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr Duration kSocketPause = std::chrono::milliseconds(20);  // where nothing can be watched
// ssh answers its control socket at once unless it is stopped or stuck; then it is killed.
constexpr Duration kAnswerLimit = std::chrono::seconds(10);
// From SIGTERM, or from the end of its control connections, to SIGKILL.
constexpr Duration kEndLimit = std::chrono::seconds(2);
// For what is still in the pipe when ssh has ended; only a process that it left behind can hold it.
constexpr Duration kLastWordsLimit = std::chrono::milliseconds(300);
constexpr size_t kMaxChatter = 1024;  // bytes kept of stdout, where nothing of use can come

}  // namespace

OpenSshMaster::OpenSshMaster(Loop& loop, Clock& clock, Plan plan)
    : loop_(loop), clock_(clock), plan_(std::move(plan)), folder_(loop.context()), changed_(loop) {}

Task<absl::StatusOr<std::shared_ptr<OpenSshMaster>>> OpenSshMaster::Login(Loop& loop, Clock& clock,
                                                                          Plan plan,
                                                                          SshTries* tries) {
  if (IsWithdrawn(plan.wish)) co_return Error(Reason::k_BACKEND_UNREACHABLE, "given up");
  auto self = std::make_shared<OpenSshMaster>(loop, clock, std::move(plan));
  CO_RETURN_IF_ERROR(self->Start());
  const Wish::Ear ear(self->plan_.wish,
                      [master = self.get()] { master->child_->SignalGroup(SIGKILL); });
  Detach(loop, AwaitEnd(self));
  Detach(loop, WatchFolder(self));
  const absl::Status done =
      co_await WithDeadline(clock, clock.Now() + kLoginLimit, OpenProbe(self), [self] {
        self->too_slow_ = true;
        self->child_->SignalGroup(SIGKILL);
      });
  asio::error_code ignored;
  self->folder_.close(ignored);
  self->logged_in_ = done.ok();
  if (self->alive()) co_return self;
  co_await AwaitLastWords(self);
  if (ReasonOf(done) == Reason::k_CAPABILITY_MISSING) co_return done;
  const SshFailure failure = self->Failure();
  const SshTries cost = TriesOf(failure);
  tries->left += cost.left;
  tries->refused += cost.refused;
  co_return Explain(failure);
}

// The watch is there before ssh is: its socket can't be missed. An account has few watches (128,
// for all its programs), and the logins of a restart may be more.
absl::Status OpenSshMaster::Start() {
  Fd watch(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  const std::string folder = plan_.control_path.substr(0, plan_.control_path.rfind('/'));
  if (watch.valid() && inotify_add_watch(watch.get(), folder.c_str(), IN_CREATE) >= 0)
    folder_.assign(watch.release());
  ChildSpec spec{.argv = MasterWords(plan_.command, plan_.control_path),
                 .environment = SshEnvironment(),
                 .signal_at_our_end = SIGTERM};
  if (!plan_.command.jumps.empty()) {
    spec.environment.push_back(std::string(kJumpsVariable) + "=" + JumpScript(plan_.command));
  }
  Child::Pipes pipes;
  auto child = Child::Spawn(loop_, std::move(spec), &pipes);
  if (!child.ok()) {
    return Error(Reason::k_CAPABILITY_MISSING, std::string(child.status().message()));
  }
  child_ = *std::move(child);
  stdin_.reset(pipes.stdin_fd);
  auto heard = [self = shared_from_this()] { self->Changed(); };
  out_ = Words::Gather(loop_, pipes.stdout_fd, kMaxChatter, heard);
  err_ = Words::Gather(loop_, pipes.stderr_fd, kMaxComplaint, heard);
  return absl::OkStatus();
}

Task<void> OpenSshMaster::AwaitEnd(Self self) {
  co_await self->child_->Wait();
  self->ended_ = true;
  unlink(self->plan_.control_path.c_str());
  self->Changed();
}

Task<void> OpenSshMaster::WatchFolder(Self self) {
  std::array<char, 4096> events;
  asio::error_code error;
  while (!error) {
    co_await self->folder_.async_read_some(asio::buffer(events),
                                           asio::redirect_error(asio::use_awaitable, error));
    self->Changed();
  }
}

bool OpenSshMaster::SocketThere() const {
  struct stat info{};
  return lstat(plan_.control_path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode);
}

// ssh binds its socket when it has logged in, and answers when it is at work.
Task<void> OpenSshMaster::AwaitSocket(Self self) {
  while (!self->ended_ && !self->SocketThere()) {
    if (self->folder_.is_open()) {
      co_await self->changed_.Wait();
    } else {
      co_await self->clock_.SleepFor(kSocketPause);
    }
  }
}

Task<absl::Status> OpenSshMaster::OpenProbe(Self self) {
  co_await AwaitSocket(self);
  CO_ASSIGN_OR_RETURN(self->probe_, co_await MuxSocket::Connect(self->loop_, self->clock_,
                                                                self->plan_.control_path));
  CO_RETURN_IF_ERROR(self->probe_->Send(mux::EncodeHello()));
  CO_ASSIGN_OR_RETURN(const mux::Message hello, co_await MuxSocket::Next(self->probe_));
  if (hello.type != mux::Type::kHello) co_return StatusOfReply(hello);
  Detach(self->loop_, ListenToProbe(self));
  co_return absl::OkStatus();
}

Task<void> OpenSshMaster::ListenToProbe(Self self) {
  while (true) {
    absl::StatusOr<mux::Message> message = co_await MuxSocket::Next(self->probe_);
    if (!message.ok()) break;
    if (message->type != mux::Type::kAlive) continue;
    self->answered_ = message->id;
    self->Changed();
  }
  self->quiet_ = true;
  self->Changed();
  co_await AwaitLastWords(self);
}

Task<absl::Status> OpenSshMaster::Check() { return CheckNow(shared_from_this()); }

// One question is under way at a time, however many ask; each waits for one sent after it came.
Task<void> OpenSshMaster::AwaitAnswer(Self self, uint32_t id) {
  while (self->alive() && self->answered_ < id) {
    if (self->asked_ == self->answered_) {
      const std::string question = mux::EncodeRequest(mux::Type::kAliveCheck, self->asked_ + 1);
      if (!self->probe_->Send(question).ok()) co_return;
      ++self->asked_;
    }
    co_await self->changed_.Wait();
  }
}

Task<absl::Status> OpenSshMaster::CheckNow(Self self) {
  const uint32_t id = self->asked_ + 1;
  co_await WithDeadline(self->clock_, self->clock_.Now() + kAnswerLimit, AwaitAnswer(self, id),
                        [self] {
                          self->quiet_ = true;
                          self->child_->SignalGroup(SIGKILL);
                          self->Changed();
                        });
  if (self->answered_ >= id) co_return absl::OkStatus();
  co_await AwaitLastWords(self);
  co_return self->why();
}

Task<void> OpenSshMaster::AwaitChild(Self self) {
  while (!self->ended_) co_await self->changed_.Wait();
}

Task<void> OpenSshMaster::AwaitWords(Self self) {
  while (!self->err_->ended() || !self->out_->ended()) co_await self->changed_.Wait();
}

Task<void> OpenSshMaster::AwaitLastWords(Self self) {
  self->quiet_ = true;
  co_await WithDeadline(self->clock_, self->clock_.Now() + kEndLimit, AwaitChild(self),
                        [self] { self->child_->SignalGroup(SIGKILL); });
  co_await WithDeadline(self->clock_, self->clock_.Now() + kLastWordsLimit, AwaitWords(self),
                        [self] {
                          self->out_->Stop();
                          self->err_->Stop();
                        });
}

SshFailure OpenSshMaster::Failure() const {
  return {.spec = plan_.command.target.spec,
          .resolved = plan_.resolved,
          .jumps = plan_.command.jumps,
          .proxied = plan_.command.proxied,
          .reached = HostsReached(err_->text(), plan_.command.jumps.size(), child_->pid()),
          .words = WithoutFirstLines(err_->text()),
          .logged_in = logged_in_,
          .too_slow = too_slow_};
}

absl::Status OpenSshMaster::why() const {
  if (alive()) return absl::OkStatus();
  if (leaving_) return Error(Reason::k_BACKEND_UNREACHABLE, "hermesd has closed the connection");
  return Explain(Failure());
}

bool OpenSshMaster::one_at_a_time() const { return MixesPrograms(ServerVersion(err_->text())); }

void OpenSshMaster::Leave() {
  if (leaving_) return;
  leaving_ = true;
  unlink(plan_.control_path.c_str());
  child_->SignalGroup(SIGTERM);
  Changed();
  Detach(loop_, EndInBackground(shared_from_this()));
}

Task<void> OpenSshMaster::EndInBackground(Self self) {
  co_await AwaitLastWords(self);
  self->probe_->Close();
}

}  // namespace hermes
