#pragma once

// When a runner that nothing needs any more ends: after a limit without session, command and link.
// Pure: the caller tells the time. Owned by the Runner.

#include <stdint.h>

namespace hermes::runner {

class IdleWatch {
 public:
  explicit IdleWatch(int64_t limit_us) : limit_us_(limit_us) {}

  // What is so now, at any times that suit the caller. Returns when the runner is to end if nothing
  // changes; 0: something needs it.
  int64_t Observe(bool needed, int64_t now_us) {
    if (needed) {
      end_us_ = 0;
    } else if (end_us_ == 0) {
      end_us_ = now_us + limit_us_;
    }
    return end_us_;
  }

 private:
  const int64_t limit_us_;
  int64_t end_us_ = 0;
};

}  // namespace hermes::runner
