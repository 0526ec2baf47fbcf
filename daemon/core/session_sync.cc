#include "daemon/core/session_sync.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "daemon/core/codec.h"
#include "daemon/core/session_names.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kShownFiles = 5;        // named in an error; of more the number is told
constexpr size_t kShownNameBytes = 200;  // of one of them

constexpr std::string_view kHere = "local";  // place of what runs on this host, as this account

// While the store refuses the end of a sync it is asked again at this pace.
constexpr Duration kRetryPause = std::chrono::seconds(1);

// Names are bytes of anybody: no error may carry one that speaks to a terminal.
std::string Escaped(std::string_view name) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string shown;
  for (const char c : name.substr(0, kShownNameBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\') {
      shown += c;
    } else {
      shown += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return name.size() > kShownNameBytes ? shown + "..." : shown;
}

// The first of those that `is` takes, each with what the entry says of an odd one.
template <typename Is>
std::string FirstNames(const std::vector<sync::SyncEntry>& entries, Is is) {
  std::string names;
  size_t shown = 0;
  for (const sync::SyncEntry& entry : entries) {
    if (!is(entry)) continue;
    if (shown++ == kShownFiles) return names + ", ...";
    names += (names.empty() ? "" : ", ") + Escaped(entry.path);
    if (entry.why == sync::Why::kOdd) names += " (" + entry.note + ")";
  }
  return names;
}

bool HasFailed(const sync::SyncEntry& entry) { return entry.fate == sync::Fate::kFailed; }
bool IsConflict(const sync::SyncEntry& entry) { return entry.why == sync::Why::kConflict; }

// Counts a sync as running, with the wish that ends it.
class Running {
 public:
  Running(std::set<WishPtr>& wishes, size_t& count, Event& changed, WishPtr wish)
      : wishes_(wishes), count_(count), changed_(changed), wish_(std::move(wish)) {
    ++count_;
    if (wish_ != nullptr) wishes_.insert(wish_);
  }
  ~Running() {
    --count_;
    wishes_.erase(wish_);
    changed_.NotifyAll();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  std::set<WishPtr>& wishes_;
  size_t& count_;
  Event& changed_;
  const WishPtr wish_;
};

}  // namespace

SessionSync::SessionSync(Deps deps, std::string session_id, SyncSettings settings)
    : deps_(std::move(deps)),
      session_id_(std::move(session_id)),
      settings_(std::move(settings)),
      changed_(deps_.loop),
      tasks_(deps_.loop) {}

SessionSync::~SessionSync() = default;

void SessionSync::UsePlace(std::string place, Engine* engine) {
  place_ = std::move(place);
  engine_ = engine;
  if (manager_ != nullptr) manager_->Distrust();
}

void SessionSync::LetGo() {
  if (running_ > 0 || opening_) return;
  manager_.reset();
  engine_ = nullptr;
}

Task<absl::Status> SessionSync::EnsureManager() {
  while (opening_) co_await changed_.Wait();
  if (manager_ != nullptr) co_return absl::OkStatus();
  opening_ = true;
  sync::SyncManager::Setup setup{.session_id = session_id_,
                                 .place = place_,
                                 .home = engine_ == nullptr ? "" : engine_->home(),
                                 .here = place_ == kHere,
                                 .mounts = settings_.mounts,
                                 .lock_file = settings_.lock_file,
                                 .min_interval = settings_.min_interval};
  setup.new_tree = [engine = engine_]() -> std::unique_ptr<sync::RemoteTree> {
    return engine == nullptr ? nullptr : engine->NewRemoteTree();
  };
  absl::StatusOr<std::unique_ptr<sync::SyncManager>> opened =
      co_await sync::SyncManager::Open(deps_.manager, std::move(setup));
  absl::Status status = opened.status();
  if (ReasonOf(status) == Reason::k_BAD_FIELD) {
    // The mounts were good when the session was made: no request of now is at fault.
    status = Error(Reason::k_SYNC_FAILED, std::string(status.message()), MetadataOf(status));
  }
  if (status.ok()) {
    manager_ = *std::move(opened);
    manager_->set_suspect(suspect_);
  }
  opening_ = false;
  changed_.NotifyAll();
  co_return status;
}

bool SessionSync::Clean() {
  if (manager_ == nullptr || !manager_->Clean()) return false;
  last_push_ = absl::OkStatus();
  return true;
}

bool SessionSync::WritesHost() const {
  return std::any_of(settings_.mounts.begin(), settings_.mounts.end(),
                     [](const sync::Mount& mount) { return mount.WritesHost(); });
}

SyncInfo SessionSync::NewInfo(SyncKind kind, uint32_t uid) const {
  SyncInfo info;
  info.session_id = session_id_;
  info.id = "y" + deps_.random.Hex(6);
  info.kind = kind;
  info.create_time = deps_.clock.NowWall();
  info.creator_uid = uid;
  return info;
}

Task<absl::Status> SessionSync::PushBefore(Before before) {
  SyncJob job(deps_.loop, NewInfo(SyncKind::kPush, before.uid));
  Running running(wishes_, running_, changed_, before.wish);
  sync::PushRequest push{.force = before.force,
                         .wish = before.wish,
                         .listener = &job,
                         .on_follow = std::move(before.on_follow)};
  absl::StatusOr<sync::SyncReport> report = co_await Push(std::move(push));
  NotePush(report.status());
  SyncInfo ended = Ended(job, report);
  WarnOfConflicts(job, ended);
  const sync::SyncCounts& counts = ended.report.counts;
  if (counts.conflicts + counts.rejected + counts.failed > 0) {
    (void)co_await StoreTrouble(&job, std::move(ended));
  } else {
    last_told_.clear();
    told_in_.clear();
  }
  co_return Explained(job, report.status());
}

// Also of syncs that nobody watches. In what was told before there is none again.
void SessionSync::WarnOfConflicts(const SyncJob& job, const SyncInfo& ended) const {
  if (ended.report.counts.conflicts == 0) return;
  LogWarning((ended.kind == SyncKind::kPush ? "a push left versions of the sandbox in place: "
                                            : "a sync-back met changes of both sides: ") +
                 std::to_string(ended.report.counts.conflicts) + " files, " +
                 FirstNames(job.entries(), IsConflict),
             {.session = session_id_});
}

std::string SessionSync::Conflicts() const {
  if (manager_ == nullptr) return "";
  const sync::SyncManager::Refused refused = manager_->refused(kShownFiles);
  if (refused.count == 0) return "";
  std::string text = "the sandbox holds versions of its own, which stay until a sync-back, of " +
                     std::to_string(refused.count) + " files:";
  for (const std::string& name : refused.names) text += " " + Escaped(name);
  return refused.count > refused.names.size() ? text + " ..." : text;
}

// The same trouble is told once, not before every command.
Task<absl::Status> SessionSync::StoreTrouble(const SyncJob* job, SyncInfo ended) {
  std::string told = EncodeSyncEntries(job->entries());
  if (told == last_told_) co_return absl::OkStatus();
  const std::string id = ended.id;
  absl::Status stored = co_await Store(job, std::move(ended));
  last_told_ = stored.ok() ? std::move(told) : "";
  told_in_ = stored.ok() ? id : "";
  co_return stored;
}

void SessionSync::NotePush(const absl::Status& pushed) {
  if (!absl::IsCancelled(pushed)) last_push_ = pushed;
}

// What a caller who waits for a command is told of the files that keep it from starting.
absl::Status SessionSync::Explained(const SyncJob& job, const absl::Status& status) const {
  if (status.ok() || ReasonOf(status).value_or(Reason::k_SYNC_FAILED) != Reason::k_SYNC_FAILED ||
      absl::IsCancelled(status)) {
    return status;
  }
  Metadata metadata = MetadataOf(status);
  std::string message(status.message());
  const sync::SyncCounts& counts = job.info().report.counts;
  if (const std::string names = FirstNames(job.entries(), HasFailed); !names.empty()) {
    message += ": " + names;
    metadata["entries"] = names;
  }
  metadata["session"] = session_id_;
  if (!told_in_.empty()) metadata["sync"] = SyncName(session_id_, told_in_);
  metadata["failed"] = std::to_string(counts.failed);
  metadata["conflicts"] = std::to_string(counts.conflicts);
  metadata["rejected"] = std::to_string(counts.rejected);
  return Error(Reason::k_SYNC_FAILED, message, std::move(metadata));
}

Task<absl::Status> SessionSync::CheckRevert(std::string sync_id) {
  absl::StatusOr<StoredSync> sync = co_await Find(sync_id);
  if (!sync.ok()) co_return sync.status();
  if (sync->info.kind != SyncKind::kPull) {
    co_return BadField("name", "only what a sync-back did can be taken back");
  }
  if (sync->info.state == SyncState::kRunning) {
    co_return Error(Reason::k_SYNC_HELD, "this sync has not ended yet",
                    {{"name", SyncName(session_id_, sync_id)}});
  }
  co_return absl::OkStatus();
}

size_t SessionSync::RunningJobs() const {
  return static_cast<size_t>(std::count_if(
      jobs_.begin(), jobs_.end(), [](const auto& entry) { return !entry.second->ended(); }));
}

Task<absl::StatusOr<SessionSync::Accepted>> SessionSync::Accept(StartSync request) {
  if (RunningJobs() >= kMaxRunningSyncs) {
    // A retry still finds what it has begun.
    CO_ASSIGN_OR_RETURN(std::optional<SyncInfo> known,
                        co_await deps_.store.FindSync(session_id_, request.request_id));
    if (known) co_return co_await Known(std::move(request), *std::move(known));
  }
  if (request.kind == SyncKind::kRevert) {
    CO_RETURN_IF_ERROR(co_await CheckRevert(request.of_sync));
  }
  if (RunningJobs() >= kMaxRunningSyncs) {
    co_return Error(Reason::k_QUOTA_COMMANDS,
                    "as many syncs as may run in session '" + session_id_ + "'",
                    {{"limit", std::to_string(kMaxRunningSyncs)}});
  }
  SyncInfo info = NewInfo(request.kind, request.uid);
  info.of_sync = request.of_sync;
  info.request_id = request.request_id;
  info.request_digest = request.digest;
  const std::string id = info.id;
  auto job = std::make_shared<SyncJob>(deps_.loop, info);
  jobs_[id] = job;  // before the first await: an equal request finds it
  absl::StatusOr<SessionStore::AcceptedSync> accepted =
      co_await deps_.store.AcceptSync(std::move(info));
  if (accepted.ok() && accepted->fresh) co_return Accepted{std::move(job), true};
  jobs_.erase(id);
  if (!accepted.ok()) co_return accepted.status();
  co_return co_await Known(std::move(request), std::move(accepted->existing));
}

Task<absl::StatusOr<SessionSync::Accepted>> SessionSync::Known(StartSync request, SyncInfo known) {
  if (known.request_digest != request.digest) {
    co_return Error(Reason::k_REQUEST_ID_REUSED,
                    "request id " + request.request_id + " was used before with another request",
                    {{"field", "request_id"}, {"request_id", request.request_id}});
  }
  auto job = jobs_.find(known.id);
  if (job != jobs_.end()) co_return Accepted{job->second, false};
  absl::StatusOr<StoredSync> stored = co_await Find(known.id);
  if (!stored.ok()) co_return stored.status();
  co_return Accepted{
      std::make_shared<SyncJob>(deps_.loop, std::move(stored->info), std::move(stored->entries)),
      false};
}

Task<void> SessionSync::Run(std::shared_ptr<SyncJob> job, StartSync request, absl::Status reached) {
  Running running(wishes_, running_, changed_, job->wish());
  absl::StatusOr<sync::SyncReport> report = absl::UnknownError("");
  if (reached.ok()) {
    report = co_await Do(job.get(), std::move(request));
  } else {
    report = std::move(reached);
  }
  if (manager_ != nullptr) suspect_ = manager_->suspect();
  SyncInfo info = Ended(*job, report);
  if (info.kind != SyncKind::kPlan) WarnOfConflicts(*job, info);
  const absl::Status stored = co_await Store(job.get(), info);
  job->End(info);
  if (stored.ok()) {
    jobs_.erase(info.id);
  } else if (!abandoned_) {
    tasks_.Spawn("end of sync " + info.id, StoreLater(std::move(job)));
  }
}

// Until then its row says RUNNING, and whoever asks is told by the job.
Task<void> SessionSync::StoreLater(std::shared_ptr<SyncJob> job) {
  do {
    co_await deps_.clock.SleepFor(kRetryPause);
  } while (!abandoned_ && !(co_await Store(job.get(), job->info())).ok());
  if (!abandoned_) jobs_.erase(job->info().id);
}

Task<absl::StatusOr<sync::SyncReport>> SessionSync::Push(sync::PushRequest request) {
  CO_RETURN_IF_ERROR(co_await EnsureManager());
  co_return co_await manager_->Push(std::move(request));
}

Task<absl::StatusOr<sync::SyncReport>> SessionSync::Do(SyncJob* job, StartSync request) {
  if (request.kind == SyncKind::kPush) {
    sync::PushRequest push{
        .force = request.force, .tell_odd = true, .wish = job->wish(), .listener = job};
    absl::StatusOr<sync::SyncReport> report = co_await Push(std::move(push));
    NotePush(report.status());
    co_return report;
  }
  CO_RETURN_IF_ERROR(co_await EnsureManager());
  if (request.kind == SyncKind::kRevert) {
    co_return co_await manager_->Revert(std::move(request.of_sync), job->wish(), job);
  }
  sync::PullRequest pull{.id = job->info().id,
                         .dry_run = request.kind == SyncKind::kPlan,
                         .approve_deletes = request.approve_deletes,
                         .salvage = request.salvage,
                         .wish = job->wish(),
                         .listener = job};
  co_return co_await manager_->Pull(std::move(pull));
}

SyncInfo SessionSync::Ended(const SyncJob& job,
                            const absl::StatusOr<sync::SyncReport>& report) const {
  SyncInfo info = job.info();
  info.end_time = deps_.clock.NowWall();
  if (report.ok()) {
    info.state = SyncState::kDone;
    info.report = *report;
  } else {
    // Mounts that had landed before stay so.
    info.report.revertible = info.kind == SyncKind::kPull && info.report.counts.applied > 0;
    info.state = SyncState::kInterrupted;
  }
  if (!report.ok() && !absl::IsCancelled(report.status())) {
    info.state = SyncState::kFailed;
    info.reason = ReasonName(report.status());
    info.message = std::string(report.status().message());
    info.report.suspect = suspect_;
  }
  if (info.report.revertible) {
    info.expire_time = *info.end_time + std::chrono::seconds(deps_.manager.undo.max_age_s);
  }
  return info;
}

Task<absl::Status> SessionSync::Store(const SyncJob* job, SyncInfo info) {
  StoredSync row{std::move(info), job->entries()};
  if (row.entries.size() > kStoredSyncEntries) row.entries.resize(kStoredSyncEntries);
  absl::Status status = co_await deps_.store.PutSync(std::move(row));
  if (!status.ok())
    LogError("a sync is not stored: " + std::string(status.message()), {.session = session_id_});
  co_return status;
}

Task<absl::StatusOr<StoredSync>> SessionSync::Find(std::string sync_id) {
  if (auto it = jobs_.find(sync_id); it != jobs_.end()) {
    const std::vector<sync::SyncEntry>& all = it->second->entries();
    const size_t kept = std::min(all.size(), kStoredSyncEntries);
    co_return StoredSync{it->second->info(), {all.begin(), all.begin() + kept}};
  }
  absl::StatusOr<std::optional<StoredSync>> row =
      co_await deps_.store.GetSync(session_id_, sync_id);
  if (!row.ok()) co_return row.status();
  if (!row->has_value()) {
    co_return Error(Reason::k_SYNC_UNKNOWN,
                    "there is no sync '" + sync_id + "' in session '" + session_id_ + "'",
                    {{"name", SyncName(session_id_, sync_id)}});
  }
  co_return **std::move(row);
}

Task<absl::StatusOr<std::vector<SyncInfo>>> SessionSync::List(std::string before, size_t limit) {
  absl::StatusOr<std::vector<SyncInfo>> rows =
      co_await deps_.store.ListSyncs(session_id_, std::move(before), limit);
  if (!rows.ok()) co_return rows.status();
  for (SyncInfo& row : *rows) {
    if (auto it = jobs_.find(row.id); it != jobs_.end()) row = it->second->info();
  }
  co_return rows;
}

Task<void> SessionSync::Abandon() {
  abandoned_ = true;
  co_await Quiesce();
  co_await tasks_.Join();
}

Task<void> SessionSync::Quiesce() {
  while (running_ > 0) {
    const std::set<WishPtr> wishes = wishes_;
    for (const WishPtr& wish : wishes) wish->Withdraw();
    co_await changed_.Wait();
  }
}

}  // namespace hermes
