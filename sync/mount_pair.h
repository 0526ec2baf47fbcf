#pragma once

// MountPair: the host's end of a mount with what is remembered of the far end: one object for all
// sessions of this daemon whose mounts are the same pair of roots with the same rules about names,
// so that they share the watch, the base and their turns. MountPairs finds or makes it. Loop
// thread; blocking work goes to the workers.

#include <cstdint>
#include <map>
#include <memory>
#include <string>

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
#include "sync/ignore.h"
#include "sync/lock.h"
#include "sync/mount.h"

namespace hermes::sync {

class MountPair {
 public:
  MountPair(Loop& loop, const Clock& clock, Mount mount, HostRoot root, Base base);

  // Whoever looks at the tree, changes the base or writes to either side for this pair has the
  // turn; given in the order of asking. Never held while the sync lock is waited for.
  class Turn {
   public:
    explicit Turn(std::shared_ptr<MountPair> pair) : pair_(std::move(pair)) {}
    Turn(Turn&&) = default;
    Turn& operator=(Turn&&) = default;
    ~Turn();

   private:
    std::shared_ptr<MountPair> pair_;
  };
  static Task<Turn> TakeTurn(std::shared_ptr<MountPair> pair);
  bool busy() const { return busy_; }

  RootKey root_key() const { return {root.device(), root.inode()}; }

  const Mount mount;  // of the first session; policies are each session's own
  const IgnoreList ignore;
  const HostRoot root;
  // With the turn only:
  HostTree tree;
  Base base;
  SteadyTime looked_at_stats{};  // when tree was last refreshed with kStats, and with kBytes
  SteadyTime looked_at_bytes{};

  // What is known of the far end, without the turn.
  bool met = false;     // it has shown or taken our epoch, and the place is still the same
  uint64_t pushed = 0;  // generation of the tree up to which everything was sent
  // Versions of the host that the far end did not take because it holds another one; sent again
  // once one of the two moves. nullopt: a deletion.
  std::map<RelPath, MaybeContent> refused;

 private:
  friend class MountPairs;
  Event freed_;
  uint64_t next_ticket_ = 0;
  uint64_t serving_ = 0;
  bool busy_ = false;
};

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
  explicit MountPairs(Deps deps) : deps_(std::move(deps)), changed_(deps_.loop) {}

  // BAD_FIELD: the host root is refused, see HostRoot::Open. Makes nothing but a missing last part.
  Task<absl::Status> Check(Mount mount);

  // `place` names the far end's account and machine. Ends what a kill interrupted below the root.
  // SYNC_HELD: another daemon with this state directory has it open.
  Task<absl::StatusOr<std::shared_ptr<MountPair>>> Get(Mount mount, std::string place);

 private:
  Deps deps_;
  std::map<std::string, std::weak_ptr<MountPair>> pairs_;
  Event changed_;
};

}  // namespace hermes::sync
