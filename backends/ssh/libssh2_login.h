#pragma once

// One login from a name to a session that may run programs. Loop thread; what blocks runs on
// Workers and is not waited for beyond the deadline.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/ssh/libssh2_host_key.h"
#include "backends/ssh/libssh2_session.h"
#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"
#include "daemon/runtime/workers.h"

namespace hermes {

// What a login needs, all of it resolved: the user's name, absolute paths.
struct Libssh2LoginSpec {
  SshTarget target;
  HostAddress address;
  std::string user;
  std::string home;          // of our account; empty: none, so no files of the user's
  std::string agent_socket;  // empty: no agent
  WishPtr wish = {};         // withdrawn: the login ends
  // Of keys that a pinned host showed and that were not the pinned one.
  std::vector<std::string> refused_key_types = {};
};

struct Libssh2LoginDeps {
  Loop& loop;
  Clock& clock;
  Workers& workers;
};

struct Libssh2LoggedIn {
  std::shared_ptr<Libssh2Link> link;
  std::unique_ptr<Libssh2Session> session;
};

// Fails like SshTransport::Connect. A pinned host is asked for its other keys, up to kPinTries in
// all, and the first that it showed is what the error is about.
Task<absl::StatusOr<Libssh2LoggedIn>> Libssh2Login(Libssh2LoginDeps deps, Libssh2LoginSpec spec,
                                                   SshTries* tries);

}  // namespace hermes
