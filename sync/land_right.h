#pragma once

// LandRight: what whoever moves files of the host has: the pair's turn, and the lock that other
// programs honour. Loop thread.

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"
#include "sync/lock.h"
#include "sync/mount_pair.h"
#include "sync/mount_side.h"

namespace hermes::sync {

inline constexpr Duration kMaxLockWait = std::chrono::seconds(60);  // then SYNC_HELD

// The lock may be given back first.
struct LandRight {
  MountPair::Turn turn;
  std::optional<SyncLock> lock;
};

// SYNC_HELD, CANCELLED. Each time the lock is held, the turn is given back until the next one.
Task<absl::StatusOr<LandRight>> TakeLandRight(SideWork work, std::string lock_file);

}  // namespace hermes::sync
