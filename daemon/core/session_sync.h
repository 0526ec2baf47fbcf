#pragma once

// SessionSync: the files of one session: its SyncManager, made when it is first needed, and its
// syncs as jobs and rows. Owned by its Session, which brings the place to it and decides when; loop
// thread only; destroyed before the engine, after all calls have returned.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "daemon/core/model.h"
#include "daemon/core/requests.h"
#include "daemon/core/session_store.h"
#include "daemon/core/sync_job.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/task_group.h"
#include "daemon/runtime/wish.h"
#include "sync/manager.h"

namespace hermes {

inline constexpr size_t kMaxRunningSyncs = 16;  // of one session; one more is QUOTA_COMMANDS

class SessionSync {
 public:
  struct Deps {
    Loop& loop;
    Clock& clock;
    Random& random;
    SessionStore& store;
    sync::SyncManager::Deps manager;
  };
  SessionSync(Deps deps, std::string session_id, SyncSettings settings);
  ~SessionSync();

  // `place` is known, and the engine there is open; without one (null) only Revert works. The
  // engine outlives this. Called again: the place may be another one.
  void UsePlace(std::string place, Engine* engine);

  // Unless something runs: lets go of the host's ends, which hold descriptors, and of the engine.
  // They are opened again when they are needed.
  void LetGo();

  // Nothing has to be sent before a command. At most one system call for each mount.
  bool Clean();
  // A pull would write the host.
  bool WritesHost() const;

  // What a command asks for before it starts.
  struct Before {
    bool force = false;
    WishPtr wish = {};
    std::function<void(std::string run_id)> on_follow = nullptr;  // see sync::PushRequest
    uint32_t uid = 0;
  };
  // SYNC_FAILED names the first files. Leaves a row only if there is something to tell.
  Task<absl::Status> PushBefore(Before before);

  // The job that this request has begun, stored, or the one that an earlier request with its id
  // began. SYNC_UNKNOWN: of a revert's `of_sync`; BAD_FIELD: that is no pull.
  struct Accepted {
    std::shared_ptr<SyncJob> job;
    bool fresh = false;  // then Run() is due
  };
  Task<absl::StatusOr<Accepted>> Accept(StartSync request);
  // Does it, stores how it went, ends the job. `reached`: not OK, and the job fails with it.
  Task<void> Run(std::shared_ptr<SyncJob> job, StartSync request, absl::Status reached);

  Task<absl::StatusOr<StoredSync>> Find(std::string sync_id);  // SYNC_UNKNOWN
  // Newest first, see SessionStore::ListSyncs.
  Task<absl::StatusOr<std::vector<SyncInfo>>> List(std::string before, size_t limit);

  // Withdraws what runs, but for what has begun to land, and returns when nothing runs.
  Task<void> Quiesce();
  // For drain: and nothing of it runs when it returns.
  Task<void> Abandon();
  bool busy() const { return running_ > 0; }

  // See sync::SyncManager; remembered by the session over restarts.
  bool suspect() const { return suspect_; }
  void set_suspect(bool suspect) { suspect_ = suspect; }
  // Which files of the host a command over there does not see, as the far side holds versions of
  // its own; empty: none that is known of.
  std::string Conflicts() const;
  // Why the last push failed; OK: it did not, or all is there by now.
  const absl::Status& last_push() const { return last_push_; }

 private:
  Task<absl::Status> EnsureManager();
  Task<absl::StatusOr<sync::SyncReport>> Push(sync::PushRequest request);
  Task<absl::StatusOr<sync::SyncReport>> Do(SyncJob* job, StartSync request);
  Task<absl::Status> CheckRevert(std::string sync_id);
  size_t RunningJobs() const;
  Task<absl::StatusOr<Accepted>> Known(StartSync request, SyncInfo known);
  Task<absl::Status> StoreTrouble(const SyncJob* job, SyncInfo ended);
  Task<absl::Status> Store(const SyncJob* job, SyncInfo info);
  Task<void> StoreLater(std::shared_ptr<SyncJob> job);
  SyncInfo NewInfo(SyncKind kind, uint32_t uid) const;
  SyncInfo Ended(const SyncJob& job, const absl::StatusOr<sync::SyncReport>& report) const;
  absl::Status Explained(const SyncJob& job, const absl::Status& status) const;
  void NotePush(const absl::Status& pushed);
  void WarnOfConflicts(const SyncJob& job, const SyncInfo& ended) const;

  Deps deps_;
  const std::string session_id_;
  const SyncSettings settings_;
  std::string place_;
  Engine* engine_ = nullptr;
  std::unique_ptr<sync::SyncManager> manager_;
  bool opening_ = false;
  Event changed_;
  // By id: those that run, from before they have a row until their end is in it.
  std::map<std::string, std::shared_ptr<SyncJob>> jobs_;
  std::set<WishPtr> wishes_;  // of all that run
  size_t running_ = 0;
  bool suspect_ = false;
  absl::Status last_push_;
  // Of the last push before a command that left a row, until one goes without trouble.
  std::string last_told_;  // its entries
  std::string told_in_;    // its id
  bool abandoned_ = false;
  TaskGroup tasks_;
};

}  // namespace hermes
