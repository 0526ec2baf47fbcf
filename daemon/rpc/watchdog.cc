#include "daemon/rpc/watchdog.h"

#include <unistd.h>

#include <utility>

#include "daemon/runtime/log.h"

namespace hermes {

Watchdog::Watchdog(Duration limit, std::function<void()> stuck)
    : thread_([this, limit, stuck = std::move(stuck)] {
        std::unique_lock<std::mutex> lock(mutex_);
        if (over_.wait_for(lock, limit, [this] { return done_; })) return;
        LogError("shutting down takes too long: giving up waiting");
        if (stuck) return stuck();
        _exit(1);
      }) {}

Watchdog::~Watchdog() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    done_ = true;
  }
  over_.notify_all();
  thread_.join();
}

}  // namespace hermes
