#pragma once

// Time as an argument. Nothing below main reads a clock or arms a timer except through this
// interface, so the simulator can own all of time. Loop thread, except NowWall and Now, which any
// thread may call.

#include <chrono>
#include <memory>

#include <asio/steady_timer.hpp>

#include "absl/functional/any_invocable.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

using Duration = std::chrono::nanoseconds;
using SteadyTime = std::chrono::time_point<std::chrono::steady_clock, Duration>;
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

class Clock {
 public:
  // A single call in the future. Destroying the handle cancels it: after that `due` is never run.
  class Alarm {
   public:
    virtual ~Alarm() = default;
  };

  virtual ~Clock() = default;
  virtual SteadyTime Now() const = 0;
  virtual WallTime NowWall() const = 0;

  // Runs `due` on the loop once, at or after `when`, never inline. The handle may outlive the call
  // and may be destroyed by it.
  virtual std::unique_ptr<Alarm> At(SteadyTime when, absl::AnyInvocable<void()> due) = 0;

  // Returns at or after `when`, or early if the coroutine is cancelled.
  Task<void> SleepUntil(SteadyTime when);
  Task<void> SleepFor(Duration duration);
};

class SystemClock : public Clock {
 public:
  explicit SystemClock(Loop& loop) : loop_(loop) {}
  SteadyTime Now() const override;
  WallTime NowWall() const override;
  std::unique_ptr<Alarm> At(SteadyTime when, absl::AnyInvocable<void()> due) override;

 private:
  Loop& loop_;
};

}  // namespace hermes
