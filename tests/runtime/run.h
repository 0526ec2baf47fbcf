#pragma once

// Runs one coroutine to its end on a loop, for tests.

#include <exception>
#include <optional>
#include <utility>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// With the real loop: blocks until the task has returned.
template <typename T>
T RunTask(Loop& loop, Task<T> task) {
  std::optional<T> result;
  asio::co_spawn(loop.executor(), std::move(task), [&](std::exception_ptr escaped, T value) {
    EXPECT_EQ(escaped, nullptr);
    result.emplace(std::move(value));
    loop.Stop();
  });
  loop.Run();
  return *std::move(result);
}

inline void RunTask(Loop& loop, Task<void> task) {
  asio::co_spawn(loop.executor(), std::move(task), [&](std::exception_ptr escaped) {
    EXPECT_EQ(escaped, nullptr);
    loop.Stop();
  });
  loop.Run();
}

}  // namespace hermes
