#pragma once

// The hermes-runner programs that this daemon carries with it.

#include <span>
#include <string_view>

namespace hermes {

// For an architecture as `uname -m` names it ("x86_64", "aarch64"); empty: this build has none.
std::span<const char> RunnerBinary(std::string_view arch);

}  // namespace hermes
