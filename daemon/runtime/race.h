#pragma once

// Deadlines for coroutines, in one place, so nobody writes a raw `||`. The loser is not torn down:
// it is told to stop by `stop` (close a stream, set a flag) and its result is awaited, so nothing
// runs on behind the caller's back. Loop thread.

#include <memory>
#include <type_traits>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"

namespace hermes {

// Awaits `task`; if it has not returned by `deadline`, calls `stop` once and goes on awaiting it.
// `stop` must make the task return soon; it is never called once the task has returned. The result
// is the task's own; `*expired` (may be null) says whether the deadline struck.
template <typename T>
Task<T> WithDeadline(Clock& clock, SteadyTime deadline, Task<T> task,
                     absl::AnyInvocable<void()> stop, bool* expired = nullptr) {
  if (expired != nullptr) *expired = false;
  auto alarm = clock.At(deadline, [stop = std::move(stop), expired]() mutable {
    if (expired != nullptr) *expired = true;
    stop();
  });
  if constexpr (std::is_void_v<T>) {
    co_await std::move(task);
  } else {
    T result = co_await std::move(task);
    alarm.reset();
    co_return result;
  }
}

}  // namespace hermes
