#include "daemon/core/session.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "daemon/core/session_names.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr char kSecretNeeded[] = "SECRET_NEEDED";
constexpr size_t kStdinPiece = 64 << 10;
// Inside a closing session nothing is waited for longer than this after its kills.
constexpr Duration kDrainWait = std::chrono::seconds(5);

absl::Status NotReady(const SessionInfo& info) {
  std::string state(NameOf(info.state));
  return Error(Reason::k_SESSION_NOT_READY, "session '" + info.id + "' is " + state,
               {{"session", info.id}, {"state", state}});
}

}  // namespace

Session::Session(Deps deps, SessionInfo info)
    : deps_(deps),
      info_(std::move(info)),
      changed_(deps.loop),
      last_active_(deps.clock.Now()),
      tasks_(deps.loop) {}

Session::~Session() = default;

bool Session::live() const {
  return info_.state == SessionState::kOpening || info_.state == SessionState::kReady ||
         info_.state == SessionState::kDegraded || info_.state == SessionState::kClosing;
}

std::string_view Session::phase() const {
  return engine_ == nullptr || !reachable_ ? "connecting" : "launching";
}

size_t Session::running() const {
  return static_cast<size_t>(std::count_if(runs_.begin(), runs_.end(),
                                           [](const auto& run) { return !run.second->ended(); }));
}

int Session::readers() const {
  int readers = 0;
  for (const auto& [id, run] : runs_) readers += run->readers();
  for (const auto& [id, weak] : seen_runs_) {
    if (std::shared_ptr<CommandRun> run = weak.lock()) readers += run->readers();
  }
  return readers;
}

SessionInfo Session::Shown() const {
  SessionInfo shown = info_;
  shown.running_commands = static_cast<uint32_t>(running());
  if (shown.state == SessionState::kReady && !reachable_) shown.state = SessionState::kDegraded;
  return shown;
}

// Store first, then the eyes of others.
Task<absl::Status> Session::Save() {
  ++info_.version;
  absl::Status status = co_await deps_.store.PutSession(info_);
  if (!status.ok())
    LogError("session not stored: " + std::string(status.message()), {.session = info_.id});
  changed_.NotifyAll();
  deps_.on_change(*this);
  co_return status;
}

Task<absl::Status> Session::SetState(SessionState state) {
  info_.state = state;
  co_return co_await Save();
}

Task<void> Session::Open(std::string sudo_password) {
  std::shared_ptr<Session> self = shared_from_this();
  sudo_password_ = std::move(sudo_password);
  absl::Status status = co_await EnsureEngine();
  if (info_.state != SessionState::kOpening) co_return;  // closed meanwhile
  if (!status.ok()) {
    Condition failed{
        .type = "FAILED", .reason = ReasonName(status), .message = std::string(status.message())};
    failed.since = deps_.clock.NowWall();
    info_.conditions.push_back(std::move(failed));
    open_error_ = status;
  }
  (void)co_await SetState(status.ok() ? SessionState::kReady : SessionState::kFailed);
}

Task<void> Session::WaitOpened() {
  std::shared_ptr<Session> self = shared_from_this();
  while (info_.state == SessionState::kOpening && !abandoned_) co_await changed_.Wait();
}

// After a restart the place is taken up again only when it is needed: ten thousand idle sessions
// cost nothing.
Task<absl::Status> Session::EnsureEngine() {
  while (engine_opening_) co_await changed_.Wait();
  if (engine_ != nullptr) co_return absl::OkStatus();
  engine_opening_ = true;
  absl::Status status = co_await OpenEngine();
  engine_opening_ = false;
  changed_.NotifyAll();
  co_return status;
}

Task<absl::Status> Session::OpenEngine() {
  std::weak_ptr<Session> weak = weak_from_this();
  IncarnationChanged replaced = [weak](std::string incarnation, uint64_t generation) {
    if (std::shared_ptr<Session> self = weak.lock())
      self->NoteIncarnation(std::move(incarnation), generation);
  };
  EngineFactory::Request wanted{.backend = info_.backend,
                                .session_id = info_.id,
                                .handle = info_.sandbox_handle,
                                .ssh = info_.ssh,
                                .runner = info_.runner,
                                .engine = info_.engine,
                                .wish = first_place_};
  wanted.changed = std::move(replaced);
  wanted.reachable = [weak](bool reachable) {
    if (std::shared_ptr<Session> self = weak.lock()) self->NoteReachable(reachable);
  };
  absl::StatusOr<OpenPlace> place = co_await deps_.engines.Open(std::move(wanted));
  if (!place.ok()) co_return place.status();
  SessionSpec spec;
  spec.session_id = info_.id;
  spec.cwd = info_.first_cwd;
  spec.env = info_.first_env;
  spec.sudo_password = sudo_password_;
  spec.resume = !info_.sandbox_handle.empty();
  spec.live_runs.emplace();
  for (const auto& [run_id, id] : run_ids_) spec.live_runs->insert(run_id);
  absl::StatusOr<SessionFacts> facts = co_await place->engine->Open(std::move(spec));
  if (!facts.ok()) {
    // What a first opening made there is nobody's.
    if (info_.sandbox_handle.empty()) (void)co_await place->sandbox->Close(true);
    co_return facts.status();
  }
  sandbox_ = std::move(place->sandbox);
  engine_ = std::move(place->engine);
  info_.sandbox_handle = sandbox_->handle();
  info_.place = sandbox_->description();
  info_.capabilities = engine_->capabilities();
  info_.engine = facts->engine;
  info_.engine_reason = facts->engine_reason;
  info_.cwd = facts->cwd;
  info_.generation = facts->generation;
  if (info_.incarnation != facts->incarnation) NoteLostSecret();
  info_.incarnation = facts->incarnation;
  reachable_ = true;
  co_return absl::OkStatus();
}

// A new runner knows no password, and after a restart neither do we.
void Session::NoteLostSecret() {
  if (!info_.has_secret || !sudo_password_.empty()) return;
  ClearCondition(kSecretNeeded);
  Condition needed{.type = kSecretNeeded,
                   .reason = kSecretNeeded,
                   .message = "the sudo password has to be given again"};
  needed.since = deps_.clock.NowWall();
  info_.conditions.push_back(std::move(needed));
}

void Session::ClearCondition(std::string_view type) {
  std::erase_if(info_.conditions,
                [type](const Condition& condition) { return condition.type == type; });
}

void Session::NoteReachable(bool reachable) {
  if (std::exchange(reachable_, reachable) == reachable) return;
  for (const auto& [id, run] : runs_) run->set_away(!reachable);
  changed_.NotifyAll();
  deps_.on_change(*this);
}

void Session::NoteIncarnation(std::string incarnation, uint64_t generation) {
  LogWarning("the place behind the session was replaced", {.session = info_.id});
  NoteLostSecret();
  info_.incarnation = std::move(incarnation);
  info_.generation = generation;
  SaveLater();
}

void Session::SaveLater() {
  if (save_pending_) return;
  save_pending_ = true;
  tasks_.Spawn("save session " + info_.id, SaveSoon(shared_from_this()));
}

Task<void> Session::SaveSoon(std::shared_ptr<Session> self) {
  save_pending_ = false;
  (void)co_await Save();
}

absl::Status Session::Admit(const StartCommand& request) const {
  if (info_.state != SessionState::kReady) return NotReady(info_);
  if (!request.expected_incarnation.empty() && request.expected_incarnation != info_.incarnation) {
    return Error(Reason::k_INCARNATION_CHANGED, "the sandbox is another one than expected",
                 {{"session", info_.id}, {"incarnation", info_.incarnation}});
  }
  if (running() >= deps_.max_commands_per_session) {
    return Error(Reason::k_QUOTA_COMMANDS,
                 "session '" + info_.id + "' runs as many commands as it may",
                 {{"limit", std::to_string(deps_.max_commands_per_session)},
                  {"setting", "limits.max_commands_per_session"}});
  }
  return deps_.admit_command(request.uid);
}

CommandRun::Deps Session::RunDeps() { return {deps_.loop, deps_.clock, deps_.store, deps_.stats}; }

OutputLog::Options Session::LogOptions(const CommandInfo& info) const {
  return {.path_prefix = SpoolPath(deps_.spool_dir, info_.id + "/" + info.id),
          .tag = info.run_id,
          .limit_bytes = info.output.limit_bytes,
          .drop_middle = info.output.overflow == Overflow::kDropMiddle};
}

std::unique_ptr<OutputLog> Session::NewLog(const CommandInfo& info) {
  return std::make_unique<OutputLog>(deps_.loop, LogOptions(info));
}

Task<absl::StatusOr<Session::StartResult>> Session::Start(StartCommand request) {
  std::shared_ptr<Session> self = shared_from_this();
  co_await WaitOpened();
  last_active_ = deps_.clock.Now();
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
    if (earlier.ok() && earlier->has_value() && (*earlier)->session_id == info_.id) {
      co_return co_await AttachToKnown(std::move(request), **std::move(earlier));
    }
  }
  CO_RETURN_IF_ERROR(Admit(request));
  CommandInfo info = NewCommandInfo(request);
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
  co_return co_await StartFresh(std::move(request), std::move(run));
}

absl::Status Session::ReusedError(const std::string& run_id) {
  return Error(Reason::k_REQUEST_ID_REUSED,
               "request id " + run_id + " was used before with another request",
               {{"field", "request_id"}, {"request_id", run_id}});
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

Task<absl::StatusOr<Session::StartResult>> Session::StartFresh(StartCommand request,
                                                               std::shared_ptr<CommandRun> run) {
  absl::Status status = co_await EnsureEngine();
  if (status.ok() && info_.state != SessionState::kReady) status = NotReady(info_);
  absl::StatusOr<std::unique_ptr<Channel>> channel = NotReady(info_);
  if (status.ok()) {
    channel = co_await engine_->Start(std::move(request.spec));
  } else {
    channel = status;
  }
  if (!channel.ok()) {
    // Certainly not started: the id is free for the retry. If even that cannot be stored, the row
    // ends at restart.
    (void)co_await deps_.store.DeleteCommand(info_.id, run->info().id);
    co_return Withdraw(run, channel.status());
  }
  ++deps_.stats.commands_started;
  tasks_.Spawn("command " + run->info().id,
               RunCommand(shared_from_this(), run, *std::move(channel)));
  if (request.stdin_data) {
    tasks_.Spawn("stdin " + run->info().id, FeedStdin(run, *std::move(request.stdin_data)));
  }
  deps_.on_change(*this);
  co_return StartResult(std::move(run), false);
}

// `self` keeps the session while its command runs.
Task<void> Session::RunCommand(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run,
                               std::unique_ptr<Channel> channel) {
  co_await run->Pump(std::move(channel));
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
  Untrack(*run);
  if (!run->ended()) co_return;
  last_active_ = deps_.clock.Now();
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

Task<void> Session::FeedStdin(std::shared_ptr<CommandRun> run, std::string data) {
  for (size_t at = 0; at < data.size(); at += kStdinPiece) {
    std::string piece = data.substr(at, kStdinPiece);
    // A command that closes its stdin early is no error of anybody's.
    absl::Status written = co_await run->WriteStdin(at, std::move(piece), false);
    if (!written.ok()) co_return;
  }
  (void)co_await run->WriteStdin(data.size(), {}, true);
}

Task<absl::StatusOr<Session::StartResult>> Session::AttachToKnown(StartCommand request,
                                                                  CommandInfo known) {
  if (known.request_digest != request.digest) co_return ReusedError(request.spec.run_id);
  absl::StatusOr<std::shared_ptr<CommandRun>> run = co_await Find(known.id);
  if (!run.ok()) co_return run.status();
  co_return StartResult(*std::move(run), true);
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
  if (row.output_expired) {
    return Error(Reason::k_RESULT_EXPIRED, "the result of command '" + id + "' is no longer kept",
                 {{"name", CommandName(info_.id, id)}});
  }
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

Task<absl::Status> Session::Update(UpdateSession request) {
  std::shared_ptr<Session> self = shared_from_this();
  if (!live()) co_return NotReady(info_);
  if (!request.etag.empty() && request.etag != std::to_string(info_.version)) {
    co_return Error(Reason::k_ETAG_MISMATCH, "the session changed since it was read",
                    {{"field", "session.etag"}, {"etag", std::to_string(info_.version)}});
  }
  if (request.labels) info_.labels = *std::move(request.labels);
  if (request.idle_ttl) info_.idle_ttl = *request.idle_ttl;
  if (request.sudo_password) {
    sudo_password_ = *std::move(request.sudo_password);
    info_.has_secret = !sudo_password_.empty();
    ClearCondition(kSecretNeeded);
    if (engine_ != nullptr) engine_->SetSudoPassword(sudo_password_);
  }
  co_return co_await Save();
}

Task<absl::StatusOr<SessionInfo>> Session::Renew(Duration extend) {
  std::shared_ptr<Session> self = shared_from_this();
  if (!live()) co_return NotReady(info_);
  WallTime wanted = deps_.clock.NowWall() + extend;
  if (!info_.expire_time || *info_.expire_time < wanted) {
    info_.expire_time = wanted;
    absl::Status saved = co_await Save();
    if (!saved.ok()) co_return saved;
  }
  co_return Shown();
}

Task<absl::Status> Session::Close(Duration grace,
                                  absl::AnyInvocable<void(KilledCommand)> progress) {
  std::shared_ptr<Session> self = shared_from_this();
  while (closing_) co_await changed_.Wait();
  if (!live()) co_return absl::OkStatus();
  closing_ = true;
  // A place that nobody has reached yet is not reached only to be left.
  if (info_.state == SessionState::kOpening) first_place_->Withdraw();
  absl::Status status = co_await ReleaseAndClose(grace, std::move(progress));
  closing_ = false;
  changed_.NotifyAll();
  deps_.on_change(*this);
  co_return status;
}

// What the store refuses to know is not so: the session is what it was, and the caller may ask
// again.
Task<absl::Status> Session::ReleaseAndClose(Duration grace,
                                            absl::AnyInvocable<void(KilledCommand)> progress) {
  const SessionState before = info_.state;
  absl::Status status = co_await SetState(SessionState::kClosing);
  // Not back to OPENING: nobody opens it any more.
  if (!status.ok() && before == SessionState::kReady) info_.state = before;
  if (status.ok() && !released_) status = co_await Release(grace, std::move(progress));
  if (!status.ok()) co_return status;
  released_ = true;
  status = co_await SetState(SessionState::kClosed);
  if (!status.ok()) info_.state = SessionState::kClosing;
  co_return status;
}

Task<absl::Status> Session::Release(Duration grace,
                                    absl::AnyInvocable<void(KilledCommand)> progress) {
  while (engine_opening_) co_await changed_.Wait();
  const bool never_there = engine_ == nullptr && first_place_->withdrawn();
  if (never_there && runs_.empty()) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(co_await EnsureEngine());
  std::vector<std::shared_ptr<CommandRun>> runs;
  for (const auto& [id, run] : runs_) runs.push_back(run);
  TaskGroup kills(deps_.loop);
  for (const auto& run : runs)
    kills.Spawn("kill " + run->info().id, KillOne(run, grace, &progress));
  co_await kills.Join();
  if (abandoned_)
    co_return Error(Reason::k_DRAINING, "the cleanup goes on when the daemon is back");
  if (!engine_closed_) {
    absl::StatusOr<TreeReport> rest = co_await engine_->Close(grace);
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

Task<void> Session::KillOne(std::shared_ptr<CommandRun> run, Duration grace,
                            absl::AnyInvocable<void(KilledCommand)>* progress) {
  absl::StatusOr<TreeReport> report = co_await run->Kill(grace, Cause::kCancelled);
  if (report.ok() && *progress) (*progress)(KilledCommand{run->info().id, *std::move(report)});
}

Task<void> Session::Abandon() {
  std::shared_ptr<Session> self = shared_from_this();
  abandoned_ = true;
  for (const auto& [id, run] : runs_) {
    run->Abandon();
  }
  changed_.NotifyAll();
  co_await tasks_.Join();
}

}  // namespace hermes
