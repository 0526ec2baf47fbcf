#include "daemon/core/session.h"

#include <algorithm>
#include <utility>

#include "daemon/core/session_names.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr char kSecretNeeded[] = "SECRET_NEEDED";
constexpr char kOpenFailed[] = "FAILED";

}  // namespace

Session::Session(Deps deps, SessionInfo info)
    : deps_(deps),
      info_(std::move(info)),
      changed_(deps.loop),
      last_active_(deps.clock.Now()),
      tasks_(deps.loop) {
  if (info_.sync.mounts.empty()) return;
  SessionSync::Deps sync{deps.loop, deps.clock, deps.random, deps.store, deps.sync};
  sync_ = std::make_unique<SessionSync>(std::move(sync), info_.id, info_.sync);
  sync_->set_suspect(HasCondition(kSyncSuspect));
}

Session::~Session() = default;

bool Session::live() const {
  return info_.state == SessionState::kOpening || info_.state == SessionState::kReady ||
         info_.state == SessionState::kDegraded || info_.state == SessionState::kClosing;
}

std::string_view Session::phase() const {
  return engine_ == nullptr || !reachable_ ? "connecting" : "launching";
}

absl::Status Session::NotReady() const {
  std::string state(NameOf(info_.state));
  return Error(Reason::k_SESSION_NOT_READY, "session '" + info_.id + "' is " + state,
               {{"session", info_.id}, {"state", state}});
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

std::vector<std::shared_ptr<CommandRun>> Session::runs() const {
  std::vector<std::shared_ptr<CommandRun>> runs;
  for (const auto& [id, run] : runs_) runs.push_back(run);
  return runs;
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
  // Closed meanwhile, or left to the next hermesd.
  if (info_.state != SessionState::kOpening || abandoned_) co_return;
  if (!status.ok()) {
    SetCondition(kOpenFailed, ReasonName(status), std::string(status.message()));
    open_error_ = status;
  }
  (void)co_await SetState(status.ok() ? SessionState::kReady : SessionState::kFailed);
}

absl::Status Session::open_error() const {
  if (info_.state != SessionState::kFailed || !open_error_.ok()) return open_error_;
  for (const Condition& condition : info_.conditions) {
    if (condition.type == kOpenFailed)
      return Error(ReasonNamed(condition.reason).value_or(Reason::k_BUG), condition.message);
  }
  return Error(Reason::k_BUG, "the session failed, and nobody noted why");
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
  for (const auto& [id, run] : runs_) spec.live_runs->insert(run->info().FarId());
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
  info_.place_key = sandbox_->place_key();
  info_.capabilities = engine_->capabilities();
  info_.engine = facts->engine;
  info_.engine_reason = facts->engine_reason;
  info_.cwd = facts->cwd;
  info_.generation = facts->generation;
  if (info_.incarnation != facts->incarnation) NoteLostSecret();
  info_.incarnation = facts->incarnation;
  reachable_ = true;
  if (sync_ != nullptr) sync_->UsePlace(info_.place_key, engine_.get());
  co_return absl::OkStatus();
}

// A new runner knows no password, and after a restart neither do we.
void Session::NoteLostSecret() {
  if (!info_.has_secret || !sudo_password_.empty()) return;
  SetCondition(kSecretNeeded, kSecretNeeded, "the sudo password has to be given again");
}

// True: it is new, or says something else than before.
bool Session::SetCondition(std::string_view type, std::string_view reason, std::string message) {
  auto it = std::find_if(info_.conditions.begin(), info_.conditions.end(),
                         [type](const Condition& condition) { return condition.type == type; });
  if (it != info_.conditions.end()) {
    if (it->reason == reason && it->message == message) return false;
    info_.conditions.erase(it);
  }
  Condition condition{
      .type = std::string(type), .reason = std::string(reason), .message = std::move(message)};
  condition.since = deps_.clock.NowWall();
  info_.conditions.push_back(std::move(condition));
  return true;
}

bool Session::ClearCondition(std::string_view type) {
  return std::erase_if(info_.conditions,
                       [type](const Condition& condition) { return condition.type == type; }) > 0;
}

bool Session::HasCondition(std::string_view type) const {
  return std::any_of(info_.conditions.begin(), info_.conditions.end(),
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
  if (sync_ != nullptr) sync_->UsePlace(info_.place_key, engine_.get());
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

Task<absl::Status> Session::Update(UpdateSession request) {
  std::shared_ptr<Session> self = shared_from_this();
  if (!live()) co_return NotReady();
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
  if (!live() || info_.state == SessionState::kClosing) co_return NotReady();
  WallTime wanted = deps_.clock.NowWall() + extend;
  if (!info_.expire_time || *info_.expire_time < wanted) {
    info_.expire_time = wanted;
    absl::Status saved = co_await Save();
    if (!saved.ok()) co_return saved;
  }
  co_return Shown();
}

Task<void> Session::Abandon() {
  std::shared_ptr<Session> self = shared_from_this();
  abandoned_ = true;
  first_place_->Withdraw();
  for (const auto& [id, run] : runs_) {
    run->Abandon();
  }
  changed_.NotifyAll();
  if (sync_ != nullptr) co_await sync_->Abandon();
  co_await tasks_.Join();
}

}  // namespace hermes
