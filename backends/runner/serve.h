#pragma once

// The ways this program runs besides askpass. Each returns the exit status.

#include <string>

namespace hermes::runner {

// Serves `directory`, as a daemon that this call leaves behind, or in place when systemd handed
// over a listening socket. Returns 0 once the directory is served, by us or by another. `ready_fd`
// (-1: none) gets one byte at that moment; it is closed without one on failure.
int ServeMain(const std::string& directory, int ready_fd);

// Relays stdin and stdout to the runner of `directory`, starting one if there is none; ends when
// either side ends.
int ConnectMain(const std::string& directory);

int ProbeMain();  // one line about this place: key=value words

}  // namespace hermes::runner
