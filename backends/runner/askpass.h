#pragma once

// sudo's password: asked by `askpass` (this program under that name) over the runner's socket.

#include <stdint.h>

#include <string>

#include "backends/engine/frames.h"

namespace hermes::runner {

// Between the runner and its own askpass, outside the daemon's protocol.
inline constexpr auto kAskpass = static_cast<frames::Type>(48);         // -
inline constexpr auto kAskpassAnswer = static_cast<frames::Type>(112);  // str password

// The whole of the askpass program; `self` is argv[0], a link in the runner's directory.
int AskpassMain(const std::string& self);

}  // namespace hermes::runner
