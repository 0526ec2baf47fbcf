#pragma once

// SqliteStore: the SessionStore that a single daemon embeds. Its calls go to one queue and one
// thread; those that wait together share a transaction, and each is answered after the commit. When
// one of them fails they are all rolled back and made again one by one, so that a failure stays
// alone. An flock on "<path>.lock" keeps a second daemon away from the same store.

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "daemon/core/session_store.h"
#include "daemon/core/sqlite_db.h"
#include "daemon/core/sqlite_rows.h"
#include "daemon/runtime/mutex.h"

namespace hermes {

class SqliteStore : public SessionStore {
 public:
  // Blocking, for any thread. FAILED_PRECONDITION: another daemon has it, or a newer one made it.
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(Loop& loop, const std::string& path);
  ~SqliteStore() override;  // does what is queued, then joins

  Task<absl::StatusOr<Contents>> Load(WallTime now) override;
  Task<absl::Status> PutSession(SessionInfo session) override;
  Task<absl::Status> DeleteSession(std::string session_id, WallTime now) override;
  Task<absl::StatusOr<std::optional<SessionInfo>>> AcceptCleanup(std::string request_id,
                                                                 SessionInfo session,
                                                                 WallTime now) override;
  Task<absl::StatusOr<Accepted>> AcceptCommand(CommandInfo command) override;
  Task<absl::StatusOr<std::optional<CommandInfo>>> FindRun(std::string run_id) override;
  Task<absl::Status> DeleteCommand(std::string session_id, std::string id) override;
  Task<absl::Status> PutCommand(StoredCommand command) override;
  Task<absl::StatusOr<std::optional<StoredCommand>>> GetCommand(std::string session_id,
                                                                std::string id) override;
  Task<absl::StatusOr<std::vector<CommandInfo>>> ListCommands(std::string session_id,
                                                              std::string before,
                                                              size_t limit) override;
  Task<absl::StatusOr<AcceptedSync>> AcceptSync(SyncInfo sync) override;
  Task<absl::Status> PutSync(StoredSync sync) override;
  Task<absl::StatusOr<std::optional<StoredSync>>> GetSync(std::string session_id,
                                                          std::string id) override;
  Task<absl::StatusOr<std::optional<SyncInfo>>> FindSync(std::string session_id,
                                                         std::string request_id) override;
  Task<absl::StatusOr<std::vector<SyncInfo>>> ListSyncs(std::string session_id, std::string before,
                                                        size_t limit) override;
  Task<absl::StatusOr<std::vector<std::string>>> Expire(Before before) override;

 private:
  class Job;
  template <typename T>
  class TypedJob;
  class LockFile;
  using Batch = std::vector<std::unique_ptr<Job>>;
  using Jobs = std::span<const std::unique_ptr<Job>>;
  struct Transaction {
    bool all_done = false;
    absl::Status begin_or_commit;
  };

  SqliteStore(Loop& loop, std::unique_ptr<LockFile> lock, std::unique_ptr<SqliteDb> db,
              std::unique_ptr<SqliteRows> rows);

  // Queues `work` now, not when the task is first awaited: calls run in the order they are made.
  template <typename T>
  Task<T> Submit(absl::AnyInvocable<T(SqliteRows&)> work);

  void ThreadMain();
  Batch NextBatch();  // empty: the end
  void Do(Batch batch);
  Transaction Commit(Jobs jobs);  // all of them, or it rolls back

  Loop& loop_;
  const std::unique_ptr<LockFile> lock_;
  const std::unique_ptr<SqliteDb> db_;      // the thread's
  const std::unique_ptr<SqliteRows> rows_;  // the thread's

  Mutex mutex_;
  CondVar wake_;
  // Grows with callers that wait for an answer; their number is capped by the limits on sessions
  // and commands.
  std::deque<std::unique_ptr<Job>> queue_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace hermes
