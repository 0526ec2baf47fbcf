#pragma once

// Pending<T>: one value, set once from any thread, awaited once on the loop: the bridge from other
// threads (workers, store, gRPC) into coroutines. Copies share the value; dropping all setters
// without Set() is a bug.

#include <memory>
#include <optional>
#include <utility>

#include <asio/this_coro.hpp>

#include "daemon/runtime/check.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

template <typename T>
class Pending {
 public:
  explicit Pending(Loop& loop) : state_(std::make_shared<State>(loop)) {}

  // Any thread, at most once.
  void Set(T value) const {
    state_->loop.Post([state = state_, value = std::move(value)]() mutable {
      CHECK(!state->value.has_value());
      state->value.emplace(std::move(value));
      state->event.NotifyAll();
    });
  }

  // Loop thread, at most once. Not ended by cancellation: the work behind it is under way and will
  // answer.
  Task<T> Take() const { return TakeFrom(state_); }

 private:
  struct State {
    explicit State(Loop& l) : loop(l), event(l) {}
    Loop& loop;
    Event event;
    std::optional<T> value;
  };

  // In a cancelled coroutine asio would throw at the next co_await; that waits until the value is
  // here.
  static Task<T> TakeFrom(std::shared_ptr<State> state) {
    const bool throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);
    while (!state->value.has_value()) co_await state->event.Wait();
    co_await asio::this_coro::throw_if_cancelled(throws);
    co_return std::move(*state->value);
  }

  std::shared_ptr<State> state_;
};

}  // namespace hermes
