#pragma once

// MountPair: the host's end of a mount with what is remembered of the far end: one object for all
// sessions of this daemon whose mounts have the same two roots, limits, rules about names and
// links, and both or neither written by a pull, so that they share the watch, the base and their
// turns. MountPairs finds or makes it. Loop thread; blocking work goes to the workers.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/workers.h"
#include "sync/base.h"
#include "sync/fs.h"
#include "sync/host_root.h"
#include "sync/host_tree.h"
#include "sync/lock.h"
#include "sync/mount.h"
#include "sync/undo.h"

namespace hermes::sync {

// Pairs of one daemon that the kernel tells of changes: each takes one of the few inotify instances
// of its account (128 by default). The others are scanned, which is as right and slower.
inline constexpr size_t kMaxWatchedPairs = 64;

class MountPair {
 public:
  MountPair(Loop& loop, const Clock& clock, const Mount& mount, HostRoot host, Base known,
            bool may_watch);

  // Whoever refreshes the tree, changes the base or moves files for this pair has the turn; given
  // in the order of asking. Nobody waits for the sync lock while they have it, nor the other way.
  class Turn {
   public:
    explicit Turn(std::shared_ptr<MountPair> pair) : pair_(std::move(pair)) {}
    Turn(Turn&&) = default;
    Turn& operator=(Turn&&) = delete;
    ~Turn();

   private:
    std::shared_ptr<MountPair> pair_;
  };
  static Task<Turn> TakeTurn(std::shared_ptr<MountPair> pair);
  bool busy() const { return serving_ != next_ticket_; }

  RootKey root_key() const { return {root.device(), root.inode()}; }

  const HostRoot root;
  Base base;
  HostTree tree;
  const bool watched;     // it was allowed to be
  SteadyTime stats_at{};  // when all stat keys were looked at, and all bytes
  SteadyTime bytes_at{};

  // The far end has shown or taken our epoch, and nothing says that it is another one now.
  bool met = false;
  uint64_t doubts = 0;  // how often that was taken back: an answer to what was asked before is none
  // The base before this one, until a push has ended well: a far end whose token was lost and which
  // still holds such a version has not edited it.
  FileMap before;
  // The tree's generation up to which everything is over there or refused.
  std::optional<uint64_t> pushed;
  // Host versions (nullopt: a deletion) that the far end did not take, as it holds a version that
  // nobody knew of: offered again once the host moves on, or a pull has looked.
  std::map<RelPath, MaybeContent> refused;
  // What the last look found over there that never travels, as far as it is remembered.
  FileMap withheld;
  bool recovered = false;  // no landing below the root waits for its end

 private:
  Event freed_;
  uint64_t next_ticket_ = 0;
  uint64_t serving_ = 0;
};

// BAD_FIELD: two of these mounts, of one session, lead to the same files of the host, and one of
// them is written by a pull. Their paths alone do not say so: there are links. Blocks.
absl::Status CheckApart(const std::vector<Mount>& mounts,
                        const std::vector<const HostRoot*>& roots);

class MountPairs {
 public:
  struct Deps {
    Loop& loop;
    Clock& clock;
    Workers& workers;
    Fs& fs;
    SyncLocks& locks;
    HostFence fence;
    std::string base_dir;  // exists, the daemon's own
  };
  explicit MountPairs(Deps deps) : deps_(std::move(deps)), opened_(deps_.loop) {}

  // All mounts of one session. BAD_FIELD, with "field" and "mount": a host root is refused, see
  // HostRoot::Open, or two of them lead to the same files, see CheckApart. Makes nothing but
  // missing last parts.
  Task<absl::Status> Check(std::vector<Mount> mounts);

  // `place` names the account and machine of the far end. BAD_FIELD as Check; SYNC_HELD: another
  // daemon with this state directory has the base open.
  Task<absl::StatusOr<std::shared_ptr<MountPair>>> Get(Mount mount, std::string place);

  // Ends what a kill or a power cut interrupted below the mount's host root, and drops the undo
  // that is beyond these limits, unless somebody syncs there right now. `lock_file`: see
  // LockRequest.
  Task<absl::Status> Recover(Mount mount, std::string lock_file, UndoLimits undo);

 private:
  Task<absl::StatusOr<std::shared_ptr<MountPair>>> FindOrMake(Mount mount, std::string key);
  bool MayWatch() const;

  Deps deps_;
  std::map<std::string, std::weak_ptr<MountPair>> pairs_;
  std::set<std::string> opening_;
  Event opened_;
};

}  // namespace hermes::sync
