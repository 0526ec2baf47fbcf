#pragma once

// The life of one supervisor: a fork of the runner that starts one command, is the reaper of all
// its orphans, keeps its deadline and ends its tree, when told or when the runner is gone. Runs in
// its own process; leaves only by _exit.

#include <sys/types.h>

#include "backends/runner/launch.h"

namespace hermes::runner {

// Called in the fork with the signals of the runner still blocked. `socket_fd` is the supervisor's
// end of the pair; every other descriptor is closed once the command has been forked.
[[noreturn]] void Supervise(const Launch& launch, int socket_fd, pid_t runner);

}  // namespace hermes::runner
