#include "daemon/core/session_table.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

#include "daemon/core/session_names.h"
#include "daemon/core/spool_sweep.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr Duration kSweepInterval = std::chrono::seconds(1);
constexpr Duration kExpireInterval = std::chrono::seconds(60);
constexpr Duration kReapGrace = std::chrono::seconds(2);
// Between tries to close a session whose time is over but whose files are not saved.
constexpr Duration kFirstReapPause = std::chrono::seconds(30);
constexpr Duration kLastReapPause = std::chrono::hours(1);
// Removed sessions that watchers can still be told of; a watcher further behind misses the removal.
constexpr size_t kMaxTombstones = 10'000;

absl::Status Draining() { return Error(Reason::k_DRAINING, "the daemon is shutting down"); }

}  // namespace

SessionTable::SessionTable(Deps deps)
    : deps_(std::move(deps)),
      changed_(deps_.loop),
      next_expire_(deps_.clock.Now()),
      tasks_(deps_.loop) {}

SessionTable::~SessionTable() = default;

Session::Deps SessionTable::SessionDeps() {
  return {.loop = deps_.loop,
          .clock = deps_.clock,
          .random = deps_.random,
          .store = deps_.store,
          .stats = deps_.stats,
          .engines = deps_.engines,
          .sync = deps_.sync,
          .spool_dir = deps_.spool_dir,
          .max_commands_per_session = deps_.limits.max_commands_per_session,
          .admit_command = [this](uint32_t uid) { return AdmitCommand(uid); },
          .on_change = [this](const Session& session) { NoteChange(session.info().id, false); }};
}

void SessionTable::Load(SessionStore::Contents contents) {
  for (SessionInfo& info : contents.sessions) {
    auto session = std::make_shared<Session>(SessionDeps(), std::move(info));
    const SessionInfo& loaded = session->info();
    if (!loaded.request_id.empty()) request_ids_[loaded.request_id] = loaded.id;
    sessions_[loaded.id].session = session;
    NoteChange(loaded.id, false);
    if (loaded.state == SessionState::kOpening) {
      tasks_.Spawn("open " + loaded.id, Opened(session, {}));
    } else if (loaded.state == SessionState::kClosing) {
      tasks_.Spawn("close " + loaded.id, Reap(session));
    }
  }
  for (StoredCommand& command : contents.live_commands) {
    auto it = sessions_.find(command.info.session_id);
    if (it == sessions_.end()) continue;
    it->second.session->TakeUp(std::move(command));
  }
  deps_.stats.sessions = sessions_.size();
  spool_bytes_ = SpoolBytes(deps_.spool_dir);
  tasks_.Spawn("sweep output files", SweepOrphans());
  tasks_.Spawn("recover mounts", RecoverMounts());
  ArmSweep();
}

Task<void> SessionTable::SweepOrphans() {
  SpoolSweep sweep{deps_.workers, deps_.store, deps_.spool_dir, [this] { return draining_; }};
  const size_t removed = co_await SweepSpool(std::move(sweep));
  if (removed > 0) LogInfo("output files of " + std::to_string(removed) + " gone commands removed");
}

// What the last daemon was landing or taking back when it died is ended now, not when the session
// is used again. What an ended one has brought back can be taken back for as long as it is listed.
Task<void> SessionTable::RecoverMounts() {
  struct Root {
    sync::Mount mount;
    std::string lock_file;
    bool live;
  };
  std::map<std::string, Root> roots;
  for (const auto& [id, entry] : sessions_) {
    const bool live = entry.session->live();
    for (sync::Mount mount : entry.session->info().sync.mounts) {
      if (!mount.WritesHost()) continue;
      if (!live) mount.policy = sync::Policy::kPush;  // a root that has gone is not made again
      const std::string path = mount.host_root;
      roots.try_emplace(path, std::move(mount), entry.session->info().sync.lock_file, live);
    }
  }
  for (const auto& [path, root] : roots) {
    if (draining_) co_return;
    absl::Status status =
        co_await deps_.sync.pairs.Recover(root.mount, root.lock_file, deps_.sync.undo);
    const bool gone = !root.live && ReasonOf(status) == Reason::k_BAD_FIELD;
    if (!status.ok() && !gone)
      LogWarning("a mount is not recovered: " + std::string(status.message()));
  }
}

Task<void> SessionTable::Opened(std::shared_ptr<Session> session, std::string sudo_password) {
  co_await session->Open(std::move(sudo_password));
}

absl::Status SessionTable::AdmitSession(const CreateSession& request) const {
  uint32_t live = 0;
  uint32_t of_caller = 0;
  for (const auto& [id, entry] : sessions_) {
    if (!entry.session->live()) continue;
    ++live;
    if (entry.session->info().creator_uid == request.uid) ++of_caller;
  }
  if (live >= deps_.limits.max_sessions) {
    return Error(
        Reason::k_QUOTA_SESSIONS, "there are as many sessions as there may be",
        {{"limit", std::to_string(deps_.limits.max_sessions)}, {"setting", "limits.max_sessions"}});
  }
  if (of_caller >= deps_.limits.max_sessions_per_uid) {
    return Error(Reason::k_QUOTA_SESSIONS, "this account has as many sessions as it may",
                 {{"limit", std::to_string(deps_.limits.max_sessions_per_uid)},
                  {"setting", "limits.max_sessions_per_uid"}});
  }
  return deps_.engines.CheckBackend(request.backend,
                                    {request.id, request.ssh, request.sync.mounts});
}

absl::Status SessionTable::ReusedError(const std::string& request_id) {
  return Error(Reason::k_REQUEST_ID_REUSED, "this request id was used before with another request",
               {{"field", "request_id"}, {"request_id", request_id}});
}

// The session an earlier request with this id made, or null. A different body or a taken name is an
// error.
absl::StatusOr<std::shared_ptr<Session>> SessionTable::Earlier(const CreateSession& request) const {
  auto known =
      request.request_id.empty() ? request_ids_.end() : request_ids_.find(request.request_id);
  auto made = known == request_ids_.end() ? sessions_.end() : sessions_.find(known->second);
  if (made != sessions_.end()) {
    std::shared_ptr<Session> session = made->second.session;
    if (session->info().request_digest == request.digest) return session;
    return ReusedError(request.request_id);
  }
  auto it = sessions_.find(request.id);
  if (it != sessions_.end() && it->second.session->live()) {
    return Error(Reason::k_SESSION_ID_TAKEN, "there is a session '" + request.id + "' already",
                 {{"session", request.id}});
  }
  return nullptr;
}

SessionInfo SessionTable::NewSessionInfo(CreateSession request) const {
  SessionInfo info;
  info.id = std::move(request.id);
  info.backend = std::move(request.backend);
  info.labels = std::move(request.labels);
  info.create_time = deps_.clock.NowWall();
  if (request.lease.count() > 0) info.expire_time = info.create_time + request.lease;
  info.idle_ttl = request.idle_ttl;
  info.first_cwd = std::move(request.cwd);
  info.first_env = std::move(request.env);
  info.runner = request.runner;
  info.ssh = request.ssh;
  info.sync = std::move(request.sync);
  info.creator_uid = request.uid;
  info.request_id = std::move(request.request_id);
  info.request_digest = std::move(request.digest);
  info.has_secret = !request.sudo_password.empty();
  return info;
}

Task<absl::StatusOr<SessionInfo>> SessionTable::Create(CreateSession request) {
  if (draining_) co_return Draining();
  absl::StatusOr<std::shared_ptr<Session>> earlier = Earlier(request);
  if (!earlier.ok()) co_return earlier.status();
  bool wait = request.wait_ready;
  std::shared_ptr<Session> session = *earlier;
  if (session == nullptr) {
    CO_RETURN_IF_ERROR(AdmitSession(request));
    if (!request.sync.mounts.empty()) {
      CO_RETURN_IF_ERROR(co_await deps_.sync.pairs.Check(request.sync.mounts));
      if (request.sync.lock_file.empty()) request.sync.lock_file = co_await DefaultLockFile();
      earlier = Earlier(request);  // somebody may have been quicker
      if (!earlier.ok()) co_return earlier.status();
      session = *earlier;
      if (session == nullptr) CO_RETURN_IF_ERROR(AdmitSession(request));
    }
  }
  if (session == nullptr) {
    if (draining_) co_return Draining();
    absl::StatusOr<std::shared_ptr<Session>> made = co_await Make(std::move(request));
    if (!made.ok()) co_return made.status();
    session = *made;
  }
  if (wait) {
    co_await session->WaitOpened();
    CO_RETURN_IF_ERROR(session->open_error());
    if (session->info().state == SessionState::kOpening) co_return Draining();
  }
  co_return session->Shown();
}

Task<absl::StatusOr<std::shared_ptr<Session>>> SessionTable::Make(CreateSession request) {
  if (request.id.empty()) request.id = "s-" + deps_.random.Hex(6);
  std::string id = request.id;
  std::string sudo_password = request.sudo_password;
  std::string request_id = request.request_id;
  std::shared_ptr<Session> old;
  if (auto it = sessions_.find(id); it != sessions_.end()) old = it->second.session;
  // In the table before the first await, so that nobody else takes the name.
  auto session = std::make_shared<Session>(SessionDeps(), NewSessionInfo(std::move(request)));
  sessions_[id].session = session;
  if (!request_id.empty()) request_ids_[request_id] = id;
  absl::Status status;
  if (old != nullptr) {
    co_await old->Abandon();
    status = co_await Forget(old);
  }
  if (status.ok()) status = co_await deps_.store.PutSession(session->info());
  if (!status.ok()) {
    if (!request_id.empty()) request_ids_.erase(request_id);
    Erase(*session);
    co_return status;
  }
  NoteChange(id, false);
  deps_.stats.sessions = sessions_.size();
  tasks_.Spawn("open " + id, Opened(session, std::move(sudo_password)));
  co_return session;
}

// The lock that others honour who sync the same files. Daemons of ours lock each root itself, too.
Task<std::string> SessionTable::DefaultLockFile() {
  const std::string home = deps_.hermes_home;
  const bool there = co_await deps_.workers.Run([home] {
    std::error_code error;
    return !home.empty() && std::filesystem::is_directory(home, error);
  });
  co_return there ? home + "/.sync.lock" : "";
}

// Removes what is kept of an ended session that was let go of: rows and output files.
Task<absl::Status> SessionTable::Forget(std::shared_ptr<Session> session) {
  if (!session->info().request_id.empty()) request_ids_.erase(session->info().request_id);
  absl::Status deleted =
      co_await deps_.store.DeleteSession(session->info().id, deps_.clock.NowWall());
  if (deleted.ok()) RemoveSpool(deps_.spool_dir, session->info().id);
  co_return deleted;
}

// False: it was forgotten, or its name was taken again.
bool SessionTable::Holds(const Session& session) const {
  const auto it = sessions_.find(session.info().id);
  return it != sessions_.end() && it->second.session.get() == &session;
}

void SessionTable::Erase(const Session& session) {
  if (!Holds(session)) return;
  const std::string id = session.info().id;
  NoteChange(id, true);
  sessions_.erase(id);
  deps_.stats.sessions = sessions_.size();
}

absl::StatusOr<std::shared_ptr<Session>> SessionTable::Find(const std::string& id) const {
  auto it = sessions_.find(id);
  if (it != sessions_.end()) return it->second.session;
  return Error(Reason::k_SESSION_UNKNOWN, "there is no session '" + id + "'",
               {{"name", SessionName(id)}});
}

// A name and the time of its creation are one session for good.
Task<absl::StatusOr<SessionTable::CleanupTarget>> SessionTable::AcceptCleanup(
    std::string id, std::string request_id) {
  absl::StatusOr<std::shared_ptr<Session>> session = Find(id);
  if (!session.ok()) co_return session.status();
  CleanupTarget target{.session = *std::move(session), .ended = {}};
  if (request_id.empty()) co_return target;
  absl::StatusOr<std::optional<SessionInfo>> known =
      co_await deps_.store.AcceptCleanup(request_id, target.session->info(), deps_.clock.NowWall());
  if (!known.ok()) co_return known.status();
  if (!known->has_value()) co_return target;
  if ((*known)->id != id) co_return ReusedError(request_id);
  if ((*known)->create_time == target.session->info().create_time) co_return target;
  target.session = nullptr;
  target.ended = **std::move(known);
  const SessionState then = target.ended.state;
  const bool had_ended = then == SessionState::kFailed || then == SessionState::kLost;
  if (!had_ended) target.ended.state = SessionState::kClosed;
  co_return target;
}

absl::Status SessionTable::AdmitCommand(uint32_t uid) {
  const TableLimits& limits = deps_.limits;
  if (deps_.stats.running_commands >= limits.max_commands) {
    return Error(
        Reason::k_QUOTA_COMMANDS, "there run as many commands as may",
        {{"limit", std::to_string(limits.max_commands)}, {"setting", "limits.max_commands"}});
  }
  const auto of_uid = deps_.stats.running_of_uid.find(uid);
  if (of_uid != deps_.stats.running_of_uid.end() && of_uid->second >= limits.max_commands_per_uid) {
    return Error(Reason::k_QUOTA_COMMANDS, "this account runs as many commands as it may",
                 {{"limit", std::to_string(limits.max_commands_per_uid)},
                  {"setting", "limits.max_commands_per_uid"}});
  }
  // At most what was there at the last look and all that was written since: look again only when
  // that is too much.
  auto written = [&] { return deps_.stats.output_bytes + deps_.stats.stdin_bytes_kept; };
  auto most = [&] { return spool_bytes_ + written() - written_at_last_look_; };
  if (most() >= limits.output_spool_bytes) {
    spool_bytes_ = SpoolBytes(deps_.spool_dir);
    written_at_last_look_ = written();
  }
  if (most() < limits.output_spool_bytes) return absl::OkStatus();
  return Error(Reason::k_SPOOL_FULL, "kept output has used up its space",
               {{"limit", std::to_string(limits.output_spool_bytes)},
                {"setting", "limits.output_spool_bytes"}});
}

Task<absl::StatusOr<Session::StartResult>> SessionTable::Start(StartCommand request) {
  if (draining_) co_return Draining();
  absl::StatusOr<std::shared_ptr<Session>> session = Find(request.session_id);
  if (!session.ok()) co_return session.status();
  co_return co_await (*session)->Start(std::move(request));
}

Task<absl::StatusOr<std::shared_ptr<SyncJob>>> SessionTable::Sync(StartSync request) {
  if (draining_) co_return Draining();
  absl::StatusOr<std::shared_ptr<Session>> session = Find(request.session_id);
  if (!session.ok()) co_return session.status();
  co_return co_await (*session)->Sync(std::move(request));
}

Task<absl::StatusOr<StoredSync>> SessionTable::FindSync(std::string session_id,
                                                        std::string sync_id) {
  absl::StatusOr<std::shared_ptr<Session>> session = Find(session_id);
  if (!session.ok()) co_return session.status();
  co_return co_await (*session)->FindSync(std::move(sync_id));
}

Task<absl::StatusOr<std::vector<SyncInfo>>> SessionTable::ListSyncs(std::string session_id,
                                                                    std::string before,
                                                                    size_t limit) {
  absl::StatusOr<std::shared_ptr<Session>> session = Find(session_id);
  if (!session.ok()) co_return session.status();
  co_return co_await (*session)->ListSyncs(std::move(before), limit);
}

bool SessionTable::Filter::Matches(const SessionInfo& info) const {
  if (state && info.state != *state) return false;
  if (!backend.empty() && info.backend != backend) return false;
  for (const auto& [key, value] : labels) {
    auto it = info.labels.find(key);
    if (it == info.labels.end() || it->second != value) return false;
  }
  return true;
}

std::vector<SessionInfo> SessionTable::List(const Filter& filter, const std::string& after,
                                            size_t limit) const {
  std::vector<SessionInfo> found;
  for (auto it = sessions_.upper_bound(after); it != sessions_.end() && found.size() < limit;
       ++it) {
    SessionInfo shown = it->second.session->Shown();
    if (filter.Matches(shown)) found.push_back(std::move(shown));
  }
  return found;
}

std::vector<std::shared_ptr<CommandRun>> SessionTable::Runs() const {
  std::vector<std::shared_ptr<CommandRun>> all;
  for (const auto& [id, entry] : sessions_) {
    for (std::shared_ptr<CommandRun>& run : entry.session->runs()) all.push_back(std::move(run));
  }
  return all;
}

void SessionTable::NoteChange(const std::string& id, bool removed) {
  auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  changes_.erase(it->second.seq);
  it->second.seq = ++seq_;
  changes_[seq_] = Change{seq_, id, removed};
  if (removed) tombstones_.push_back(seq_);
  if (tombstones_.size() > kMaxTombstones) {
    changes_.erase(tombstones_.front());
    tombstones_.pop_front();
  }
  changed_.NotifyAll();
}

std::optional<SessionTable::Change> SessionTable::NextChange(uint64_t seq) const {
  auto it = changes_.upper_bound(seq);
  if (it == changes_.end()) return std::nullopt;
  return it->second;
}

void SessionTable::ArmSweep() {
  sweep_alarm_ = deps_.clock.At(deps_.clock.Now() + kSweepInterval, [this] {
    Sweep();
    if (!draining_) ArmSweep();
  });
}

// Why it is to be closed by us; empty: it is not.
std::string_view SessionTable::Lapse(Session& session) const {
  const SessionInfo& info = session.info();
  if (session.closing()) return "";
  if (info.state == SessionState::kClosing) return "its cleanup has not come to its end";
  if (info.state != SessionState::kReady) return "";
  const SteadyTime now = deps_.clock.Now();
  if (session.running() > 0 || session.readers() > 0 || session.syncing()) {
    session.NoteActive();  // idle is what comes after that
    return "";
  }
  if (info.expire_time && *info.expire_time <= deps_.clock.NowWall()) return "its lease has ended";
  const bool idle = info.idle_ttl.count() > 0 && session.last_active() + info.idle_ttl <= now;
  return idle ? "it was idle for its ttl" : "";
}

void SessionTable::Sweep() {
  SteadyTime now = deps_.clock.Now();
  for (const auto& [id, entry] : sessions_) {
    if (entry.next_reap > now || Lapse(*entry.session).empty()) continue;
    tasks_.Spawn("reap " + id, Reap(entry.session));
  }
  if (now < next_expire_) return;
  next_expire_ = now + kExpireInterval;
  tasks_.Spawn("expire", Expire());
}

// What has begun in it since the sweep keeps it.
Task<void> SessionTable::Reap(std::shared_ptr<Session> session) {
  const std::string why(Lapse(*session));
  if (why.empty()) co_return;
  const std::string id = session->info().id;
  auto it = sessions_.find(id);
  const bool again = it != sessions_.end() && it->second.reap_pause.count() > 0;
  if (!again) LogInfo("session is closed: " + why, {.session = id});
  absl::Status status = co_await session->Close({.grace = kReapGrace}, nullptr);
  if (status.ok()) co_return;
  if (!again) LogWarning("session not closed: " + std::string(status.message()), {.session = id});
  PutOff(id);
}

void SessionTable::PutOff(const std::string& id) {
  auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  Entry& entry = it->second;
  entry.reap_pause = std::clamp(2 * entry.reap_pause, kFirstReapPause, kLastReapPause);
  entry.next_reap = deps_.clock.Now() + entry.reap_pause;
}

// It has ended, and nothing that is kept of it is of use any more.
bool SessionTable::Outlived(const Session& session) const {
  if (session.live()) return false;
  Duration kept = deps_.limits.request_id_retention;
  const std::vector<sync::Mount>& mounts = session.info().sync.mounts;
  if (std::any_of(mounts.begin(), mounts.end(),
                  [](const auto& mount) { return mount.WritesHost(); }))
    kept = std::max<Duration>(kept, std::chrono::seconds(deps_.sync.undo.max_age_s));
  return session.last_active() + kept <= deps_.clock.Now();
}

// Drops outputs, request ids and ended sessions that were kept long enough.
Task<void> SessionTable::Expire() {
  WallTime now = deps_.clock.NowWall();
  const Duration undo = std::chrono::seconds(deps_.sync.undo.max_age_s);
  const TableLimits& limits = deps_.limits;
  absl::StatusOr<std::vector<std::string>> dropped = co_await deps_.store.Expire(
      {.results = now - limits.result_retention,
       .requests = now - limits.request_id_retention,
       .syncs = now - std::max<Duration>(undo, limits.request_id_retention)});
  if (!dropped.ok()) {
    LogWarning("old results are not dropped: " + std::string(dropped.status().message()));
    co_return;
  }
  for (const std::string& command : *dropped)
    OutputLog::RemoveFiles(SpoolPath(deps_.spool_dir, command));
  std::vector<std::shared_ptr<Session>> old;
  for (const auto& [id, entry] : sessions_) {
    if (Outlived(*entry.session)) old.push_back(entry.session);
  }
  for (const std::shared_ptr<Session>& session : old) {
    co_await session->Abandon();
    if (!Holds(*session)) continue;  // whoever has taken its name forgets it
    if ((co_await Forget(session)).ok()) Erase(*session);
  }
}

Task<void> SessionTable::Drain() {
  if (draining_) co_return;
  draining_ = true;
  sweep_alarm_.reset();
  std::vector<std::shared_ptr<Session>> sessions;
  for (const auto& [id, entry] : sessions_) sessions.push_back(entry.session);
  // All at once: none waits for another's sync to be withdrawn.
  TaskGroup abandoned(deps_.loop);
  for (const std::shared_ptr<Session>& session : sessions)
    abandoned.Spawn("abandon " + session->info().id, session->Abandon());
  co_await abandoned.Join();
}

}  // namespace hermes
