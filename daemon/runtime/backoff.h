#pragma once

// A retry schedule as a value: exponential, the upper half of each delay jittered by an
// injected generator. Loop thread.

#include <cstdint>

#include "daemon/runtime/clock.h"
#include "daemon/runtime/random.h"

namespace hermes {

class Backoff {
 public:
  struct Options {
    Duration first;  // ceiling of the first delay, > 0
    Duration most;   // ceiling of every delay
  };
  Backoff(Options options, Random& random) : options_(options), random_(random) {}

  // The next delay: uniform in (ceiling/2, ceiling], the ceiling doubling from first to most.
  Duration Next();
  void Reset() { attempts_ = 0; }
  int attempts() const { return attempts_; }

 private:
  Options options_;
  Random& random_;
  int attempts_ = 0;
};

}  // namespace hermes
