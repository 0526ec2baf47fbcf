#pragma once

// Watchdog: ends the process when something that must end does not. Any thread.

#include <functional>
#include <thread>

#include "daemon/runtime/clock.h"
#include "daemon/runtime/mutex.h"

namespace hermes {

class Watchdog {
 public:
  // After `limit`, unless destroyed before, calls `stuck` on a thread of its own; null: _exit(1),
  // for what was acknowledged is in the store.
  Watchdog(Duration limit, std::function<void()> stuck);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable over_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace hermes
