#pragma once

// Tasks that run on while a test goes on, on a loop of its own that it turns by hand.

#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include <asio/co_spawn.hpp>

#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// What a task has given, once it has.
template <typename T>
using Running = std::shared_ptr<std::optional<T>>;

// Until nothing is left that could go on by itself.
inline void Settle(Loop& loop) {
  for (int i = 0; i < 30; ++i) loop.RunReady();
}

template <typename T>
Running<T> Go(Loop& loop, Task<T> task) {
  auto result = std::make_shared<std::optional<T>>();
  asio::co_spawn(loop.executor(), std::move(task),
                 [result](std::exception_ptr, T value) { result->emplace(std::move(value)); });
  Settle(loop);
  return result;
}

}  // namespace hermes
