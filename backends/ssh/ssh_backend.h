#pragma once

// The SSH backend: the place is another host, reached with the keys and the configuration of the
// daemon's account. Sessions on one host share its connections and its hermes-runner. Owned by
// main; loop thread.

#include <memory>
#include <string>

#include "backends/backend.h"
#include "backends/ssh/ssh_connection.h"
#include "backends/ssh/ssh_runner.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"

namespace hermes {

// Commands over there end this long after the daemon's last word.
inline constexpr Duration kSshLease = std::chrono::minutes(10);

struct SshOptions {
  std::string daemon_id;
  std::string learned_known_hosts;  // a file of ours; made when the first key is learned
  std::string host_key = "strict";  // of sessions that do not say
  SshTransportChoice transport = SshTransportChoice::kAuto;  // likewise
  ssh::Programs programs;
  Duration place_limit = ssh::kPlaceLimit;
  std::unique_ptr<SshTransport> openssh;
  std::unique_ptr<SshTransport> libssh2;
};

std::unique_ptr<Backend> MakeSshBackend(Loop& loop, Clock& clock, Random& random,
                                        SshOptions options);

}  // namespace hermes
