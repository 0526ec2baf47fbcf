#pragma once

// The folder of control sockets: private, and free of what an earlier hermesd left. Loop thread.

#include <string>

#include "absl/status/status.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"

namespace hermes {

// Makes it with mode 0700, or tightens our own. CAPABILITY_MISSING when it is somebody else's, not
// a folder, or too deep for a socket's name.
absl::Status PrepareSocketFolder(const std::string& path);

// The name of a control socket in it: `name` must not be guessable.
std::string ControlPath(const std::string& folder, const std::string& name);
inline constexpr size_t kControlNameBytes = 6;  // twice as many digits

// Tells every ssh whose socket is there now to end, in the background; those that don't are killed.
// Their sockets are removed. For the first use of a folder by a hermesd: no other may use it.
void EndLeftovers(Loop& loop, Clock& clock, const std::string& folder);

}  // namespace hermes
