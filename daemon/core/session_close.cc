#include <algorithm>
#include <chrono>
#include <utility>

#include "daemon/core/session.h"
#include "daemon/core/session_names.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// Inside a closing session nothing is waited for longer than this after its kills.
constexpr Duration kDrainWait = std::chrono::seconds(5);

void Tell(const std::shared_ptr<Session::CloseProgress>& progress, Session::CloseEvent event) {
  if (*progress) (*progress)(std::move(event));
}

// True: the next attempt may go well, and be it in a moment.
bool Passes(const absl::Status& status) {
  const std::optional<Reason> reason = ReasonOf(status);
  return reason == Reason::k_RECONNECTING || reason == Reason::k_BACKEND_RATE_LIMIT ||
         reason == Reason::k_DRAINING || reason == Reason::k_DISK_FULL;
}

// With the ways out that the words alone do not show.
std::string WhatIsLeft(const sync::SyncReport& pull) {
  std::string left;
  if (pull.unsaved > 0) left = "files that the host does not have: " + std::to_string(pull.unsaved);
  if (pull.counts.held == 0) return left;
  return left + (left.empty() ? "" : "; ") +
         "deletions that are held back: " + std::to_string(pull.counts.held) +
         " (sync-back --approve-deletes takes them over, cleanup --discard gives them up)";
}

absl::Status Draining() {
  return Error(Reason::k_DRAINING, "the cleanup goes on when the daemon is back");
}

}  // namespace

Task<absl::Status> Session::Close(CloseRequest request, CloseProgress progress) {
  std::shared_ptr<Session> self = shared_from_this();
  if (closing_ && request.discard && !std::exchange(info_.discard, true)) {
    changed_.NotifyAll();
    SaveLater();
    // Nobody waits for what is pulled any more.
    if (sync_ != nullptr) co_await sync_->Quiesce();
  }
  while (closing_) co_await changed_.Wait();
  if (!live()) co_return absl::OkStatus();
  closing_ = true;
  // A place that nobody has reached yet is not reached only to be left.
  if (info_.state == SessionState::kOpening) first_place_->Withdraw();
  absl::Status status =
      co_await ReleaseAndClose(request, std::make_shared<CloseProgress>(std::move(progress)));
  closing_ = false;
  changed_.NotifyAll();
  deps_.on_change(*this);
  co_return status;
}

// What the store refuses to know is not so: the session is what it was, and the caller may ask
// again.
Task<absl::Status> Session::ReleaseAndClose(CloseRequest request, ProgressPtr progress) {
  const SessionState before = info_.state;
  const bool discard_before = info_.discard;
  info_.discard = info_.discard || request.discard;
  absl::Status status = co_await SetState(SessionState::kClosing);
  if (!status.ok()) {
    info_.discard = discard_before;
    // Not back to OPENING: nobody opens it any more.
    if (before == SessionState::kReady) info_.state = before;
    co_return status;
  }
  if (!released_) status = co_await Release(request, progress);
  if (ReasonOf(status) == Reason::k_PULL_PENDING) {
    SetCondition(kPullPending, ReasonName(status), std::string(status.message()));
    (void)co_await SetState(SessionState::kReady);
    co_return status;
  }
  if (!status.ok()) co_return status;
  released_ = true;
  NoteActive();  // what is kept of it is kept from now on
  status = co_await SetState(SessionState::kClosed);
  if (!status.ok()) info_.state = SessionState::kClosing;
  if (status.ok() && sync_ != nullptr) sync_->LetGo();
  co_return status;
}

Task<absl::Status> Session::Release(CloseRequest request, ProgressPtr progress) {
  while (engine_opening_) co_await changed_.Wait();
  if (abandoned_) co_return Draining();
  const bool never_there = engine_ == nullptr && first_place_->withdrawn();
  if (never_there && runs_.empty()) co_return absl::OkStatus();
  absl::Status status = co_await EnsureEngine();
  if (status.ok()) status = co_await ReleasePlace(request, std::move(progress));
  if (abandoned_ && !status.ok()) co_return Draining();
  if (status.ok() || !info_.discard || Passes(status)) co_return status;
  co_await LeavePlace(std::move(status));
  co_return absl::OkStatus();
}

Task<absl::Status> Session::ReleasePlace(CloseRequest request, ProgressPtr progress) {
  const std::vector<std::shared_ptr<CommandRun>> runs = this->runs();
  if (!runs.empty()) Tell(progress, ClosePhase{"killing"});
  co_await KillAll(runs, request.grace, progress);
  if (abandoned_) co_return Draining();
  // After the kills: nothing changes the files any more.
  if (sync_ != nullptr && !engine_closed_) {
    absl::Status pulled = co_await PullBeforeRelease(request, progress);
    const bool given_up = info_.discard && ReasonOf(pulled) == Reason::k_PULL_PENDING;
    if (!pulled.ok() && !given_up) co_return pulled;
  }
  Tell(progress, ClosePhase{"releasing"});
  if (!engine_closed_) {
    absl::StatusOr<TreeReport> rest = co_await engine_->Close(request.grace);
    if (!rest.ok()) co_return rest.status();
    engine_closed_ = true;
    deps_.stats.kill_survivors += rest->survivors;
  }
  SteadyTime until = deps_.clock.Now() + kDrainWait;
  auto alarm = deps_.clock.At(until, [runs] {
    for (const auto& run : runs) run->changed().NotifyAll();
  });
  for (const auto& run : runs) {
    while (!run->drained() && deps_.clock.Now() < until) co_await run->changed().Wait();
    if (!run->drained()) run->Abandon();
  }
  co_return co_await sandbox_->Close(true);
}

struct Session::Killing {
  Duration grace{0};
  ProgressPtr progress;
  size_t left = 0;
};

// A kill waits for a place that is away. Whoever gives up what is there need not: closing the
// engine kills what runs there, or shows that it cannot be reached.
Task<void> Session::KillAll(std::vector<std::shared_ptr<CommandRun>> runs, Duration grace,
                            ProgressPtr progress) {
  auto killing = std::make_shared<Killing>(Killing{grace, std::move(progress), runs.size()});
  for (const auto& run : runs) tasks_.Spawn("kill " + run->info().id, KillOne(run, killing));
  while (killing->left > 0 && (reachable_ || !info_.discard)) co_await changed_.Wait();
}

Task<void> Session::KillOne(std::shared_ptr<CommandRun> run, std::shared_ptr<Killing> killing) {
  absl::StatusOr<TreeReport> report = co_await run->Kill(killing->grace, Cause::kCancelled);
  if (report.ok()) Tell(killing->progress, KilledCommand{run->info().id, *std::move(report)});
  --killing->left;
  changed_.NotifyAll();
}

// Nothing of it comes back, and nobody asks for it any more.
Task<void> Session::LeavePlace(absl::Status why) {
  const std::string message =
      "the place could not be reached: what still runs there ends with its runner's lease, if it "
      "has "
      "one; " +
      std::string(why.message());
  LogWarning("session is closed, " + message, {.session = info_.id});
  SetCondition(kLeftBehind, ReasonName(why), message);
  const std::map<std::string, std::shared_ptr<CommandRun>> runs = runs_;
  for (const auto& [id, run] : runs) {
    co_await run->EndWith({.state = CommandState::kUnknown, .cause = Cause::kSandboxLost});
    run->Abandon();
    Drop(run);
  }
  changed_.NotifyAll();
  co_await tasks_.Join();
  if (sync_ != nullptr) sync_->LetGo();
  engine_.reset();  // it would try to come back there for as long as it lives
  sandbox_.reset();
}

Task<absl::Status> Session::PullBeforeRelease(CloseRequest close, ProgressPtr progress) {
  co_await sync_->Quiesce();
  if (abandoned_) co_return Draining();
  if (info_.discard || !sync_->WritesHost()) co_return absl::OkStatus();
  absl::StatusOr<TreeReport> leftovers = co_await engine_->EndLeftovers(close.grace);
  if (abandoned_) co_return Draining();
  if (!leftovers.ok()) co_return PullPending(std::string(leftovers.status().message()));
  if (sync_->suspect()) co_return PullPending("the sandbox has lied: salvage, or discard");
  Tell(progress, ClosePhase{"syncing"});
  StartSync request{.session_id = info_.id, .kind = SyncKind::kPull, .uid = close.uid};
  absl::StatusOr<SessionSync::Accepted> accepted = co_await sync_->Accept(request);
  if (!accepted.ok()) co_return accepted.status();
  // Who discards withdraws what runs; here it would not run yet.
  absl::Status wanted = info_.discard ? absl::CancelledError("discarded") : absl::OkStatus();
  co_await sync_->Run(accepted->job, std::move(request), std::move(wanted));
  const SyncInfo& pull = accepted->job->info();
  co_await NoteSync(pull);
  Tell(progress, pull);
  if (abandoned_) co_return Draining();
  if (sync_->suspect()) co_return PullPending("the sandbox has lied: salvage, or discard");
  if (pull.state != SyncState::kDone) co_return PullPending(pull.reason + ": " + pull.message);
  if (pull.report.saved()) co_return absl::OkStatus();
  co_return PullPending(WhatIsLeft(pull.report));
}

absl::Status Session::PullPending(const std::string& why) const {
  return Error(Reason::k_PULL_PENDING,
               "changes in session '" + info_.id + "' are not saved on the host: " + why,
               {{"session", info_.id}});
}

}  // namespace hermes
