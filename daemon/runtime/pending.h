#pragma once

// Pending<T>: one value, set once from any thread, awaited once on the loop: the bridge from other
// threads (workers, store, gRPC) into coroutines. Copies share the value; dropping all setters
// without Set() is a bug.

#include <memory>
#include <optional>
#include <utility>

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
  Task<T> Take() const {
    std::shared_ptr<State> state = state_;
    while (!state->value.has_value()) co_await state->event.Wait();
    co_return std::move(*state->value);
  }

 private:
  struct State {
    explicit State(Loop& l) : loop(l), event(l) {}
    Loop& loop;
    Event event;
    std::optional<T> value;
  };
  std::shared_ptr<State> state_;
};

}  // namespace hermes
