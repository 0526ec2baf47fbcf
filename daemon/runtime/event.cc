#include "daemon/runtime/event.h"

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "daemon/runtime/check.h"

namespace hermes {

// Lives in the waiting coroutine's frame. The timer never expires: cancelling it is what posts the
// coroutine, and asio's own cancellation ends its wait the same way. Linked from construction until
// it is notified or destroyed, whichever is first; unlinked, it never touches the event again.
struct Event::Waiter {
  explicit Waiter(Event* e) : event(e), timer(e->loop_.context()) {
    place = event->waiters_.insert(event->waiters_.end(), this);
    timer.expires_at(asio::steady_timer::time_point::max());
  }
  ~Waiter() {
    if (event != nullptr) event->waiters_.erase(place);
  }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  Event* event;
  asio::steady_timer timer;
  std::list<Waiter*>::iterator place;
};

Event::~Event() { CHECK(waiters_.empty()); }

void Event::NotifyAll() {
  while (!waiters_.empty()) {
    Waiter* waiter = waiters_.front();
    waiters_.pop_front();
    waiter->event = nullptr;
    waiter->timer.cancel();
  }
}

Task<void> Event::Wait() {
  Waiter waiter(this);
  asio::error_code ignored;
  co_await waiter.timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

}  // namespace hermes
