#include "daemon/core/sqlite_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <type_traits>
#include <utility>

#include "daemon/runtime/pending.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// Calls that share one commit; at the limit the rest takes the next one. Bounds how long the first
// of them waits.
constexpr size_t kMaxBatch = 64;

bool Ok(const absl::Status& status) { return status.ok(); }
template <typename T>
bool Ok(const absl::StatusOr<T>& result) {
  return result.ok();
}

template <typename T>
Task<T> Answer(Pending<T> pending) {
  co_return co_await pending.Take();
}

}  // namespace

// One call: done on the store's thread, perhaps twice, answered once. A status is moved to the
// loop, never shared with it.
class SqliteStore::Job {
 public:
  virtual ~Job() = default;
  virtual bool Do(SqliteRows& rows) = 0;                  // false: it failed, the answer says how
  virtual void Answer(absl::Status begin_or_commit) = 0;  // an error outweighs what Do returned
};

template <typename T>
class SqliteStore::TypedJob : public Job {
 public:
  TypedJob(absl::AnyInvocable<T(SqliteRows&)> work, Pending<T> pending)
      : work_(std::move(work)), pending_(std::move(pending)) {}

  bool Do(SqliteRows& rows) override {
    result_.emplace(work_(rows));
    return Ok(*result_);
  }
  void Answer(absl::Status begin_or_commit) override {
    if (!begin_or_commit.ok()) result_.emplace(std::move(begin_or_commit));
    pending_.Set(*std::move(result_));
    result_.reset();
  }

 private:
  absl::AnyInvocable<T(SqliteRows&)> work_;
  std::optional<T> result_;
  Pending<T> pending_;
};

class SqliteStore::LockFile {
 public:
  explicit LockFile(int fd) : fd_(fd) {}
  ~LockFile() { close(fd_); }
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  static absl::StatusOr<std::unique_ptr<LockFile>> Take(const std::string& path) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return ErrnoStatus(errno, path);
    auto lock = std::make_unique<LockFile>(fd);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return lock;
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, path);
    return absl::FailedPreconditionError("another hermesd uses this store: " + path +
                                         " is locked; stop it, or take another state_dir");
  }

 private:
  const int fd_;
};

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(Loop& loop,
                                                               const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<LockFile> lock, LockFile::Take(path + ".lock"));
  ASSIGN_OR_RETURN(std::unique_ptr<SqliteDb> db, SqliteDb::Open(path));
  auto rows = std::make_unique<SqliteRows>(*db);
  RETURN_IF_ERROR(rows->Migrate());
  return std::unique_ptr<SqliteStore>(
      new SqliteStore(loop, std::move(lock), std::move(db), std::move(rows)));
}

SqliteStore::SqliteStore(Loop& loop, std::unique_ptr<LockFile> lock, std::unique_ptr<SqliteDb> db,
                         std::unique_ptr<SqliteRows> rows)
    : loop_(loop),
      lock_(std::move(lock)),
      db_(std::move(db)),
      rows_(std::move(rows)),
      thread_([this] { ThreadMain(); }) {}

SqliteStore::~SqliteStore() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyOne();
  thread_.join();
}

template <typename T>
Task<T> SqliteStore::Submit(absl::AnyInvocable<T(SqliteRows&)> work) {
  Pending<T> pending(loop_);
  {
    MutexLock lock(mutex_);
    queue_.push_back(std::make_unique<TypedJob<T>>(std::move(work), pending));
  }
  wake_.NotifyOne();
  return Answer(std::move(pending));
}

void SqliteStore::ThreadMain() {
  while (true) {
    Batch batch = NextBatch();
    if (batch.empty()) return;
    Do(std::move(batch));
  }
}

SqliteStore::Batch SqliteStore::NextBatch() {
  MutexLock lock(mutex_);
  while (queue_.empty() && !stopping_) wake_.Wait(mutex_);
  Batch batch;
  while (!queue_.empty() && batch.size() < kMaxBatch) {
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return batch;
}

void SqliteStore::Do(Batch batch) {
  const Jobs jobs(batch);
  if (jobs.size() > 1 && Commit(jobs).all_done) {
    for (const auto& job : jobs) job->Answer(absl::OkStatus());
    return;
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    jobs[i]->Answer(std::move(Commit(jobs.subspan(i, 1)).begin_or_commit));
  }
}

SqliteStore::Transaction SqliteStore::Commit(Jobs jobs) {
  Transaction transaction = {false, db_->Exec("BEGIN")};
  if (!transaction.begin_or_commit.ok()) return transaction;
  const bool all_done =
      std::all_of(jobs.begin(), jobs.end(), [this](const auto& job) { return job->Do(*rows_); });
  if (all_done) transaction.begin_or_commit = db_->Exec("COMMIT");
  transaction.all_done = all_done && transaction.begin_or_commit.ok();
  if (!transaction.all_done) db_->Rollback();
  return transaction;
}

Task<absl::StatusOr<SessionStore::Contents>> SqliteStore::Load(WallTime now) {
  return Submit<absl::StatusOr<Contents>>([now](SqliteRows& rows) { return rows.Load(now); });
}

Task<absl::Status> SqliteStore::PutSession(SessionInfo session) {
  return Submit<absl::Status>(
      [session = std::move(session)](SqliteRows& rows) { return rows.PutSession(session); });
}

Task<absl::Status> SqliteStore::DeleteSession(std::string session_id, WallTime now) {
  return Submit<absl::Status>([session_id = std::move(session_id), now](SqliteRows& rows) {
    return rows.DeleteSession(session_id, now);
  });
}

Task<absl::StatusOr<std::optional<SessionInfo>>> SqliteStore::AcceptCleanup(std::string request_id,
                                                                            SessionInfo session,
                                                                            WallTime now) {
  return Submit<absl::StatusOr<std::optional<SessionInfo>>>(
      [request_id = std::move(request_id), session = std::move(session), now](SqliteRows& rows) {
        return rows.AcceptCleanup(request_id, session, now);
      });
}

Task<absl::StatusOr<SessionStore::Accepted>> SqliteStore::AcceptCommand(CommandInfo command) {
  return Submit<absl::StatusOr<Accepted>>(
      [command = std::move(command)](SqliteRows& rows) { return rows.AcceptCommand(command); });
}

Task<absl::StatusOr<std::optional<CommandInfo>>> SqliteStore::FindRun(std::string run_id) {
  return Submit<absl::StatusOr<std::optional<CommandInfo>>>(
      [run_id = std::move(run_id)](SqliteRows& rows) { return rows.FindRun(run_id); });
}

Task<absl::Status> SqliteStore::DeleteCommand(std::string session_id, std::string id) {
  return Submit<absl::Status>([session_id = std::move(session_id), id = std::move(id)](
                                  SqliteRows& rows) { return rows.DeleteCommand(session_id, id); });
}

Task<absl::Status> SqliteStore::PutCommand(StoredCommand command) {
  return Submit<absl::Status>(
      [command = std::move(command)](SqliteRows& rows) { return rows.PutCommand(command); });
}

Task<absl::StatusOr<std::optional<StoredCommand>>> SqliteStore::GetCommand(std::string session_id,
                                                                           std::string id) {
  return Submit<absl::StatusOr<std::optional<StoredCommand>>>(
      [session_id = std::move(session_id), id = std::move(id)](SqliteRows& rows) {
        return rows.GetCommand(session_id, id);
      });
}

Task<absl::StatusOr<std::vector<CommandInfo>>> SqliteStore::ListCommands(std::string session_id,
                                                                         std::string before,
                                                                         size_t limit) {
  return Submit<absl::StatusOr<std::vector<CommandInfo>>>(
      [session_id = std::move(session_id), before = std::move(before), limit](SqliteRows& rows) {
        return rows.ListCommands(session_id, before, limit);
      });
}

Task<absl::StatusOr<SessionStore::AcceptedSync>> SqliteStore::AcceptSync(SyncInfo sync) {
  return Submit<absl::StatusOr<AcceptedSync>>(
      [sync = std::move(sync)](SqliteRows& rows) { return rows.AcceptSync(sync); });
}

Task<absl::Status> SqliteStore::PutSync(StoredSync sync) {
  return Submit<absl::Status>(
      [sync = std::move(sync)](SqliteRows& rows) { return rows.PutSync(sync); });
}

Task<absl::StatusOr<std::optional<StoredSync>>> SqliteStore::GetSync(std::string session_id,
                                                                     std::string id) {
  return Submit<absl::StatusOr<std::optional<StoredSync>>>(
      [session_id = std::move(session_id), id = std::move(id)](SqliteRows& rows) {
        return rows.GetSync(session_id, id);
      });
}

Task<absl::StatusOr<std::optional<SyncInfo>>> SqliteStore::FindSync(std::string session_id,
                                                                    std::string request_id) {
  return Submit<absl::StatusOr<std::optional<SyncInfo>>>(
      [session_id = std::move(session_id), request_id = std::move(request_id)](SqliteRows& rows) {
        return rows.FindSync(session_id, request_id);
      });
}

Task<absl::StatusOr<std::vector<SyncInfo>>> SqliteStore::ListSyncs(std::string session_id,
                                                                   std::string before,
                                                                   size_t limit) {
  return Submit<absl::StatusOr<std::vector<SyncInfo>>>(
      [session_id = std::move(session_id), before = std::move(before), limit](SqliteRows& rows) {
        return rows.ListSyncs(session_id, before, limit);
      });
}

Task<absl::StatusOr<std::vector<std::string>>> SqliteStore::Expire(Before before) {
  return Submit<absl::StatusOr<std::vector<std::string>>>(
      [before](SqliteRows& rows) { return rows.Expire(before); });
}

absl::StatusOr<std::unique_ptr<SessionStore>> OpenSqliteStore(Loop& loop, const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<SessionStore> store, SqliteStore::Open(loop, path));
  return store;
}

}  // namespace hermes
