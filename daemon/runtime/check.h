#pragma once

// CHECK(condition): a programmer's error ends the process, in release builds too. Never for input,
// files or peers.

namespace hermes {

[[noreturn]] void CheckFailed(const char* expression, const char* file, int line);

}  // namespace hermes

#define CHECK(condition)                               \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::hermes::CheckFailed(#condition, __FILE__, __LINE__))
