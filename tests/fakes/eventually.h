#pragma once

// For what nobody tells: what other processes do, and other threads of ours. Any thread.

#include <chrono>
#include <functional>
#include <thread>

namespace hermes {

// Looks again until it is true; false after half a minute.
inline bool Eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace hermes
