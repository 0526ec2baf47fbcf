#pragma once

// FakeClock: time that moves only when a test says so. It runs the loop itself, so that what a due
// alarm sets off happens before the next one: Advance and AdvanceToNext belong to the thread that
// would otherwise call Loop::RunReady(), and never run inside a handler. Handles may outlive it.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"

namespace hermes {

class FakeClock : public Clock {
 public:
  explicit FakeClock(Loop& loop) : loop_(loop), alarms_(std::make_shared<Alarms>()) {}

  SteadyTime Now() const override;
  WallTime NowWall() const override;

  // An alarm that is due already runs on the next turn of the loop, as with the real clock.
  std::unique_ptr<Alarm> At(SteadyTime when, absl::AnyInvocable<void()> due) override;

  // Runs what is ready, then lets `duration` pass: every alarm within it, also one armed on the
  // way, runs at its own time, ties in the order in which they were armed.
  void Advance(Duration duration);

  // Runs what is ready, then jumps to the next alarm and runs it and what it made ready. False,
  // and no time passes, if there is none.
  bool AdvanceToNext();

  // Jumps to the next alarm and runs nothing yet: what is due is posted.
  bool PostNext();

  size_t alarms() const { return alarms_->size(); }

 private:
  using Key = std::pair<SteadyTime, uint64_t>;  // when, order of arming
  using Alarms = std::map<Key, absl::AnyInvocable<void()>>;
  class Handle;

  void PostFire(Key key);
  void RunNext();

  Loop& loop_;
  std::atomic<int64_t> passed_ns_{0};
  uint64_t armed_ = 0;
  std::shared_ptr<Alarms> alarms_;  // of those neither run nor cancelled
};

}  // namespace hermes
