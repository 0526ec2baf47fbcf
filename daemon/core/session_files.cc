#include <utility>

#include "daemon/core/session.h"
#include "daemon/core/session_names.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {

// What is common to a push and the command that was sent behind it.
struct Session::Following {
  Following(Loop& loop, std::string incarnation)
      : expected_incarnation(std::move(incarnation)), changed(loop) {}
  const std::string expected_incarnation;
  bool begun = false;                  // the command was sent, or is about to be
  std::optional<absl::Status> pushed;  // how the push ended
  Event changed;

  static Task<absl::Status> Pushed(std::shared_ptr<Following> following) {
    while (!following->pushed) co_await following->changed.Wait();
    co_return *following->pushed;
  }
};

bool Session::MustPush(const StartCommand& request) {
  if (sync_ == nullptr || request.sync_before == SyncBefore::kSkip) return false;
  if (request.sync_before == SyncBefore::kForce || !sync_->Clean()) return true;
  bool changed = ClearCondition(kSyncStale);
  changed |= NoteConflicts();  // another session may have brought them back
  if (changed) SaveLater();
  return false;
}

Task<void> Session::PushThenStart(std::shared_ptr<Session> self, StartCommand request,
                                  std::shared_ptr<CommandRun> run) {
  auto following = std::make_shared<Following>(deps_.loop, request.expected_incarnation);
  const WishPtr wish = run->preparation();
  absl::Status pushed = co_await ReachFor(run, request.expected_incarnation);
  if (pushed.ok()) pushed = co_await PushFor(&request, run, wish, following);
  following->pushed = pushed;
  following->changed.NotifyAll();
  if (following->begun) co_return;
  run->Prepare("", nullptr);
  if (abandoned_) pushed = Error(Reason::k_DRAINING, "the daemon is shutting down");
  if (wish->withdrawn() && !abandoned_) {
    Outcome outcome{.state = CommandState::kNeverStarted, .cause = Cause::kCancelled};
    co_await run->EndWith(std::move(outcome));
    Drop(run);
  } else if (!pushed.ok()) {
    (void)co_await TakeBack(std::move(run), std::move(pushed));
  } else {
    (void)co_await HandOver(std::move(request), std::move(run));
  }
}

// OK: the command may start, on what is there. May send it behind the push already.
Task<absl::Status> Session::PushFor(StartCommand* request, std::shared_ptr<CommandRun> run,
                                    WishPtr wish, std::shared_ptr<Following> following) {
  const bool stale_is_fine = info_.sync.on_error == OnSyncError::kRunStale;
  SessionSync::Before before{
      .force = request->sync_before == SyncBefore::kForce, .wish = wish, .uid = request->uid};
  if (!stale_is_fine && engine_->runs_files()) {
    before.on_follow = [this, request, run, following](std::string first) {
      if (IsWithdrawn(run->preparation())) return;
      following->begun = true;
      run->Prepare("", nullptr);  // from now on a kill is the command's own
      request->spec.after = std::move(first);
      tasks_.Spawn("command behind its files " + run->info().id,
                   StartFollowing(shared_from_this(), std::move(*request), run, following));
    };
  }
  absl::Status pushed = co_await sync_->PushBefore(std::move(before));
  run->set_warning(sync_->Conflicts());
  co_await NoteSync();
  const bool gave_up = absl::IsCancelled(pushed) || abandoned_;
  co_return stale_is_fine && !gave_up ? absl::OkStatus() : pushed;
}

// The place starts it only after the push, so what the push tells of it comes first.
Task<void> Session::StartFollowing(std::shared_ptr<Session> self, StartCommand request,
                                   std::shared_ptr<CommandRun> run,
                                   std::shared_ptr<Following> following) {
  absl::StatusOr<std::unique_ptr<Channel>> channel =
      co_await StartIn(run, &request.spec, following->expected_incarnation);
  if (ReasonOf(channel.status()) == Reason::k_BAD_FIELD &&
      (co_await Following::Pushed(following)).ok()) {
    request.spec.after.clear();  // the push was over so soon that there is nothing to follow
    channel = co_await StartIn(run, &request.spec, following->expected_incarnation);
  }
  if (!channel.ok()) {
    absl::Status pushed = co_await Following::Pushed(following);
    (void)co_await TakeBack(run, pushed.ok() ? channel.status() : std::move(pushed));
    co_return;
  }
  auto spec = std::make_shared<CommandSpec>(std::move(request.spec));
  run->set_start_again(
      [this, run = run.get(), spec, following] { return StartAgain(run, spec, following); });
  TakeOver(std::move(run), *std::move(channel), request.stdin_data.has_value());
}

// The push that it followed did not do all at once: it failed, or took another turn.
Task<absl::StatusOr<std::unique_ptr<Channel>>> Session::StartAgain(
    CommandRun* run, std::shared_ptr<CommandSpec> spec, std::shared_ptr<Following> following) {
  CO_RETURN_IF_ERROR(co_await Following::Pushed(following));
  spec->after.clear();
  spec->run_id = deps_.random.Uuid();
  if (!co_await run->SetFarId(spec->run_id)) {
    co_return Error(Reason::k_DRAINING, "the daemon is shutting down");
  }
  co_return co_await StartIn(run->shared_from_this(), spec.get(), following->expected_incarnation);
}

// The place may have been replaced while files were sent.
Task<absl::StatusOr<std::unique_ptr<Channel>>> Session::StartIn(std::shared_ptr<CommandRun> run,
                                                                const CommandSpec* spec,
                                                                std::string incarnation) {
  CO_RETURN_IF_ERROR(co_await ReachFor(std::move(run), std::move(incarnation)));
  co_return co_await engine_->Start(*spec);
}

// A command that runs on other bytes than the host's is no error, and nobody should have to find
// out by its results.
bool Session::NoteConflicts() {
  std::string conflicts = sync_->Conflicts();
  if (conflicts.empty()) return ClearCondition(kSyncConflict);
  return SetCondition(kSyncConflict, kSyncConflict, std::move(conflicts));
}

// What the last sync says of the session.
Task<void> Session::NoteSync() {
  const absl::Status& pushed = sync_->last_push();
  const bool stale = !pushed.ok() && info_.sync.on_error == OnSyncError::kRunStale;
  bool changed = stale ? SetCondition(kSyncStale, ReasonName(pushed), std::string(pushed.message()))
                       : ClearCondition(kSyncStale);
  changed |= sync_->suspect() ? SetCondition(kSyncSuspect, "SYNC_FAILED", "the sandbox has lied")
                              : ClearCondition(kSyncSuspect);
  changed |= NoteConflicts();
  if (changed) (void)co_await Save();
}

Task<void> Session::NoteSync(const SyncInfo& ended) {
  const bool saved = ended.kind == SyncKind::kPull && ended.state == SyncState::kDone &&
                     ended.report.saved() && !sync_->suspect();
  if (saved && ClearCondition(kPullPending)) (void)co_await Save();
  co_await NoteSync();
}

Task<absl::StatusOr<std::shared_ptr<SyncJob>>> Session::Sync(StartSync request) {
  std::shared_ptr<Session> self = shared_from_this();
  co_await WaitOpened();
  NoteActive();
  if (sync_ == nullptr) {
    co_return Error(Reason::k_CAPABILITY_MISSING, "session '" + info_.id + "' has no mounts",
                    {{"session", info_.id}});
  }
  // The host may be put back also when the sandbox is gone.
  const bool host_only = request.kind == SyncKind::kRevert && !info_.place_key.empty() && !live();
  if (info_.state != SessionState::kReady && !host_only) co_return NotReady();
  absl::StatusOr<SessionSync::Accepted> accepted = co_await sync_->Accept(request);
  if (!accepted.ok()) co_return accepted.status();
  if (accepted->fresh) {
    tasks_.Spawn("sync " + accepted->job->info().id,
                 RunSync(std::move(self), accepted->job, std::move(request)));
  }
  co_return accepted->job;
}

Task<void> Session::RunSync(std::shared_ptr<Session> self, std::shared_ptr<SyncJob> job,
                            StartSync request) {
  absl::Status reached;
  if (live()) {
    reached = co_await ReachUnless(job->wish());
  } else if (engine_ == nullptr) {
    sync_->UsePlace(info_.place_key, nullptr);
  }
  co_await sync_->Run(job, std::move(request), std::move(reached));
  NoteActive();
  if (live()) {
    co_await NoteSync(job->info());
  } else {
    sync_->LetGo();
  }
}

// Opening the place may take long, and goes on for others when nobody waits for this any more.
Task<absl::Status> Session::ReachUnless(WishPtr wish) {
  if (engine_ != nullptr) co_return co_await Reach();
  auto reached = std::make_shared<std::optional<absl::Status>>();
  tasks_.Spawn("reach " + info_.id, ReachInto(shared_from_this(), reached));
  const Wish::Ear ear(wish, [this] { changed_.NotifyAll(); });
  while (!*reached && !wish->withdrawn()) co_await changed_.Wait();
  co_return wish->withdrawn() ? absl::CancelledError("nobody waits for it any more") : **reached;
}

Task<void> Session::ReachInto(std::shared_ptr<Session> self,
                              std::shared_ptr<std::optional<absl::Status>> reached) {
  *reached = co_await Reach();
  changed_.NotifyAll();
}

Task<absl::StatusOr<StoredSync>> Session::FindSync(std::string sync_id) {
  std::shared_ptr<Session> self = shared_from_this();
  if (sync_ != nullptr) co_return co_await sync_->Find(std::move(sync_id));
  co_return Error(Reason::k_SYNC_UNKNOWN, "session '" + info_.id + "' has no mounts",
                  {{"name", SyncName(info_.id, sync_id)}});
}

Task<absl::StatusOr<std::vector<SyncInfo>>> Session::ListSyncs(std::string before, size_t limit) {
  std::shared_ptr<Session> self = shared_from_this();
  if (sync_ == nullptr) co_return std::vector<SyncInfo>();
  co_return co_await sync_->List(std::move(before), limit);
}

}  // namespace hermes
