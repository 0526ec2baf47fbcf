#pragma once

// The hosts that the way to a target leads over, by ProxyJump. ssh starts an ssh of its own for
// each and hands it none of its options; so we ask about them here, to start them ourselves with
// ours (see JumpScript) and to say by name which of them failed.

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/ssh/openssh_command.h"
#include "backends/ssh/openssh_resolve.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// What `ssh -G` shows as ProxyJump, in the order of the way: names, with accounts and ports where
// they stand there. Pure.
std::vector<SshSpec> JumpsOf(std::string_view output);
// Whether a ProxyCommand leads there. Pure.
bool IsProxied(std::string_view output);

// Runs `ssh -G` for the target and then for every jump, also for those that a jump has of its own;
// fills the fields that are ResolveWay's only, facts.first_hop among them. BAD_FIELD when ssh
// refuses the configuration, or the way has more than kMaxJumps.
Task<absl::StatusOr<OpenSshResolved>> ResolveWay(Loop& loop, Clock& clock, SshCommand command);

}  // namespace hermes
