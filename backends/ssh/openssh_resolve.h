#pragma once

// What `ssh -G` says about a target. ParseResolved is pure.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/ssh/openssh_command.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

struct OpenSshResolved {
  SshResolved facts;
  std::string user_known_hosts;  // the files that the user's own configuration names
  std::string ciphers;           // what it accepts, in its order
  std::string output;            // all that it said
  // Of ResolveWay only, as facts.first_hop is:
  std::vector<SshJump> jumps = {};
  bool proxied = false;  // a ProxyCommand of the user's leads there
};

// BACKEND_UNREACHABLE when `output` is not ssh's.
absl::StatusOr<OpenSshResolved> ParseResolved(const SshTarget& target, std::string_view output);

// Runs `ssh -G`, once. BAD_FIELD when ssh refuses the configuration.
Task<absl::StatusOr<OpenSshResolved>> ResolveTarget(Loop& loop, Clock& clock, SshCommand command);

}  // namespace hermes
