#include <algorithm>
#include <utility>

#include "daemon/core/session.h"
#include "daemon/core/session_names.h"
#include "daemon/core/stdin_file.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kStdinPiece = 64 << 10;

}  // namespace

absl::Status Session::Admit(const StartCommand& request) const {
  if (info_.state != SessionState::kReady) return NotReady();
  RETURN_IF_ERROR(CheckIncarnation(request.expected_incarnation));
  if (running() >= deps_.max_commands_per_session) {
    return Error(Reason::k_QUOTA_COMMANDS,
                 "session '" + info_.id + "' runs as many commands as it may",
                 {{"limit", std::to_string(deps_.max_commands_per_session)},
                  {"setting", "limits.max_commands_per_session"}});
  }
  return deps_.admit_command(request.uid);
}

absl::Status Session::CheckIncarnation(const std::string& expected) const {
  if (expected.empty() || expected == info_.incarnation) return absl::OkStatus();
  return Error(Reason::k_INCARNATION_CHANGED, "the sandbox is another one than expected",
               {{"session", info_.id}, {"incarnation", info_.incarnation}});
}

CommandRun::Deps Session::RunDeps() { return {deps_.loop, deps_.clock, deps_.store, deps_.stats}; }

OutputLog::Options Session::LogOptions(const CommandInfo& info) const {
  return {.path_prefix = SpoolPrefix(info),
          .tag = info.run_id,
          .limit_bytes = info.output.limit_bytes,
          .drop_middle = info.output.overflow == Overflow::kDropMiddle};
}

std::string Session::SpoolPrefix(const CommandInfo& info) const {
  return SpoolPath(deps_.spool_dir, info_.id + "/" + info.id);
}

std::unique_ptr<OutputLog> Session::NewLog(const CommandInfo& info) {
  return std::make_unique<OutputLog>(deps_.loop, LogOptions(info));
}

Task<absl::StatusOr<Session::StartResult>> Session::Start(StartCommand request) {
  std::shared_ptr<Session> self = shared_from_this();
  co_await WaitOpened();
  NoteActive();
  auto known = run_ids_.find(request.spec.run_id);
  if (known != run_ids_.end()) {
    std::shared_ptr<CommandRun> run = runs_.at(known->second);
    if (run->info().request_digest != request.digest) co_return ReusedError(request.spec.run_id);
    co_return StartResult(std::move(run), true);
  }
  if (!live()) {
    // A retry may still ask for what ran before the session ended.
    absl::StatusOr<std::optional<CommandInfo>> earlier =
        co_await deps_.store.FindRun(request.spec.run_id);
    if (earlier.ok() && earlier->has_value()) {
      co_return co_await AttachToKnown(std::move(request), **std::move(earlier));
    }
  }
  CO_RETURN_IF_ERROR(Admit(request));
  const bool push = MustPush(request);
  CommandInfo info = NewCommandInfo(request);
  // A start that waits for files may come to nothing there; the retry needs another name for it.
  if (push) info.far_id = deps_.random.Uuid();
  auto run = std::make_shared<CommandRun>(RunDeps(), info, NewLog(info));
  // In the tables before the first await: a second request with this id attaches, it never starts
  // again.
  runs_[info.id] = run;
  run_ids_[info.run_id] = info.id;
  Track(run);
  absl::StatusOr<SessionStore::Accepted> accepted =
      co_await deps_.store.AcceptCommand(std::move(info));
  if (!accepted.ok()) co_return Withdraw(run, accepted.status());
  if (!accepted->fresh) {
    Drop(run);
    absl::StatusOr<StartResult> earlier =
        co_await AttachToKnown(std::move(request), std::move(accepted->existing));
    run->FailStart(Error(Reason::k_RECONNECTING, "this request id was started before: ask again"));
    co_return earlier;
  }
  if (request.stdin_data) {
    absl::Status kept = co_await KeepStdin(run.get(), std::move(*request.stdin_data));
    if (!kept.ok()) co_return co_await TakeBack(std::move(run), std::move(kept));
  }
  request.spec.run_id = run->info().FarId();
  if (push) {
    run->Prepare("syncing", std::make_shared<Wish>());
    tasks_.Spawn("files for " + run->info().id,
                 PushThenStart(std::move(self), std::move(request), run));
  } else {
    CO_RETURN_IF_ERROR(co_await HandOver(std::move(request), run));
  }
  co_return StartResult(std::move(run), false);
}

absl::Status Session::ReusedError(const std::string& run_id) {
  return Error(Reason::k_REQUEST_ID_REUSED,
               "request id " + run_id + " was used before with another request",
               {{"field", "request_id"}, {"request_id", run_id}});
}

absl::Status Session::ExpiredError(const std::string& id) const {
  return Error(Reason::k_RESULT_EXPIRED, "the result of command '" + id + "' is no longer kept",
               {{"name", CommandName(info_.id, id)}});
}

CommandInfo Session::NewCommandInfo(const StartCommand& request) {
  CommandInfo info;
  info.session_id = info_.id;
  info.id = "c" + deps_.random.Hex(6);
  info.run_id = request.spec.run_id;
  info.client_request_id = request.client_request_id;
  info.request_digest = request.digest;
  info.create_time = deps_.clock.NowWall();
  info.labels = request.labels;
  info.incarnation = info_.incarnation;
  info.summary = request.summary;
  info.creator_uid = request.uid;
  info.has_pty = request.spec.pty.has_value();
  info.output = request.output;
  info.kill_grace = request.spec.kill_grace;
  info.on_disconnect = request.on_disconnect;
  return info;
}

void Session::Drop(const std::shared_ptr<CommandRun>& run) {
  run_ids_.erase(run->info().run_id);
  runs_.erase(run->info().id);
}

absl::Status Session::Withdraw(const std::shared_ptr<CommandRun>& run, absl::Status why) {
  Drop(run);
  run->FailStart(why);
  return why;
}

// Certainly not started: the id is free for the retry. If even that cannot be stored, the command
// stays, and ends truthfully as soon as it can.
Task<absl::Status> Session::TakeBack(std::shared_ptr<CommandRun> run, absl::Status why) {
  absl::Status deleted = co_await deps_.store.DeleteCommand(info_.id, run->info().id);
  if (deleted.ok()) co_return Withdraw(run, std::move(why));
  tasks_.Spawn("end of a start " + run->info().id, EndUnstarted(shared_from_this(), run));
  co_return why;
}

Task<void> Session::EndUnstarted(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run) {
  co_await run->EndWith({.state = CommandState::kNeverStarted, .cause = Cause::kLaunchFailed});
  Drop(run);
}

// The place is open, and commands may start in it.
Task<absl::Status> Session::Reach() {
  CO_RETURN_IF_ERROR(co_await EnsureEngine());
  if (abandoned_) co_return Error(Reason::k_DRAINING, "the daemon is shutting down");
  co_return info_.state == SessionState::kReady ? absl::OkStatus() : NotReady();
}

// Reaching the place may show that it is another one. The row names the one that `run` is sent to:
// it is what tells after a crash whether the command can have run.
Task<absl::Status> Session::ReachFor(std::shared_ptr<CommandRun> run,
                                     std::string expected_incarnation) {
  while (true) {
    CO_RETURN_IF_ERROR(co_await Reach());
    CO_RETURN_IF_ERROR(CheckIncarnation(expected_incarnation));
    if (run->info().incarnation == info_.incarnation) co_return absl::OkStatus();
    if (!co_await run->SetIncarnation(info_.incarnation)) {
      co_return Error(Reason::k_DRAINING, "the daemon is shutting down");
    }
  }
}

Task<absl::Status> Session::HandOver(StartCommand request, std::shared_ptr<CommandRun> run) {
  absl::Status status = co_await ReachFor(run, request.expected_incarnation);
  if (!status.ok()) co_return co_await TakeBack(std::move(run), std::move(status));
  absl::StatusOr<std::unique_ptr<Channel>> channel =
      co_await engine_->Start(std::move(request.spec));
  if (!channel.ok()) co_return co_await TakeBack(std::move(run), channel.status());
  TakeOver(std::move(run), *std::move(channel), request.stdin_data.has_value());
  co_return absl::OkStatus();
}

void Session::TakeOver(std::shared_ptr<CommandRun> run, std::unique_ptr<Channel> channel,
                       bool feed) {
  ++deps_.stats.commands_started;
  if (sync_ != nullptr) run->set_warning(sync_->Conflicts());
  tasks_.Spawn("command " + run->info().id,
               RunCommand(shared_from_this(), run, std::move(channel)));
  if (feed) tasks_.Spawn("stdin " + run->info().id, FeedStdin(shared_from_this(), run));
  deps_.on_change(*this);
}

// `self` keeps the session while its command runs.
Task<void> Session::RunCommand(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run,
                               std::unique_ptr<Channel> channel) {
  co_await run->Pump(std::move(channel));
  if (!run->came_to_nothing().ok()) {
    (void)co_await TakeBack(run, run->came_to_nothing());
    co_return;
  }
  if (!run->drained()) co_return;  // let go of, for a later hermesd
  seen_runs_[run->info().id] = run;
  Drop(run);
  std::erase_if(seen_runs_, [](const auto& seen) { return seen.second.expired(); });
}

void Session::Track(std::shared_ptr<CommandRun> run) {
  if (run->ended()) return;  // taken up for its residual children only
  ++deps_.stats.running_commands;
  ++deps_.stats.running_of_uid[run->info().creator_uid];
  tasks_.Spawn("end of " + run->info().id, AfterEnd(shared_from_this(), run));
}

void Session::Untrack(const CommandRun& run) {
  --deps_.stats.running_commands;
  auto of_uid = deps_.stats.running_of_uid.find(run.info().creator_uid);
  if (--of_uid->second == 0) deps_.stats.running_of_uid.erase(of_uid);
}

// What the session learns from a command's end.
Task<void> Session::AfterEnd(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run) {
  const auto going_on = [&run] { return !run->ended() && run->start_error().ok(); };
  while (going_on() && !abandoned_) co_await run->changed().Wait();
  if (going_on()) co_return;
  StdinFile::Remove(SpoolPrefix(run->info()));
  Untrack(*run);
  if (!run->ended()) co_return;
  NoteActive();
  const Outcome& outcome = *run->info().outcome;
  ++deps_.stats.commands_finished;
  if (outcome.state == CommandState::kKilled) ++deps_.stats.commands_killed;
  if (outcome.state == CommandState::kUnknown) ++deps_.stats.commands_unknown;
  bool moved = !outcome.cwd.empty() && outcome.cwd != info_.cwd;
  if (moved) info_.cwd = outcome.cwd;
  if (outcome.generation > info_.generation) {
    info_.generation = outcome.generation;
    moved = true;
  }
  if (moved && live()) SaveLater();
  deps_.on_change(*this);
}

Task<absl::Status> Session::KeepStdin(const CommandRun* run, std::string data) {
  deps_.stats.stdin_bytes_kept += data.size();
  StdinFile file(SpoolPrefix(run->info()), run->info().run_id);
  co_return co_await file.Keep(deps_.loop, std::move(data));
}

// All of it again for a command of an earlier hermesd: what was taken is skipped over there.
Task<void> Session::FeedStdin(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run) {
  StdinFile file(SpoolPrefix(run->info()), run->info().run_id);
  absl::Status fed = file.Open();
  if (absl::IsNotFound(fed)) co_return;
  uint64_t at = 0;
  for (bool eof = false; fed.ok() && !eof;) {
    absl::StatusOr<std::string> piece = file.Read(at, kStdinPiece);
    fed = piece.status();
    if (!fed.ok()) break;
    eof = piece->empty();
    const uint64_t end = at + piece->size();
    fed = co_await run->WriteStdin(at, *std::move(piece), eof);
    at = std::max(end, run->stdin_accepted());
  }
  if (fed.ok()) co_await run->StdinTaken();
  if (abandoned_ || run->ended()) co_return;  // a later hermesd goes on, or nobody
  // A command that closes its stdin early is no error of anybody's.
  if (!fed.ok() && ReasonOf(fed) != Reason::k_STDIN_CLOSED) {
    LogError("stdin is not sent: " + std::string(fed.message()),
             {info_.id, run->info().id, run->info().run_id});
    co_return;
  }
  StdinFile::Remove(SpoolPrefix(run->info()));
}

Task<absl::StatusOr<Session::StartResult>> Session::AttachToKnown(StartCommand request,
                                                                  CommandInfo known) {
  if (known.session_id != info_.id || known.request_digest != request.digest) {
    co_return ReusedError(request.spec.run_id);
  }
  absl::StatusOr<std::shared_ptr<CommandRun>> run = co_await Find(known.id);
  if (run.ok()) co_return StartResult(*std::move(run), true);
  // It was of an earlier session of this name.
  if (ReasonOf(run.status()) == Reason::k_COMMAND_UNKNOWN) co_return ExpiredError(known.id);
  co_return run.status();
}

Task<absl::StatusOr<std::shared_ptr<CommandRun>>> Session::Find(std::string command_id) {
  std::shared_ptr<Session> self = shared_from_this();
  if (auto it = runs_.find(command_id); it != runs_.end()) co_return it->second;
  if (auto it = seen_runs_.find(command_id); it != seen_runs_.end()) {
    if (std::shared_ptr<CommandRun> run = it->second.lock()) co_return run;
  }
  absl::StatusOr<std::optional<StoredCommand>> row =
      co_await deps_.store.GetCommand(info_.id, command_id);
  if (!row.ok()) co_return row.status();
  if (!row->has_value()) {
    co_return Error(Reason::k_COMMAND_UNKNOWN,
                    "there is no command '" + command_id + "' in session '" + info_.id + "'",
                    {{"name", CommandName(info_.id, command_id)}});
  }
  co_return Restored(**std::move(row));
}

absl::StatusOr<std::shared_ptr<CommandRun>> Session::Restored(StoredCommand row) {
  std::string id = row.info.id;
  if (row.output_expired) return ExpiredError(id);
  bool settled = row.info.outcome.has_value() && row.forgotten;
  absl::StatusOr<std::unique_ptr<OutputLog>> log =
      OutputLog::Restore(deps_.loop, LogOptions(row.info), std::move(row.output));
  if (!log.ok()) return log.status();
  auto run = std::make_shared<CommandRun>(RunDeps(), std::move(row.info), *std::move(log));
  if (settled) {
    run->log().Finish();
    seen_runs_[id] = run;
  }
  return run;
}

}  // namespace hermes
