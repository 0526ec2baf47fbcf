#pragma once

// SessionTable: every session of this daemon by id: creation, look-up, lists, watching, the reaper,
// caps, take-up after a restart, drain. One per daemon, owned by main; loop thread only.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/core/engines.h"
#include "daemon/core/requests.h"
#include "daemon/core/session.h"
#include "daemon/core/session_store.h"
#include "daemon/core/stats.h"
#include "daemon/core/sync_job.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/task_group.h"
#include "daemon/runtime/workers.h"

namespace hermes {

struct TableLimits {
  uint32_t max_sessions = 20'000;  // at the limit: QUOTA_SESSIONS
  uint32_t max_sessions_per_uid = 20'000;
  uint32_t max_commands = 4'000;  // running, all sessions; at the limit: QUOTA_COMMANDS
  uint32_t max_commands_per_uid = 4'000;
  uint32_t max_commands_per_session = 2'000;
  uint64_t output_spool_bytes = 64ull << 30;  // all kept output files; at the limit: SPOOL_FULL
  Duration result_retention = std::chrono::hours(1);
  Duration request_id_retention = std::chrono::hours(24);
};

class SessionTable {
 public:
  struct Deps {
    Loop& loop;
    Clock& clock;
    Random& random;
    Workers& workers;
    SessionStore& store;
    Stats& stats;
    EngineFactory& engines;
    std::string spool_dir;
    TableLimits limits;
    sync::SyncManager::Deps sync;  // of every session with mounts
    std::string hermes_home = {};  // where a sync lock is shared with others, if it is a directory
  };
  explicit SessionTable(Deps deps);
  ~SessionTable();

  // First call: sessions from the store; live commands are taken up, and output files without a row
  // removed, in the background.
  void Load(SessionStore::Contents contents);

  // BAD_FIELD names the mount whose host root is refused. The name of an ended session may be taken
  // again: what is kept of that one, the rows that undo needs included, goes at once.
  Task<absl::StatusOr<SessionInfo>> Create(CreateSession request);

  // SESSION_UNKNOWN. CLOSED, FAILED and LOST sessions are found until their names are taken or
  // retention ends.
  absl::StatusOr<std::shared_ptr<Session>> Find(const std::string& id) const;

  // The session that a cleanup is to close. A repeat by its request id (empty: none) is about the
  // session of the first call: where another one has taken the name since, `session` is null, and
  // `ended` is what is known of the first. REQUEST_ID_REUSED: it was about another name.
  struct CleanupTarget {
    std::shared_ptr<Session> session;
    SessionInfo ended;
  };
  Task<absl::StatusOr<CleanupTarget>> AcceptCleanup(std::string id, std::string request_id);

  Task<absl::StatusOr<Session::StartResult>> Start(StartCommand request);

  // Begins a sync, or finds the one that this request id has begun. CAPABILITY_MISSING: the session
  // has no mounts. Whoever wants it to go on without them adds themselves as a watcher first.
  Task<absl::StatusOr<std::shared_ptr<SyncJob>>> Sync(StartSync request);
  // SYNC_UNKNOWN.
  Task<absl::StatusOr<StoredSync>> FindSync(std::string session_id, std::string sync_id);
  // Newest first, after `before` (an id, exclusive; empty: from the newest). BAD_FIELD when
  // `before` is gone.
  Task<absl::StatusOr<std::vector<SyncInfo>>> ListSyncs(std::string session_id, std::string before,
                                                        size_t limit);

  // Sessions after `after` in name order that match, at most `limit`.
  struct Filter {
    std::optional<SessionState> state;
    std::string backend;
    Labels labels;
    bool Matches(const SessionInfo& info) const;
  };
  std::vector<SessionInfo> List(const Filter& filter, const std::string& after, size_t limit) const;

  // The commands of all sessions that are not drained yet: after Load, those of an earlier daemon.
  std::vector<std::shared_ptr<CommandRun>> Runs() const;

  // Watching by sequence: every shown change of a session gets a new number.
  struct Change {
    uint64_t seq = 0;
    std::string id;
    bool removed = false;
  };
  // The next change after `seq`, if there is one; wait on changed().
  std::optional<Change> NextChange(uint64_t seq) const;
  uint64_t last_seq() const { return seq_; }
  Event& changed() { return changed_; }

  const TableLimits& limits() const { return deps_.limits; }
  Stats& stats() { return deps_.stats; }

  // No more work is admitted (DRAINING); running commands are let go of, not killed. Streams are
  // the caller's.
  Task<void> Drain();
  // After Drain, and once no place is waited for any more: nothing of it runs when it returns.
  Task<void> Join() { return tasks_.Join(); }
  bool draining() const { return draining_; }

 private:
  struct Entry {
    std::shared_ptr<Session> session;
    uint64_t seq = 0;
    // Between two tries to close it when its time is over; grows while it is refused.
    Duration reap_pause{0};
    SteadyTime next_reap = {};
  };
  Session::Deps SessionDeps();
  absl::Status AdmitSession(const CreateSession& request) const;
  absl::Status AdmitCommand(uint32_t uid);
  static absl::Status ReusedError(const std::string& request_id);
  absl::StatusOr<std::shared_ptr<Session>> Earlier(const CreateSession& request) const;
  Task<std::string> DefaultLockFile();
  SessionInfo NewSessionInfo(CreateSession request) const;
  Task<absl::StatusOr<std::shared_ptr<Session>>> Make(CreateSession request);
  Task<absl::Status> Forget(std::shared_ptr<Session> session);
  bool Holds(const Session& session) const;
  void Erase(const Session& session);
  bool Outlived(const Session& session) const;
  void NoteChange(const std::string& id, bool removed);
  Task<void> Opened(std::shared_ptr<Session> session, std::string sudo_password);
  std::string_view Lapse(Session& session) const;
  Task<void> Reap(std::shared_ptr<Session> session);
  void PutOff(const std::string& id);
  Task<void> Expire();
  Task<void> SweepOrphans();
  Task<void> RecoverMounts();
  void Sweep();
  void ArmSweep();

  Deps deps_;
  std::map<std::string, Entry> sessions_;
  std::map<std::string, std::string> request_ids_;  // of CreateSession -> session id
  std::map<uint64_t, Change> changes_;              // the newest of each session, and tombstones
  std::deque<uint64_t> tombstones_;
  uint64_t seq_ = 0;
  Event changed_;
  bool draining_ = false;
  std::unique_ptr<Clock::Alarm> sweep_alarm_;
  SteadyTime next_expire_;
  uint64_t spool_bytes_ = 0;           // as of the last look
  uint64_t written_at_last_look_ = 0;  // output and kept stdin, by the stats, then
  TaskGroup tasks_;
};

}  // namespace hermes
