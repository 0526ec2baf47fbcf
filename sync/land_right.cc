#include "sync/land_right.h"

#include <utility>

#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

constexpr uint64_t kFirstLockPauseMs = 20;  // and as much again at random

absl::Status Withdrawn() { return absl::CancelledError("nobody waits for this sync any more"); }

}  // namespace

Task<absl::StatusOr<LandRight>> TakeLandRight(SideWork work, std::string lock_file) {
  const SyncDeps& deps = work.deps;
  const MountPair& pair = *work.side->pair;
  const LockRequest request{std::move(lock_file), {pair.root_key()}, pair.root.fd()};
  const SteadyTime deadline = deps.clock.Now() + kMaxLockWait;
  for (bool told = false;; told = true) {
    if (IsWithdrawn(work.wish)) co_return Withdrawn();
    {
      MountPair::Turn turn = co_await MountPair::TakeTurn(work.side->pair);
      if (IsWithdrawn(work.wish)) co_return Withdrawn();
      absl::StatusOr<SyncLock> lock =
          co_await deps.workers.Run([&deps, &request] { return deps.locks.TryAcquire(request); });
      if (lock.ok()) co_return LandRight{std::move(turn), *std::move(lock)};
      if (ReasonOf(lock.status()) != Reason::k_SYNC_HELD || deps.clock.Now() >= deadline)
        co_return lock.status();
    }
    if (!told) work.meter->Phase("waiting");
    co_await deps.clock.SleepFor(
        std::chrono::milliseconds(kFirstLockPauseMs + deps.random.Below(kFirstLockPauseMs)));
  }
}

}  // namespace hermes::sync
