#pragma once

// SqliteRows: the store's tables and every SQL statement of it, one method per method of
// SessionStore, without threads. Each method runs inside a transaction of the caller and may run
// again after a roll back. Owned by the store's thread.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/core/session_store.h"
#include "daemon/core/sqlite_db.h"

namespace hermes {

class SqliteRows {
 public:
  explicit SqliteRows(SqliteDb& db);

  // Brings the tables to this program's version. FAILED_PRECONDITION when a newer program made
  // them.
  absl::Status Migrate();

  absl::StatusOr<SessionStore::Contents> Load(WallTime now);
  absl::Status PutSession(const SessionInfo& session);
  absl::Status DeleteSession(const std::string& session_id, WallTime now);
  absl::StatusOr<std::optional<SessionInfo>> AcceptCleanup(const std::string& request_id,
                                                           const SessionInfo& session,
                                                           WallTime now);
  absl::StatusOr<SessionStore::Accepted> AcceptCommand(const CommandInfo& command);
  absl::StatusOr<std::optional<CommandInfo>> FindRun(const std::string& run_id);
  absl::Status DeleteCommand(const std::string& session_id, const std::string& id);
  absl::Status PutCommand(const StoredCommand& command);
  absl::StatusOr<std::optional<StoredCommand>> GetCommand(const std::string& session_id,
                                                          const std::string& id);
  absl::StatusOr<std::vector<CommandInfo>> ListCommands(const std::string& session_id,
                                                        const std::string& before, size_t limit);
  absl::StatusOr<SessionStore::AcceptedSync> AcceptSync(const SyncInfo& sync);
  absl::StatusOr<std::optional<SyncInfo>> FindSync(const std::string& session_id,
                                                   const std::string& request_id);
  absl::Status PutSync(const StoredSync& sync);
  absl::StatusOr<std::optional<StoredSync>> GetSync(const std::string& session_id,
                                                    const std::string& id);
  absl::StatusOr<std::vector<SyncInfo>> ListSyncs(const std::string& session_id,
                                                  const std::string& before, size_t limit);
  absl::StatusOr<std::vector<std::string>> Expire(SessionStore::Before before);

 private:
  absl::StatusOr<std::string> Meta(const std::string& name);  // empty: not there
  absl::Status SetMeta(const std::string& name, const std::string& value);
  absl::StatusOr<std::vector<SessionInfo>> LoadSessions();
  absl::StatusOr<std::vector<StoredCommand>> LoadLive();
  absl::Status InterruptSyncs(WallTime now);
  absl::Status TrimSyncs(const std::string& session_id);
  absl::StatusOr<int64_t> SequenceOf(const std::string& session_id, const std::string& before);

  SqliteDb& db_;
  std::string owner_;   // this store's daemon
  uint64_t epoch_ = 0;  // of this process

  SqliteStatement get_meta_, set_meta_, take_over_, load_sessions_, load_live_;
  SqliteStatement put_session_, delete_session_, spend_session_commands_;
  SqliteStatement accept_, find_run_, delete_command_, put_command_;
  SqliteStatement get_command_, get_sequence_, list_all_, list_session_;
  SqliteStatement expiring_, expire_, delete_expired_;
  SqliteStatement accept_sync_, find_sync_request_, put_sync_, get_sync_, get_sync_sequence_;
  SqliteStatement list_syncs_, load_running_syncs_, delete_session_syncs_, trim_syncs_;
  SqliteStatement expire_syncs_, accept_cleanup_, get_cleanup_, expire_cleanups_;
};

}  // namespace hermes
