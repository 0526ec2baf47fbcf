#include "backends/runner/command.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "backends/runner/terminal.h"

namespace hermes::runner {
namespace {
using frames::Cause;
using frames::LaunchStage;

// After the shell's end, while somebody is still there: the command has ended when no byte came for
// kQuietUs, and at the latest after kLongestWaitUs.
constexpr int64_t kQuietUs = 5'000;
constexpr int64_t kLongestWaitUs = 50'000;

std::string_view ReasonOf(Cause cause) {
  if (cause == Cause::kRunTimeout) return "timeout";
  if (cause == Cause::kCancelled) return "cancelled";
  return "killed";
}
}  // namespace

Command::Command(const World& world, Session& session, uint32_t number, std::string run_id)
    : world_(world),
      session_(session),
      number_(number),
      run_id_(std::move(run_id)),
      out_(world.loop, *this, number, frames::Type::kOut),
      err_(world.loop, *this, number, frames::Type::kErr),
      stdin_(world.loop, *this),
      quiet_(world.loop, *this) {}

void Command::Start(const frames::Start& start, Link* link) {
  Accept(start, link);
  Launch(start);
}

void Command::Accept(const frames::Start& start, Link* link) {
  SetLink(link);
  attached_ = true;
  files_ = start.form == frames::Form::kFiles;
  if (files_) stdin_.window = frames::kFilesStdinWindow;
}

void Command::StartAfter(frames::Start start, std::string first, Link* link) {
  Accept(start, link);
  if (start.stdin_kind == frames::StdinKind::kOpen) stdin_.Expect();
  constexpr uint64_t kLongestMs = 1ULL << 40;
  int64_t deadline_us = static_cast<int64_t>(std::min(start.deadline_ms, kLongestMs)) * 1000;
  if (deadline_us != 0) quiet_.ArmIn(deadline_us);
  waiting_.reset(new Waiting{std::move(start), std::move(first), NowUs()});
}

void Command::FirstEnded(bool well) {
  if (!well) return NeverStart(Cause::kLaunchFailed);
  std::unique_ptr<Waiting> waiting = std::move(waiting_);
  quiet_.Cancel();
  uint64_t waited_ms = static_cast<uint64_t>(NowUs() - waiting->since_us) / 1000;
  uint64_t& deadline_ms = waiting->start.deadline_ms;
  if (deadline_ms != 0) deadline_ms = deadline_ms > waited_ms ? deadline_ms - waited_ms : 1;
  Launch(waiting->start);
}

void Command::NeverStart(Cause cause) {
  waiting_.reset();
  quiet_.Cancel();
  stdin_.Close();
  OnFailed({.stage = LaunchStage::kAfter, .error = 0}, cause);
}

void Command::Launch(const frames::Start& start) {
  if (auto shell = world_.warm.Take(start, session_)) return TakeOver(std::move(shell));
  prepared_ = Prepare(start, world_.sessions, session_, world_.place);
  is_terminal_ = start.pty != 0;
  if (prepared_.failure.stage != LaunchStage::kNone) return OnFailed(prepared_.failure);
  supervised_.reset(new Supervised(world_.loop, world_.supervisors, *this));
  bool started = supervised_->Start(prepared_.launch);
  int error = errno;
  for (Fd& fd : prepared_.theirs) fd.Reset();
  prepared_.launch = {};
  if (!started) return OnFailed({.stage = LaunchStage::kResources, .error = error});
  if (prepared_.in.valid()) {
    int eof_byte = is_terminal_ ? EofByte(prepared_.in.get()) : -1;
    stdin_.Open(std::move(prepared_.in), eof_byte);
    if (is_terminal_ && start.stdin_kind == frames::StdinKind::kNull) stdin_.SetEnd(0);
  }
}

// From here on it is as if it had been started just now.
void Command::TakeOver(std::unique_ptr<WarmShell> shell) {
  prepared_ = std::move(shell->prepared);
  supervised_ = std::move(shell->supervised);
  supervised_->SetOwner(*this);
  if (prepared_.in.valid()) stdin_.Open(std::move(prepared_.in), -1);
  if (shell->pid != 0) OnLaunched(shell->pid);
}

void Command::OnNotice(const Notice& notice) {
  switch (notice.kind) {
    case Notice::kLaunched:
      return OnLaunched(notice.pid);
    case Notice::kFailed:
      return OnFailed({.stage = notice.stage, .error = notice.error});
    case Notice::kEnded:
      return OnEnded(notice);
    case Notice::kKilled:
      return AnswerKill(Unpack(notice.tree));
    case Notice::kEmpty:
      tree_empty_ = true;
      AnswerKill(NothingLeft());
      return CheckEnd();
  }
}

void Command::OnLaunched(pid_t pid) {
  pid_ = pid;
  SendStarted(attached_again_);
  if (attached_) out_.SendFrom(0);
  if (attached_) err_.SendFrom(0);
  out_.Open(std::move(prepared_.out));
  if (prepared_.err.valid()) err_.Open(std::move(prepared_.err));
}

void Command::OnFailed(LaunchFailure failure, Cause cause) {
  prepared_.out.Reset();
  prepared_.err.Reset();
  exit_.cause = cause;
  exit_.stage = failure.stage;
  exit_.launch_errno = failure.error;
  exit_.value = failure.stage == LaunchStage::kNotFound ? 127 : 126;
  exit_.state_reason = "not started";
  tree_empty_ = true;
  AnswerKill(NothingLeft());
  ShellGone();
}

void Command::OnEnded(const Notice& notice) {
  exit_.cause = notice.cause;
  exit_.signalled = WIFSIGNALED(notice.status) ? 1 : 0;
  exit_.value = exit_.signalled ? WTERMSIG(notice.status) : WEXITSTATUS(notice.status);
  exit_.user_us = notice.user_us;
  exit_.system_us = notice.system_us;
  exit_.max_rss_kb = notice.max_rss_kb;
  exit_.has_tree = notice.has_tree;
  if (notice.has_tree != 0) exit_.tree = Unpack(notice.tree);
  tree_empty_ = notice.empty != 0;
  // A kill that was ordered too late to be done there.
  if (tree_empty_) AnswerKill(NothingLeft());
  CommitState(exit_.signalled != 0 || notice.cause != Cause::kNatural);
  ShellGone();
}

void Command::CommitState(bool killed) {
  Committed committed{.done = false, .reason = std::string(ReasonOf(exit_.cause))};
  if (!killed)
    committed = Commit(world_.sessions, session_, world_.place.shell, prepared_.capture);
  else if (prepared_.capture.path.empty())
    committed.reason = prepared_.capture.why_not;
  exit_.state_committed = committed.done ? 1 : 0;
  exit_.state_reason = committed.reason;
}

void Command::ShellGone() {
  capture_path_ = prepared_.capture.path;
  prepared_.capture = {};
  RemoveCapture();
  Shared<shell::State> state = world_.sessions.Current(session_);
  if (state && !files_) exit_.cwd = state->cwd;
  exit_.generation = session_.generation;
  prepared_.theirs[0].Reset();
  shell_gone_ = true;
  shell_gone_us_ = last_output_us_ = NowUs();
  out_due_ = out_.end() + out_.Pending();
  err_due_ = err_.end() + err_.Pending();
  out_.Read();
  err_.Read();
  CheckEnd();
}

void Command::RemoveCapture() {
  if (!capture_path_.empty()) unlink(capture_path_.c_str());
}

void Command::OnOutput(Output&) {
  if (!shell_gone_) return;
  last_output_us_ = NowUs();
  CheckEnd();
}

void Command::CheckEnd() {
  if (!shell_gone_) return;
  if (tree_empty_) {
    out_.TakeRest();
    err_.TakeRest();
  }
  if (!ended_) {
    bool dry = (out_.eof() || out_.end() >= out_due_) && (err_.eof() || err_.end() >= err_due_);
    int64_t until_us = std::min(last_output_us_ + kQuietUs, shell_gone_us_ + kLongestWaitUs);
    bool all_gone = EndOfOutput() && tree_empty_;
    if (!all_gone && (!dry || NowUs() < until_us)) {
      if (dry) quiet_.ArmAt(until_us);
      return;  // not dry: the next bytes bring us here again
    }
    quiet_.Cancel();
    ended_ = true;
    exit_.out = out_.end();
    exit_.err = err_.end();
    exit_.residual = all_gone ? 0 : 1;
    world_.host.OnEnded(*this);
  }
  CheckDrained();
  SendEnd();
}

void Command::CheckDrained() {
  if (drained_ || !ended_ || !tree_empty_ || !EndOfOutput()) return;
  drained_ = true;
  RemoveCapture();  // a child that was killed between fork and exec may have run the hook too
  stdin_.Close();
  world_.host.OnDrained(*this);
}

void Command::SendEnd() {
  if (link_ == nullptr || !attached_ || !ended_) return;
  // What is in a spool comes after it: who acknowledges nothing more must hear of the end, too.
  if (!end_sent_ && out_.sent() >= std::min(exit_.out, out_.ring().end()) &&
      err_.sent() >= std::min(exit_.err, err_.ring().end())) {
    frames::Encode(link_->control(), number_, exit_);
    end_sent_ = true;
  }
  bool all_sent = out_.sent() == out_.end() && err_.sent() == err_.end();
  if (!end_sent_ || drained_sent_ || !drained_ || !all_sent) return;
  frames::Writer writer(link_->control());
  writer.Begin(frames::Type::kDrained, number_);
  writer.End();
  drained_sent_ = true;
}

void Command::SendEndNow() {
  if (link_ == nullptr || !attached_ || end_sent_ || !shell_gone_) return;
  exit_.out = out_.end();
  exit_.err = err_.end();
  frames::Encode(link_->control(), number_, exit_);
  end_sent_ = true;
}

void Command::AnswerKill(const frames::TreeReport& report) {
  if (!kill_pending_) return;
  kill_pending_ = false;
  world_.host.OnKilled(*this, report);
}

void Command::OrphansGone(const frames::TreeReport& report) {
  tree_empty_ = true;
  AnswerKill(report);
  if (shell_gone_) return CheckEnd();
  exit_.cause = Cause::kSupervisorDied;
  exit_.signalled = 1;
  exit_.value = SIGKILL;
  exit_.has_tree = 1;
  exit_.tree = report;
  exit_.state_reason = "killed";
  if (pid_ == 0) OnLaunched(0);
  ShellGone();
}

}  // namespace hermes::runner
