#pragma once

// Session: name, owner, state machine, and its running commands; owns one Sandbox, one Engine and
// the syncs of its mounts. Every transition is written to the store before it is shown. Owned by
// the SessionTable; loop thread only. Its life is in session.cc, its commands in
// session_commands.cc, its mounts in session_files.cc, its end in session_close.cc.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "daemon/core/command_run.h"
#include "daemon/core/engines.h"
#include "daemon/core/model.h"
#include "daemon/core/requests.h"
#include "daemon/core/session_store.h"
#include "daemon/core/session_sync.h"
#include "daemon/core/stats.h"
#include "daemon/core/sync_job.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/task_group.h"

namespace hermes {

class Session : public std::enable_shared_from_this<Session> {
 public:
  struct Deps {
    Loop& loop;
    Clock& clock;
    Random& random;
    SessionStore& store;
    Stats& stats;
    EngineFactory& engines;
    const sync::SyncManager::Deps& sync;
    std::string spool_dir;
    uint32_t max_commands_per_session = 0;
    std::function<absl::Status(uint32_t uid)> admit_command;  // the caps over all sessions
    std::function<void(const Session&)> on_change;  // after every shown change, for watchers
  };

  Session(Deps deps, SessionInfo info);
  ~Session();

  const SessionInfo& info() const { return info_; }
  SessionInfo Shown() const;  // with what is counted, not stored
  // Of a FAILED session why; after a restart what its condition kept of that. Else OK.
  absl::Status open_error() const;
  Event& changed() { return changed_; }
  size_t running() const;
  int readers() const;
  std::vector<std::shared_ptr<CommandRun>> runs() const;  // not drained yet
  bool syncing() const { return sync_ != nullptr && sync_->busy(); }
  SteadyTime last_active() const { return last_active_; }
  void NoteActive() { last_active_ = deps_.clock.Now(); }
  // What a command that does not run yet waits for: "connecting" or "launching".
  std::string_view phase() const;
  bool live() const;  // OPENING, READY, DEGRADED or CLOSING

  // Opens the place; ends in READY or FAILED. `sudo_password` stays in memory.
  Task<void> Open(std::string sudo_password);

  // Returns when the state is no longer OPENING.
  Task<void> WaitOpened();

  // Takes up a stored command after a restart: known from now on, and adopted, or ended truthfully,
  // as soon as the place can be reached.
  void TakeUp(StoredCommand command);

  struct StartResult {
    StartResult(std::shared_ptr<CommandRun> r, bool e) : run(std::move(r)), existing(e) {}
    std::shared_ptr<CommandRun> run;
    bool existing = false;  // started by an earlier request with the same id
  };
  // At most one process for a run id. Returns when the command was handed to the engine (or is an
  // existing one), or while the host's changes are sent before it: then it is handed over, or fails
  // (CommandRun::start_error), in the background.
  Task<absl::StatusOr<StartResult>> Start(StartCommand request);

  // A command of this session, running or kept. COMMAND_UNKNOWN, RESULT_EXPIRED.
  Task<absl::StatusOr<std::shared_ptr<CommandRun>>> Find(std::string command_id);

  // See SessionTable.
  Task<absl::StatusOr<std::shared_ptr<SyncJob>>> Sync(StartSync request);
  Task<absl::StatusOr<StoredSync>> FindSync(std::string sync_id);
  Task<absl::StatusOr<std::vector<SyncInfo>>> ListSyncs(std::string before, size_t limit);

  Task<absl::Status> Update(UpdateSession request);
  Task<absl::StatusOr<SessionInfo>> Renew(Duration extend);

  // Kills, pulls, releases, CLOSED. Waits for one under way; goes on where one that failed stopped.
  // PULL_PENDING: something in the mounts is not on the host; the session is READY again. Another
  // error leaves it CLOSING, to be closed again. With discard a place that cannot be reached is
  // left as it is: CLOSED, and the condition LEFT_BEHIND says so.
  struct CloseRequest {
    Duration grace{0};
    bool discard = false;  // gives up what is not on the host; joins one under way
    uint32_t uid = 0;
  };
  struct ClosePhase {
    std::string_view name;  // "killing", "syncing", "releasing"
  };
  struct KilledCommand {
    std::string command_id;
    TreeReport tree;
  };
  // A SyncInfo is that of the pull, when it has ended.
  using CloseEvent = std::variant<ClosePhase, KilledCommand, SyncInfo>;
  using CloseProgress = absl::AnyInvocable<void(CloseEvent)>;  // may be null
  Task<absl::Status> Close(CloseRequest request, CloseProgress progress);
  bool closing() const { return closing_; }  // at this moment

  // Lets go of everything without touching the place: for drain.
  Task<void> Abandon();

 private:
  Task<absl::Status> EnsureEngine();
  Task<absl::Status> OpenEngine();
  Task<absl::Status> Save();
  void SaveLater();
  Task<void> SaveSoon(std::shared_ptr<Session> self);
  Task<absl::Status> SetState(SessionState state);
  absl::Status Admit(const StartCommand& request) const;
  CommandInfo NewCommandInfo(const StartCommand& request);
  static absl::Status ReusedError(const std::string& run_id);
  absl::Status ExpiredError(const std::string& id) const;
  absl::Status CheckIncarnation(const std::string& expected) const;
  Task<absl::Status> Reach();
  Task<absl::Status> ReachFor(std::shared_ptr<CommandRun> run, std::string expected_incarnation);
  Task<absl::Status> HandOver(StartCommand request, std::shared_ptr<CommandRun> run);
  void TakeOver(std::shared_ptr<CommandRun> run, std::unique_ptr<Channel> channel, bool feed);
  bool MustPush(const StartCommand& request);
  struct Following;
  Task<void> PushThenStart(std::shared_ptr<Session> self, StartCommand request,
                           std::shared_ptr<CommandRun> run);
  Task<absl::Status> PushFor(StartCommand* request, std::shared_ptr<CommandRun> run, WishPtr wish,
                             std::shared_ptr<Following> following);
  Task<void> StartFollowing(std::shared_ptr<Session> self, StartCommand request,
                            std::shared_ptr<CommandRun> run, std::shared_ptr<Following> following);
  Task<absl::StatusOr<std::unique_ptr<Channel>>> StartAgain(CommandRun* run,
                                                            std::shared_ptr<CommandSpec> spec,
                                                            std::shared_ptr<Following> following);
  Task<absl::StatusOr<std::unique_ptr<Channel>>> StartIn(std::shared_ptr<CommandRun> run,
                                                         const CommandSpec* spec,
                                                         std::string incarnation);
  bool NoteConflicts();
  Task<void> NoteSync();
  Task<void> NoteSync(const SyncInfo& ended);
  Task<absl::Status> ReachUnless(WishPtr wish);
  Task<void> ReachInto(std::shared_ptr<Session> self,
                       std::shared_ptr<std::optional<absl::Status>> reached);
  Task<void> RunSync(std::shared_ptr<Session> self, std::shared_ptr<SyncJob> job,
                     StartSync request);
  Task<absl::StatusOr<StartResult>> AttachToKnown(StartCommand request, CommandInfo known);
  absl::StatusOr<std::shared_ptr<CommandRun>> Restored(StoredCommand row);
  Task<void> Adopt(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run);
  Task<void> PauseFor(Duration duration, std::shared_ptr<CommandRun> run);
  Task<void> EndUnadopted(std::shared_ptr<CommandRun> run, bool same_place);
  Task<void> RunCommand(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run,
                        std::unique_ptr<Channel> channel);
  void Track(std::shared_ptr<CommandRun> run);
  void Untrack(const CommandRun& run);
  Task<void> AfterEnd(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run);
  std::string SpoolPrefix(const CommandInfo& info) const;
  Task<absl::Status> KeepStdin(const CommandRun* run, std::string data);
  Task<void> FeedStdin(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run);
  using ProgressPtr = std::shared_ptr<CloseProgress>;
  Task<absl::Status> ReleaseAndClose(CloseRequest request, ProgressPtr progress);
  Task<absl::Status> Release(CloseRequest request, ProgressPtr progress);
  Task<absl::Status> ReleasePlace(CloseRequest request, ProgressPtr progress);
  Task<absl::Status> PullBeforeRelease(CloseRequest close, ProgressPtr progress);
  absl::Status PullPending(const std::string& why) const;
  Task<void> KillAll(std::vector<std::shared_ptr<CommandRun>> runs, Duration grace,
                     ProgressPtr progress);
  struct Killing;
  Task<void> KillOne(std::shared_ptr<CommandRun> run, std::shared_ptr<Killing> killing);
  Task<void> LeavePlace(absl::Status why);
  void Drop(const std::shared_ptr<CommandRun>& run);
  absl::Status Withdraw(const std::shared_ptr<CommandRun>& run, absl::Status why);
  Task<absl::Status> TakeBack(std::shared_ptr<CommandRun> run, absl::Status why);
  Task<void> EndUnstarted(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run);
  OutputLog::Options LogOptions(const CommandInfo& info) const;
  std::unique_ptr<OutputLog> NewLog(const CommandInfo& info);
  CommandRun::Deps RunDeps();
  void NoteLostSecret();
  absl::Status NotReady() const;
  bool SetCondition(std::string_view type, std::string_view reason, std::string message);
  bool ClearCondition(std::string_view type);
  bool HasCondition(std::string_view type) const;
  static constexpr char kSyncStale[] = "SYNC_STALE";
  static constexpr char kSyncConflict[] = "SYNC_CONFLICT";
  static constexpr char kSyncSuspect[] = "SYNC_SUSPECT";
  static constexpr char kPullPending[] = "PULL_PENDING";
  static constexpr char kLeftBehind[] = "LEFT_BEHIND";
  void NoteReachable(bool reachable);
  void NoteIncarnation(std::string incarnation, uint64_t generation);

  Deps deps_;
  SessionInfo info_;
  std::string sudo_password_;
  absl::Status open_error_;
  std::unique_ptr<Sandbox> sandbox_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<SessionSync> sync_;  // null: no mounts
  bool engine_opening_ = false;
  // Withdrawn: closed while it was opening, or let go of.
  const WishPtr first_place_ = std::make_shared<Wish>();
  bool reachable_ = true;  // false: READY is shown as DEGRADED
  bool save_pending_ = false;
  bool closing_ = false;
  bool engine_closed_ = false;
  bool released_ = false;
  bool abandoned_ = false;
  std::map<std::string, std::shared_ptr<CommandRun>> runs_;  // by command id: those not drained yet
  std::map<std::string, std::weak_ptr<CommandRun>> seen_runs_;  // drained ones somebody still holds
  std::map<std::string, std::string> run_ids_;                  // run id -> command id, of runs_
  Event changed_;
  SteadyTime last_active_;
  TaskGroup tasks_;
};

}  // namespace hermes
