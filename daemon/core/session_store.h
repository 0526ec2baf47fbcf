#pragma once

// SessionStore: durable truth behind a small interface. Every method is one transaction; when it
// returns OK the change survives the death of this process (after power loss the last seconds may
// be forgotten: synchronous=NORMAL). Calls run in the order they are made. Loop thread; the SQLite
// one does its work on a thread of its own. Errors: DISK_FULL (nothing changed), STORE_CORRUPT,
// BUG.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/core/model.h"
#include "daemon/core/output_log.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// A finished or running command with what is kept of its output.
struct StoredCommand {
  CommandInfo info;
  OutputLog::Saved output;
  bool forgotten = false;       // the far side was told to drop its record
  bool output_expired = false;  // only the knowledge is left that it existed
};

struct StoredSync {
  SyncInfo info;
  std::vector<sync::SyncEntry> entries;  // the first kStoredSyncEntries
};
inline constexpr size_t kStoredSyncs = 1'000;  // of one session; at the limit the oldest goes

class SessionStore {
 public:
  virtual ~SessionStore() = default;

  struct Contents {
    std::string daemon_id;  // made once, short and random
    std::vector<SessionInfo> sessions;
    std::vector<StoredCommand>
        live_commands;  // not ended, or not drained, or not forgotten: to be taken up again
  };
  // Everything that a starting daemon needs. First call; takes over from a dead daemon (epoch + 1):
  // syncs that were running are INTERRUPTED, and end `now`.
  virtual Task<absl::StatusOr<Contents>> Load(WallTime now) = 0;

  // Inserts or replaces. `owner` and `epoch` are the store's to fill in.
  virtual Task<absl::Status> PutSession(SessionInfo session) = 0;
  // With its commands and syncs. The run ids stay known, as of commands of no session, until their
  // time is over; one that has no end yet ends `now`.
  virtual Task<absl::Status> DeleteSession(std::string session_id, WallTime now) = 0;

  // Write-ahead of a cleanup that has a request id. If the id is known, nothing changes, and the
  // session that it was about is returned as it was then; else nullopt.
  virtual Task<absl::StatusOr<std::optional<SessionInfo>>> AcceptCleanup(std::string request_id,
                                                                         SessionInfo session,
                                                                         WallTime now) = 0;

  // Write-ahead of a start. If the run id is known, of whatever session, nothing changes and the
  // known one is returned.
  struct Accepted {
    bool fresh = false;
    CommandInfo existing;  // when !fresh
  };
  virtual Task<absl::StatusOr<Accepted>> AcceptCommand(CommandInfo command) = 0;

  // A known run id within retention, ended and expired ones included, and those of sessions that
  // are gone.
  virtual Task<absl::StatusOr<std::optional<CommandInfo>>> FindRun(std::string run_id) = 0;

  // Removes the row of a command that was certainly not started: its run id is free again.
  virtual Task<absl::Status> DeleteCommand(std::string session_id, std::string id) = 0;

  // Replaces the command's row. One that is gone (also with its session) stays gone: OK.
  virtual Task<absl::Status> PutCommand(StoredCommand command) = 0;

  virtual Task<absl::StatusOr<std::optional<StoredCommand>>> GetCommand(std::string session_id,
                                                                        std::string id) = 0;

  // Newest first, after `before` (a command id, exclusive; empty: from the newest), at most
  // `limit`. Empty session: all sessions, and `before` is "session/id". BAD_FIELD when `before` is
  // gone.
  virtual Task<absl::StatusOr<std::vector<CommandInfo>>> ListCommands(std::string session_id,
                                                                      std::string before,
                                                                      size_t limit) = 0;

  // Write-ahead of a sync that somebody asked for. If the request id (of this session, not empty)
  // is known, nothing changes and the known one is returned.
  struct AcceptedSync {
    bool fresh = false;
    SyncInfo existing;  // when !fresh
  };
  virtual Task<absl::StatusOr<AcceptedSync>> AcceptSync(SyncInfo sync) = 0;

  // The sync that was accepted with this request id (not empty), if its row is kept.
  virtual Task<absl::StatusOr<std::optional<SyncInfo>>> FindSync(std::string session_id,
                                                                 std::string request_id) = 0;

  // A sync's row with its first entries, made or replaced. One whose session was deleted stays
  // gone: OK. Of each session the newest kStoredSyncs are kept.
  virtual Task<absl::Status> PutSync(StoredSync sync) = 0;
  virtual Task<absl::StatusOr<std::optional<StoredSync>>> GetSync(std::string session_id,
                                                                  std::string id) = 0;
  // Newest first, without entries, after `before` (exclusive; empty: from the newest). BAD_FIELD
  // when `before` is gone.
  virtual Task<absl::StatusOr<std::vector<SyncInfo>>> ListSyncs(std::string session_id,
                                                                std::string before,
                                                                size_t limit) = 0;

  // Drops outputs of commands that ended before `results` (their rows stay, so that RESULT_EXPIRED
  // can be told), whole rows of those that ended before `requests`, and of cleanups accepted before
  // that, and syncs made before `syncs`; what is still to be taken up or runs stays. Returns the
  // prefixes (session/id) of commands whose files may go.
  struct Before {
    WallTime results;
    WallTime requests;
    WallTime syncs;
  };
  virtual Task<absl::StatusOr<std::vector<std::string>>> Expire(Before before) = 0;
};

// Opens (or makes) the database file, 0600, and keeps an flock on "<path>.lock". Blocking; before
// the loop runs. Fails with a plain message for people when another daemon holds the lock or a
// newer program made the file, with STORE_CORRUPT when it is no database.
absl::StatusOr<std::unique_ptr<SessionStore>> OpenSqliteStore(Loop& loop, const std::string& path);

}  // namespace hermes
