#pragma once

// SSH in this process, by libssh2: no `ssh` needed, tens of kilobytes per connection. Knows
// known_hosts, key files and the agent; not ssh_config, jump hosts, certificates or, with Debian
// 12's library, RSA keys: it says so. Owned by whoever wires the SSH backend; loop thread.

#include <memory>

#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/workers.h"

namespace hermes {

// `workers` resolves names and reads key files.
std::unique_ptr<SshTransport> MakeLibssh2Transport(Loop& loop, Clock& clock, Workers& workers);

}  // namespace hermes
