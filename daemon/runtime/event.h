#pragma once

// Event: coroutines wait for "something changed", then look again. Loop thread only. No value, no
// count: a waiter re-checks its condition in a loop, as with a condition variable. Destroying an
// Event with waiters is a bug.

#include <list>

#include <asio/steady_timer.hpp>

#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

class Event {
 public:
  explicit Event(Loop& loop) : loop_(loop) {}
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Wakes everybody who waits now.
  void NotifyAll();

  // Returns after the next NotifyAll, or early if the coroutine is cancelled.
  Task<void> Wait();

  bool has_waiters() const { return !waiters_.empty(); }

 private:
  struct Waiter;
  Loop& loop_;
  std::list<Waiter*> waiters_;
};

}  // namespace hermes
