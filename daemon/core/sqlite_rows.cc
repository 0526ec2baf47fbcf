#include "daemon/core/sqlite_rows.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "daemon/core/codec.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kDaemonIdBytes = 6;  // it is part of socket paths, which must stay short

// Columns are what is searched for; all else is in `data` (codec.h). A command is `live` while a
// starting daemon must take it up; `expired` once its output was dropped. seq is the order of
// acceptance. One whose session is gone keeps its row for the run id: it has session_id '' and the
// run id as its id. lease_time is for several daemons on one store, which do not exist yet.
constexpr char kVersion1[] = R"sql(
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sessions(
  id TEXT PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL, lease_time INTEGER,
  state INTEGER NOT NULL, expire_time INTEGER, data BLOB NOT NULL);
CREATE TABLE commands(
  seq INTEGER PRIMARY KEY, session_id TEXT NOT NULL, id TEXT NOT NULL, run_id TEXT NOT NULL,
  state INTEGER NOT NULL, live INTEGER NOT NULL, expired INTEGER NOT NULL, end_time INTEGER,
  data BLOB NOT NULL, out BLOB, err BLOB);
CREATE UNIQUE INDEX commands_by_id ON commands(session_id, id);
CREATE UNIQUE INDEX commands_by_run ON commands(run_id, session_id);
CREATE INDEX commands_by_order ON commands(session_id, seq);
CREATE INDEX commands_by_end ON commands(expired, end_time) WHERE end_time IS NOT NULL;
CREATE INDEX commands_live ON commands(seq) WHERE live = 1;
)sql";

// A sync is found by its request id as long as its row is kept; seq is the order of beginning.
constexpr char kVersion2[] = R"sql(
CREATE TABLE syncs(
  seq INTEGER PRIMARY KEY, session_id TEXT NOT NULL, id TEXT NOT NULL, request_id TEXT NOT NULL,
  state INTEGER NOT NULL, create_time INTEGER NOT NULL, data BLOB NOT NULL, entries BLOB);
CREATE UNIQUE INDEX syncs_by_id ON syncs(session_id, id);
CREATE UNIQUE INDEX syncs_by_request ON syncs(session_id, request_id) WHERE request_id <> '';
CREATE INDEX syncs_by_order ON syncs(session_id, seq);
CREATE INDEX syncs_by_time ON syncs(create_time);
)sql";

// A run id is one for all sessions. Where two sessions had used the same, the later one keeps its
// row, and is no longer found by it.
constexpr char kVersion3[] = R"sql(
DROP INDEX commands_by_run;
UPDATE commands SET run_id = run_id || ' ' || seq
  WHERE seq NOT IN (SELECT MIN(seq) FROM commands GROUP BY run_id);
CREATE UNIQUE INDEX commands_by_run ON commands(run_id);
)sql";

// Which session a cleanup was about, by its request id: a name may be taken again.
constexpr char kVersion4[] = R"sql(
CREATE TABLE cleanups(request_id TEXT PRIMARY KEY, time INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX cleanups_by_time ON cleanups(time);
)sql";

// The n-th makes version n + 1 out of version n.
using Migration = absl::Status (*)(SqliteDb&);
constexpr Migration kMigrations[] = {
    [](SqliteDb& db) { return db.Exec(kVersion1); },
    [](SqliteDb& db) { return db.Exec(kVersion2); },
    [](SqliteDb& db) { return db.Exec(kVersion3); },
    [](SqliteDb& db) { return db.Exec(kVersion4); },
};

int64_t Count(WallTime time) { return time.time_since_epoch().count(); }

std::optional<int64_t> Count(const std::optional<WallTime>& time) {
  return time ? std::optional<int64_t>(Count(*time)) : std::nullopt;
}

std::optional<SqlBlob> InlineBytes(const StoredCommand& command, OutputStream stream) {
  const std::string& bytes = command.output.stream[static_cast<size_t>(stream)].inline_bytes;
  return bytes.empty() || command.output_expired ? std::nullopt
                                                 : std::optional<SqlBlob>(SqlBlob{bytes});
}

bool Live(const StoredCommand& command) {
  return !command.info.outcome.has_value() || !command.forgotten;
}

// Of a row that begins with data, expired.
absl::StatusOr<StoredCommand> CommandOf(const SqliteStatement& row) {
  ASSIGN_OR_RETURN(StoredCommand command, DecodeCommand(row.Text(0)));
  command.output_expired = row.Int(1) != 0;
  if (command.output_expired) command.output = {};
  return command;
}

// Of a row: data, expired, out, err.
absl::StatusOr<StoredCommand> CommandWithOutputOf(const SqliteStatement& row) {
  ASSIGN_OR_RETURN(StoredCommand command, CommandOf(row));
  for (size_t i = 0; i < kOutputStreams; ++i) {
    command.output.stream[i].inline_bytes = row.Text(2 + static_cast<int>(i));
  }
  return command;
}

constexpr auto kRunning = static_cast<int64_t>(SyncState::kRunning);

constexpr char kSpendCommands[] =
    "UPDATE commands SET session_id = '', id = run_id, live = 0, expired = 1, out = NULL, "
    "err = NULL, end_time = COALESCE(end_time, ?2) WHERE session_id = ?1";

}  // namespace

SqliteRows::SqliteRows(SqliteDb& db)
    : db_(db),
      get_meta_(db, "SELECT value FROM meta WHERE name = ?"),
      set_meta_(db,
                "INSERT INTO meta(name, value) VALUES(?, ?) "
                "ON CONFLICT(name) DO UPDATE SET value = excluded.value"),
      take_over_(db, "UPDATE sessions SET owner = ?, epoch = ?"),
      load_sessions_(db, "SELECT id, data FROM sessions ORDER BY id"),
      load_live_(db, "SELECT data, expired, out, err FROM commands WHERE live = 1 ORDER BY seq"),
      put_session_(db,
                   "INSERT INTO sessions(id, owner, epoch, state, expire_time, data) "
                   "VALUES(?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET "
                   "owner = excluded.owner, epoch = excluded.epoch, state = excluded.state, "
                   "expire_time = excluded.expire_time, data = excluded.data"),
      delete_session_(db, "DELETE FROM sessions WHERE id = ?"),
      spend_session_commands_(db, kSpendCommands),
      accept_(db,
              "INSERT INTO commands(session_id, id, run_id, state, live, expired, end_time, data) "
              "VALUES(?, ?, ?, ?, 1, 0, ?, ?) ON CONFLICT DO NOTHING"),
      find_run_(db, "SELECT data, expired FROM commands WHERE run_id = ?"),
      delete_command_(db, "DELETE FROM commands WHERE session_id = ? AND id = ?"),
      put_command_(db,
                   "UPDATE commands SET state = ?, live = ?, expired = ?, end_time = ?, data = ?, "
                   "out = ?, err = ? WHERE session_id = ? AND id = ?"),
      get_command_(db,
                   "SELECT data, expired, out, err FROM commands WHERE session_id = ? AND id = ?"),
      get_sequence_(db, "SELECT seq FROM commands WHERE session_id = ? AND id = ?"),
      list_all_(db,
                "SELECT data, expired FROM commands WHERE session_id <> '' AND seq < ? "
                "ORDER BY seq DESC LIMIT ?"),
      list_session_(db,
                    "SELECT data, expired FROM commands WHERE session_id = ? AND seq < ? "
                    "ORDER BY seq DESC LIMIT ?"),
      expiring_(db,
                "SELECT session_id, id FROM commands "
                "WHERE end_time < ? AND live = 0 AND expired = 0 ORDER BY end_time"),
      expire_(db,
              "UPDATE commands SET expired = 1, out = NULL, err = NULL "
              "WHERE end_time < ? AND live = 0 AND expired = 0"),
      delete_expired_(db, "DELETE FROM commands WHERE end_time < ? AND live = 0 AND expired = 1"),
      accept_sync_(
          db,
          "INSERT INTO syncs(session_id, id, request_id, state, create_time, data) "
          "SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS(SELECT 1 FROM sessions WHERE id = ?1) "
          "ON CONFLICT DO NOTHING"),
      find_sync_request_(db, "SELECT data FROM syncs WHERE session_id = ? AND request_id = ?"),
      put_sync_(db,
                "INSERT INTO syncs(session_id, id, request_id, state, create_time, data, entries) "
                "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 "
                "WHERE EXISTS(SELECT 1 FROM sessions WHERE id = ?1) "
                "ON CONFLICT(session_id, id) DO UPDATE SET "
                "state = excluded.state, data = excluded.data, entries = excluded.entries"),
      get_sync_(db, "SELECT data, entries FROM syncs WHERE session_id = ? AND id = ?"),
      get_sync_sequence_(db, "SELECT seq FROM syncs WHERE session_id = ? AND id = ?"),
      list_syncs_(db,
                  "SELECT data FROM syncs WHERE session_id = ? AND seq < ? "
                  "ORDER BY seq DESC LIMIT ?"),
      load_running_syncs_(db, "SELECT data FROM syncs WHERE state = ? ORDER BY seq"),
      delete_session_syncs_(db, "DELETE FROM syncs WHERE session_id = ?"),
      trim_syncs_(
          db,
          "DELETE FROM syncs WHERE session_id = ?1 AND state <> ?2 AND seq <= "
          "(SELECT seq FROM syncs WHERE session_id = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?3)"),
      expire_syncs_(db, "DELETE FROM syncs WHERE create_time < ? AND state <> ?"),
      accept_cleanup_(db,
                      "INSERT INTO cleanups(request_id, time, data) VALUES(?, ?, ?) "
                      "ON CONFLICT DO NOTHING"),
      get_cleanup_(db, "SELECT data FROM cleanups WHERE request_id = ?"),
      expire_cleanups_(db, "DELETE FROM cleanups WHERE time < ?") {}

absl::Status SqliteRows::Migrate() {
  const int64_t latest = std::size(kMigrations);
  SqliteStatement get_version(db_, "PRAGMA user_version");
  RETURN_IF_ERROR(get_version.Bind().Next().status());
  const int64_t version = get_version.Int(0);
  get_version.Reset();
  if (version > latest) {
    return absl::FailedPreconditionError("the store was made by a newer hermesd (its version is " +
                                         std::to_string(version) + ", this program knows up to " +
                                         std::to_string(latest) + ")");
  }
  for (int64_t next = version; next < latest; ++next) {
    RETURN_IF_ERROR(db_.Exec("BEGIN"));
    absl::Status status = kMigrations[next](db_);
    if (status.ok()) status = db_.Exec("PRAGMA user_version = " + std::to_string(next + 1));
    if (status.ok()) status = db_.Exec("COMMIT");
    if (!status.ok()) {
      db_.Rollback();
      return status;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SqliteRows::Meta(const std::string& name) {
  ASSIGN_OR_RETURN(const bool found, get_meta_.Bind(name).Next());
  std::string value = found ? get_meta_.Text(0) : "";
  get_meta_.Reset();
  return value;
}

absl::Status SqliteRows::SetMeta(const std::string& name, const std::string& value) {
  return set_meta_.Bind(name, value).Run();
}

absl::StatusOr<SessionStore::Contents> SqliteRows::Load(WallTime now) {
  SessionStore::Contents contents;
  ASSIGN_OR_RETURN(contents.daemon_id, Meta("daemon_id"));
  if (contents.daemon_id.empty()) {
    contents.daemon_id = SystemRandom().Hex(kDaemonIdBytes);
    RETURN_IF_ERROR(SetMeta("daemon_id", contents.daemon_id));
  }
  ASSIGN_OR_RETURN(const std::string last_epoch, Meta("epoch"));
  epoch_ = std::strtoull(last_epoch.c_str(), nullptr, 10) + 1;
  owner_ = contents.daemon_id;
  RETURN_IF_ERROR(SetMeta("epoch", std::to_string(epoch_)));
  RETURN_IF_ERROR(take_over_.Bind(owner_, static_cast<int64_t>(epoch_)).Run());
  ASSIGN_OR_RETURN(contents.sessions, LoadSessions());
  ASSIGN_OR_RETURN(contents.live_commands, LoadLive());
  RETURN_IF_ERROR(InterruptSyncs(now));
  return contents;
}

absl::StatusOr<std::vector<SessionInfo>> SqliteRows::LoadSessions() {
  std::vector<SessionInfo> sessions;
  load_sessions_.Bind();
  while (true) {
    ASSIGN_OR_RETURN(const bool found, load_sessions_.Next());
    if (!found) return sessions;
    absl::StatusOr<SessionInfo> session = DecodeSession(load_sessions_.Text(1));
    if (!session.ok()) {
      return Error(Reason::k_STORE_CORRUPT, "session " + load_sessions_.Text(0) + ": " +
                                                std::string(session.status().message()));
    }
    session->owner = owner_;
    session->epoch = epoch_;
    sessions.push_back(*std::move(session));
  }
}

absl::StatusOr<std::vector<StoredCommand>> SqliteRows::LoadLive() {
  std::vector<StoredCommand> commands;
  load_live_.Bind();
  while (true) {
    ASSIGN_OR_RETURN(const bool found, load_live_.Next());
    if (!found) return commands;
    ASSIGN_OR_RETURN(StoredCommand command, CommandWithOutputOf(load_live_));
    commands.push_back(std::move(command));
  }
}

absl::Status SqliteRows::PutSession(const SessionInfo& session) {
  const std::string data = EncodeSession(session);
  return put_session_
      .Bind(session.id, owner_, static_cast<int64_t>(epoch_), static_cast<int64_t>(session.state),
            Count(session.expire_time), SqlBlob{data})
      .Run();
}

absl::Status SqliteRows::DeleteSession(const std::string& session_id, WallTime now) {
  RETURN_IF_ERROR(spend_session_commands_.Bind(session_id, Count(now)).Run());
  RETURN_IF_ERROR(delete_session_syncs_.Bind(session_id).Run());
  return delete_session_.Bind(session_id).Run();
}

absl::StatusOr<std::optional<SessionInfo>> SqliteRows::AcceptCleanup(const std::string& request_id,
                                                                     const SessionInfo& session,
                                                                     WallTime now) {
  const std::string data = EncodeSession(session);
  RETURN_IF_ERROR(accept_cleanup_.Bind(request_id, Count(now), SqlBlob{data}).Run());
  if (db_.ChangedRows() == 1) return std::nullopt;
  RETURN_IF_ERROR(get_cleanup_.Bind(request_id).Next().status());
  absl::StatusOr<SessionInfo> known = DecodeSession(get_cleanup_.Text(0));
  get_cleanup_.Reset();
  RETURN_IF_ERROR(known.status());
  return *std::move(known);
}

absl::StatusOr<SessionStore::Accepted> SqliteRows::AcceptCommand(const CommandInfo& command) {
  SessionStore::Accepted accepted;
  StoredCommand stored;
  stored.info = command;
  const std::string data = EncodeCommand(stored);
  RETURN_IF_ERROR(accept_
                      .Bind(command.session_id, command.id, command.run_id,
                            static_cast<int64_t>(command.state), Count(command.end_time),
                            SqlBlob{data})
                      .Run());
  accepted.fresh = db_.ChangedRows() == 1;
  if (accepted.fresh) return accepted;
  ASSIGN_OR_RETURN(std::optional<CommandInfo> existing, FindRun(command.run_id));
  if (!existing) return Error(Reason::k_BUG, "the command id is taken: " + command.id);
  accepted.existing = *std::move(existing);
  return accepted;
}

absl::StatusOr<std::optional<CommandInfo>> SqliteRows::FindRun(const std::string& run_id) {
  ASSIGN_OR_RETURN(const bool found, find_run_.Bind(run_id).Next());
  if (!found) return std::nullopt;
  ASSIGN_OR_RETURN(StoredCommand command, CommandOf(find_run_));
  find_run_.Reset();
  return std::move(command.info);
}

absl::Status SqliteRows::DeleteCommand(const std::string& session_id, const std::string& id) {
  return delete_command_.Bind(session_id, id).Run();
}

absl::Status SqliteRows::PutCommand(const StoredCommand& command) {
  const std::string data = EncodeCommand(command);
  return put_command_
      .Bind(static_cast<int64_t>(command.info.state), static_cast<int64_t>(Live(command)),
            static_cast<int64_t>(command.output_expired), Count(command.info.end_time),
            SqlBlob{data}, InlineBytes(command, OutputStream::kStdout),
            InlineBytes(command, OutputStream::kStderr), command.info.session_id, command.info.id)
      .Run();
}

absl::StatusOr<std::optional<StoredCommand>> SqliteRows::GetCommand(const std::string& session_id,
                                                                    const std::string& id) {
  ASSIGN_OR_RETURN(const bool found, get_command_.Bind(session_id, id).Next());
  if (!found) return std::nullopt;
  ASSIGN_OR_RETURN(StoredCommand command, CommandWithOutputOf(get_command_));
  get_command_.Reset();
  return command;
}

absl::StatusOr<int64_t> SqliteRows::SequenceOf(const std::string& session_id,
                                               const std::string& before) {
  if (before.empty()) return std::numeric_limits<int64_t>::max();
  const size_t slash = before.find('/');
  const std::string session = session_id.empty() ? before.substr(0, slash) : session_id;
  const std::string id =
      session_id.empty() && slash != std::string::npos ? before.substr(slash + 1) : before;
  ASSIGN_OR_RETURN(const bool found, get_sequence_.Bind(session, id).Next());
  if (!found) return BadField("page_token", "this page is no longer kept; list from the start");
  const int64_t sequence = get_sequence_.Int(0);
  get_sequence_.Reset();
  return sequence;
}

absl::StatusOr<std::vector<CommandInfo>> SqliteRows::ListCommands(const std::string& session_id,
                                                                  const std::string& before,
                                                                  size_t limit) {
  ASSIGN_OR_RETURN(const int64_t sequence, SequenceOf(session_id, before));
  const auto most = static_cast<int64_t>(std::min<size_t>(limit, 1 << 30));
  SqliteStatement& list = session_id.empty() ? list_all_.Bind(sequence, most)
                                             : list_session_.Bind(session_id, sequence, most);
  std::vector<CommandInfo> commands;
  while (true) {
    ASSIGN_OR_RETURN(const bool found, list.Next());
    if (!found) return commands;
    ASSIGN_OR_RETURN(StoredCommand command, CommandOf(list));
    commands.push_back(std::move(command.info));
  }
}

absl::Status SqliteRows::InterruptSyncs(WallTime now) {
  std::vector<SyncInfo> running;
  load_running_syncs_.Bind(kRunning);
  while (true) {
    ASSIGN_OR_RETURN(const bool found, load_running_syncs_.Next());
    if (!found) break;
    ASSIGN_OR_RETURN(SyncInfo sync, DecodeSync(load_running_syncs_.Text(0)));
    running.push_back(std::move(sync));
  }
  for (SyncInfo& sync : running) {
    sync.state = SyncState::kInterrupted;
    sync.end_time = now;
    // Whether it has landed anything only the undo store knows.
    sync.report.revertible = sync.kind == SyncKind::kPull;
    RETURN_IF_ERROR(PutSync({std::move(sync), {}}));
  }
  return absl::OkStatus();
}

absl::StatusOr<SessionStore::AcceptedSync> SqliteRows::AcceptSync(const SyncInfo& sync) {
  SessionStore::AcceptedSync accepted;
  const std::string data = EncodeSync(sync);
  RETURN_IF_ERROR(accept_sync_
                      .Bind(sync.session_id, sync.id, sync.request_id,
                            static_cast<int64_t>(sync.state), Count(sync.create_time),
                            SqlBlob{data})
                      .Run());
  accepted.fresh = db_.ChangedRows() == 1;
  if (accepted.fresh) {
    RETURN_IF_ERROR(TrimSyncs(sync.session_id));
    return accepted;
  }
  ASSIGN_OR_RETURN(std::optional<SyncInfo> existing, FindSync(sync.session_id, sync.request_id));
  if (!existing)
    return Error(Reason::k_BUG, "no session for the sync, or its id is taken: " + sync.id);
  accepted.existing = *std::move(existing);
  return accepted;
}

absl::StatusOr<std::optional<SyncInfo>> SqliteRows::FindSync(const std::string& session_id,
                                                             const std::string& request_id) {
  if (request_id.empty()) return std::nullopt;
  ASSIGN_OR_RETURN(const bool found, find_sync_request_.Bind(session_id, request_id).Next());
  if (!found) return std::nullopt;
  ASSIGN_OR_RETURN(SyncInfo sync, DecodeSync(find_sync_request_.Text(0)));
  find_sync_request_.Reset();
  return sync;
}

absl::Status SqliteRows::PutSync(const StoredSync& sync) {
  const std::string data = EncodeSync(sync.info);
  const std::string entries = EncodeSyncEntries(sync.entries);
  RETURN_IF_ERROR(put_sync_
                      .Bind(sync.info.session_id, sync.info.id, sync.info.request_id,
                            static_cast<int64_t>(sync.info.state), Count(sync.info.create_time),
                            SqlBlob{data}, SqlBlob{entries})
                      .Run());
  return TrimSyncs(sync.info.session_id);
}

absl::Status SqliteRows::TrimSyncs(const std::string& session_id) {
  return trim_syncs_.Bind(session_id, kRunning, static_cast<int64_t>(kStoredSyncs)).Run();
}

absl::StatusOr<std::optional<StoredSync>> SqliteRows::GetSync(const std::string& session_id,
                                                              const std::string& id) {
  ASSIGN_OR_RETURN(const bool found, get_sync_.Bind(session_id, id).Next());
  if (!found) return std::nullopt;
  StoredSync sync;
  ASSIGN_OR_RETURN(sync.info, DecodeSync(get_sync_.Text(0)));
  const std::string entries = get_sync_.Text(1);
  get_sync_.Reset();
  if (entries.empty()) return sync;
  ASSIGN_OR_RETURN(sync.entries, DecodeSyncEntries(entries));
  return sync;
}

absl::StatusOr<std::vector<SyncInfo>> SqliteRows::ListSyncs(const std::string& session_id,
                                                            const std::string& before,
                                                            size_t limit) {
  int64_t sequence = std::numeric_limits<int64_t>::max();
  if (!before.empty()) {
    ASSIGN_OR_RETURN(const bool found, get_sync_sequence_.Bind(session_id, before).Next());
    if (!found) return BadField("page_token", "this page is no longer kept; list from the start");
    sequence = get_sync_sequence_.Int(0);
    get_sync_sequence_.Reset();
  }
  list_syncs_.Bind(session_id, sequence, static_cast<int64_t>(std::min<size_t>(limit, 1 << 30)));
  std::vector<SyncInfo> syncs;
  while (true) {
    ASSIGN_OR_RETURN(const bool found, list_syncs_.Next());
    if (!found) return syncs;
    ASSIGN_OR_RETURN(SyncInfo sync, DecodeSync(list_syncs_.Text(0)));
    syncs.push_back(std::move(sync));
  }
}

absl::StatusOr<std::vector<std::string>> SqliteRows::Expire(SessionStore::Before before) {
  // What is deleted expires with it, so that its files are named, too.
  const int64_t results = Count(std::max(before.results, before.requests));
  std::vector<std::string> dropped;
  expiring_.Bind(results);
  while (true) {
    ASSIGN_OR_RETURN(const bool found, expiring_.Next());
    if (!found) break;
    dropped.push_back(expiring_.Text(0) + "/" + expiring_.Text(1));
  }
  RETURN_IF_ERROR(expire_.Bind(results).Run());
  RETURN_IF_ERROR(delete_expired_.Bind(Count(before.requests)).Run());
  RETURN_IF_ERROR(expire_syncs_.Bind(Count(before.syncs), kRunning).Run());
  RETURN_IF_ERROR(expire_cleanups_.Bind(Count(before.requests)).Run());
  return dropped;
}

}  // namespace hermes
