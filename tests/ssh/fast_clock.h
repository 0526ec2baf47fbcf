#pragma once

// A clock that runs faster than the wall, so that limits of seconds take less. Loop thread.

#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"

namespace hermes {

// Time that runs `speed` times as fast as the wall's.
class FastClock : public Clock {
 public:
  FastClock(Loop& loop, int speed) : real_(loop), start_(real_.Now()), speed_(speed) {}
  SteadyTime Now() const override { return start_ + (real_.Now() - start_) * speed_; }
  WallTime NowWall() const override { return real_.NowWall(); }
  std::unique_ptr<Alarm> At(SteadyTime when, absl::AnyInvocable<void()> due) override {
    return real_.At(start_ + (when - start_) / speed_, std::move(due));
  }

 private:
  SystemClock real_;
  SteadyTime start_;
  int speed_;
};

}  // namespace hermes
