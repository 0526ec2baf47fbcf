#pragma once

// The ways this program runs besides askpass. Each returns the exit status.

#include <stdint.h>

#include <string>

namespace hermes::runner {

struct ServeOptions {
  int ready_fd = -1;  // gets one byte once the directory is served; is closed without on failure
  int64_t idle_us = 60'000'000;  // without session, command and link the runner then ends
};

// Serves `directory`, as a daemon that this call leaves behind, or in place when systemd handed
// over a listening socket. Returns 0 once the directory is served, by us or by another.
int ServeMain(const std::string& directory, const ServeOptions& options);

// Relays stdin and stdout to the runner of `directory`, starting one if there is none; ends when
// either side ends.
int ConnectMain(const std::string& directory);

// Has the idle runner of `directory` end, if there is one. 0: none is left, and no file of it moves
// any more. A runner that has a command stays.
int LeaveMain(const std::string& directory);

int ProbeMain();  // one line about this place: key=value words

}  // namespace hermes::runner
