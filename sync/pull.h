#pragma once

// SidePull: brings back what changed at the far end of one mount, in two halves: Look asks what
// there is, which all mounts do at once; Finish decides, fetches and lands, one mount after the
// other. Loop thread; the side and what the work refers to outlive it.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/runtime/task.h"
#include "sync/bundle.h"
#include "sync/land.h"
#include "sync/plan.h"
#include "sync/push.h"

namespace hermes::sync {

struct PullOptions {
  std::string land_id;       // unique below the host root
  std::string conflict_tag;  // see PullInput
  std::string lock_file;     // see LockRequest
  bool dry_run = false;
  bool approve_deletes = false;
  bool salvage = false;
};

// Takes back what landed under this id below the side's host root. RESULT_EXPIRED, SYNC_HELD,
// DISK_FULL; CANCELLED: nothing was changed.
Task<absl::Status> RevertSide(SideWork work, std::string land_id, std::string lock_file);

class SidePull {
 public:
  SidePull(SideWork work, PullOptions options)
      : work_(std::move(work)), options_(std::move(options)), pair_(work_.side->pair) {}

  Task<void> Look();            // once, first
  Task<absl::Status> Finish();  // once, then

 private:
  struct Fetched {
    Content content;   // of the bytes that came
    std::string slot;  // its name in the stage
  };
  struct Lack {
    std::string note;
    bool gone = false;
  };
  struct Batch {
    std::vector<Change> changes;
    std::vector<const Action*> landing;  // of each change
    std::vector<BaseChange> agreed;      // without moving anything
    bool copies = false;                 // some of what was fetched goes to the undo store
  };

  Task<absl::Status> LookOnce();
  Task<absl::Status> TryAll();
  Task<absl::Status> Try(bool last);
  std::vector<Action> Plan() const;
  absl::Status CheckLimits(const std::vector<Action>& actions) const;
  Task<void> KeepFetched(std::vector<Action> actions);
  Task<absl::Status> Receive(std::vector<Action> actions, bool last);
  Task<absl::Status> Fetch(std::vector<Action> actions, bool last);
  Task<absl::Status> Take(Bundle* bundle, std::string_view bytes);
  absl::Status TakeLies(const BundleResult& result);
  absl::Status TakeFiles(const BundleResult& result, const std::vector<WantedFile>& wanted,
                         bool last);
  Task<absl::Status> Land(bool last);
  Batch Sort(const std::vector<Action>& actions);
  Task<absl::StatusOr<LandReport>> LandStaged(std::vector<Change> changes);
  Task<absl::Status> Remember(std::vector<BaseChange> agreed);
  bool Overtaken(const Action& action) const;
  void TellOddities();
  void TellOdd(const std::string& name, Oddity oddity);
  void TellLacking(const Action& action);
  void Tell(const Action& action, Fate fate, std::string_view note);
  std::string WhereKept(const Action& action) const;
  void TellLanded(const Action& action, const LandResult& result);
  void CountLeft(const Action& action);

  const SideWork work_;
  const PullOptions options_;
  const std::shared_ptr<MountPair> pair_;

  absl::Status looked_;
  std::string base_epoch_;  // the base as of the look
  FileMap base_;
  std::string far_epoch_;    // that the look found
  bool base_holds_ = false;  // the far end is the one that the base is of
  bool exists_ = false;
  Manifest far_;
  Manifest withheld_;  // what else is there, under names of secrets
  // Over all attempts: what came whole is not asked for again.
  std::optional<Stage> stage_;
  uint32_t next_slot_ = 0;
  std::map<RelPath, Fetched> fetched_;
  std::map<RelPath, Lack> lacking_;       // wanted and not fetched, and why
  std::map<RelPath, std::string> notes_;  // on what was fetched
};

}  // namespace hermes::sync
