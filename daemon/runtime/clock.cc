#include "daemon/runtime/clock.h"

#include <utility>

#include <asio/redirect_error.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

namespace hermes {
namespace {

class SystemAlarm : public Clock::Alarm {
 public:
  SystemAlarm(Loop& loop, SteadyTime when, absl::AnyInvocable<void()> due)
      : state_(std::make_shared<State>(loop, std::move(due))) {
    state_->timer.expires_at(when);
    state_->timer.async_wait([state = state_](asio::error_code) { Fire(*state); });
  }

  // The wait may already be on its way with success, so the callback goes, too.
  ~SystemAlarm() override {
    state_->due = nullptr;
    state_->timer.cancel();
  }

 private:
  struct State {
    State(Loop& loop, absl::AnyInvocable<void()> d) : timer(loop.context()), due(std::move(d)) {}
    asio::steady_timer timer;
    absl::AnyInvocable<void()> due;  // empty once it ran or the handle is gone
  };

  // Moved out first: the call may destroy the handle.
  static void Fire(State& state) {
    absl::AnyInvocable<void()> due = std::exchange(state.due, nullptr);
    if (due) due();
  }

  std::shared_ptr<State> state_;
};

}  // namespace

Task<void> Clock::SleepUntil(SteadyTime when) {
  asio::steady_timer sleep(co_await asio::this_coro::executor);
  sleep.expires_at(asio::steady_timer::time_point::max());
  std::unique_ptr<Alarm> alarm = At(when, [&sleep] { sleep.cancel(); });
  asio::error_code ignored;
  co_await sleep.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

Task<void> Clock::SleepFor(Duration duration) {
  const SteadyTime now = Now();
  const bool forever = duration > SteadyTime::max() - now;
  return SleepUntil(forever ? SteadyTime::max() : now + duration);
}

SteadyTime SystemClock::Now() const { return std::chrono::steady_clock::now(); }

WallTime SystemClock::NowWall() const { return std::chrono::system_clock::now(); }

std::unique_ptr<Clock::Alarm> SystemClock::At(SteadyTime when, absl::AnyInvocable<void()> due) {
  return std::make_unique<SystemAlarm>(loop_, when, std::move(due));
}

}  // namespace hermes
