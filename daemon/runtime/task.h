#pragma once

// Task<T>: a coroutine of the loop. Lazy: it runs when awaited or spawned. It never throws a domain
// error: it returns absl::Status or absl::StatusOr. Rules (house): parameters by value or owned by
// whoever owns the TaskGroup; no lock, iterator or unchecked state across a co_await; members or
// free functions, never capturing lambdas.

#include <asio/awaitable.hpp>

namespace hermes {

template <typename T = void>
using Task = asio::awaitable<T>;

}  // namespace hermes
