#pragma once

// The user's own OpenSSH as a transport: one supervised `ssh -M -N` per connection, streams opened
// by speaking to its control socket; no process per command. All of ssh_config works. Owned by
// whoever wires the SSH backend; loop thread.

#include <memory>
#include <string>

#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"

namespace hermes {

struct OpenSshTransportOptions {
  std::string ssh_program = "ssh";  // looked up in PATH
  // Control sockets live here: private to the account (made 0700, refused if it is somebody
  // else's), and short, see kMaxControlPath.
  std::string runtime_dir;
};

// ssh binds <path>.<16 characters> first, so the socket's path must leave room.
inline constexpr size_t kMaxControlPath = 88;

std::unique_ptr<SshTransport> MakeOpenSshTransport(Loop& loop, Clock& clock, Random& random,
                                                   OpenSshTransportOptions options);

}  // namespace hermes
