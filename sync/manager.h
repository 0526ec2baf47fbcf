#pragma once

// SyncManager: all mounts of one session: sends what changed on the host before a command, brings
// back what changed over there, takes a pull back. The only orchestration in sync; it knows a
// RemoteTree per mount and not what is behind it. Owned by the session; loop thread; destroyed
// after all calls have returned.
//
// Promise: a Push sends every change of the host that was finished before the call. A Pull loses no
// edit of either side: what does not stay under its name is in the undo store, and is reported.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"
#include "sync/mount_side.h"
#include "sync/remote_tree.h"
#include "sync/report.h"

namespace hermes::sync {

struct PushRequest {
  bool force = false;     // looks at every file of the host by its stat keys, whatever was noticed
  bool tell_odd = false;  // entries also for what never travels: links, special files, odd names
  WishPtr wish = {};      // withdrawn: ends soon, CANCELLED
  SyncListener* listener = nullptr;
  // Called at most once, soon: a command may be started that follows this push (CommandSpec::after)
  // and starts only if it succeeds. Not called where it cannot, or where there is nothing to send.
  std::function<void(std::string run_id)> on_follow = nullptr;
};

struct PullRequest {
  std::string id;        // of the sync; its undo is kept under it
  bool dry_run = false;  // tells the plan, changes nothing on either side
  bool approve_deletes = false;
  bool salvage = false;  // of a place that lies, take what is in order
  WishPtr wish = {};     // withdrawn before it lands: CANCELLED, and nothing was changed
  SyncListener* listener = nullptr;
};

class SyncManager {
 public:
  using Deps = SyncDeps;
  struct Setup {
    std::string session_id;
    std::string place;          // see MountPairs::Get
    std::string home;           // over there, see CheckFarApart; empty: not known
    bool here = false;          // the far side is this host, as this account
    std::vector<Mount> mounts;  // of a MountTable
    std::string lock_file;      // see LockRequest
    Duration min_interval{0};   // between two pushes that nobody forces
    std::function<std::unique_ptr<RemoteTree>()> new_tree;  // one for each mount
  };

  // Opens all host roots and bases; asks nothing of the far side. BAD_FIELD (see CheckApart and
  // CheckFarApart, too; or one end of a mount lies in the other), SYNC_HELD. A mount whose two ends
  // are one directory is left alone by all calls, which tell so by an entry.
  static Task<absl::StatusOr<std::unique_ptr<SyncManager>>> Open(Deps deps, Setup setup);
  ~SyncManager();

  // True: a Push that is not forced would find nothing. One system call for each watched mount.
  bool Clean();

  // All mounts at once. SYNC_FAILED: some file could not be sent or placed, the others were;
  // entries say which. Conflicts are no failure: the far side's version stays until a pull.
  // BACKEND_UNREACHABLE after 3 attempts.
  Task<absl::StatusOr<SyncReport>> Push(PushRequest request);

  // All mounts, one after the other. SYNC_FAILED: a mount's root cannot be used, or the place lied
  // (report it as suspect(), and salvage on demand); SYNC_HELD: somebody else has the sync lock;
  // DISK_FULL. Mounts that were landed before a failure stay landed, under the same id.
  Task<absl::StatusOr<SyncReport>> Pull(PullRequest request);

  // Puts the host back to what it was before a pull, file by file, but for files edited since. A
  // later push takes that to the far side. RESULT_EXPIRED, SYNC_HELD, DISK_FULL;
  // CANCELLED: the wish was withdrawn, and mounts that had not begun stay as they are.
  Task<absl::StatusOr<SyncReport>> Revert(std::string id, WishPtr wish, SyncListener* listener);

  // Files of the host that the far side did not take, as it holds versions that nobody knew of;
  // they stay until a pull. At most `most` names of them.
  struct Refused {
    size_t count = 0;
    std::vector<std::string> names = {};
  };
  Refused refused(size_t most) const;

  // The place was replaced, or may have been: nothing is believed of the far side until it shows
  // our epochs again.
  void Distrust();

  // The place has lied in a pull, and no pull with salvage has gone without a lie since.
  bool suspect() const { return suspect_; }
  void set_suspect(bool suspect) { suspect_ = suspect; }  // as a session remembers it

 private:
  SyncManager(Deps deps, Setup setup);
  // Of the far ends of all sides, on this host.
  absl::Status CheckHere();
  void TellSame(SyncMeter* meter) const;
  static std::string LandId(const std::string& sync, size_t side);
  void Count(const SyncReport& report) const;

  const Deps deps_;
  const Setup setup_;
  std::vector<std::unique_ptr<MountSide>> sides_;
  std::vector<std::string> same_;  // ids of mounts whose two ends are one directory
  std::optional<SteadyTime> last_push_;
  bool suspect_ = false;
};

}  // namespace hermes::sync
