#pragma once

// Which keys are offered to a host, in which order, and what is said when none fits. One per login.
// Loop thread, except ReadKeys, which blocks: on Workers.

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/ssh/libssh2_agent.h"
#include "backends/ssh/libssh2_key_file.h"
#include "backends/ssh/libssh2_link.h"
#include "backends/ssh/libssh2_session.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// The server gives up at the sixth failure (MaxAuthTries); we stop before.
inline constexpr int kMaxKeysOffered = 5;
// A host that has said this much before the login was through talks nonsense.
inline constexpr size_t kMaxLoginBytes = 1 << 20;  // bytes

// The files that ReadKeys looks at.
std::vector<std::string> KeyFiles(const std::string& key_file, const std::string& home);

// `key_file` given: that one, or why it cannot be used. Else the usual files in `home` that can be
// used; the others stay silent.
absl::StatusOr<std::vector<PrivateKey>> ReadKeys(const std::string& key_file,
                                                 const std::string& home);

// Makes `call` (of the session) again and again as input comes, until it is no longer kAgain.
template <typename Call>
Task<Libssh2Session::Step> FinishCall(Libssh2Link& link, Call call) {
  for (;;) {
    link.BeginReading();
    const Libssh2Session::Step step = call();
    link.EndReading();
    link.Flush();
    if (step != Libssh2Session::Step::kAgain) co_return step;
    if (!link.error().ok() || link.received() > kMaxLoginBytes) {
      co_return Libssh2Session::Step::kBroken;
    }
    co_await link.WaitReadable();
  }
}

class Libssh2Auth {
 public:
  struct Options {
    std::string user;
    std::string agent_socket;  // empty: none
    SteadyTime deadline;
  };
  Libssh2Auth(Loop& loop, Clock& clock, Options options, Libssh2Link& link,
              Libssh2Session& session);

  // `only_these`: no agent. BACKEND_AUTH_FAILED when no key was taken; BACKEND_UNREACHABLE when the
  // connection broke.
  Task<absl::Status> Run(std::vector<PrivateKey> keys, bool only_these);

 private:
  using Step = Libssh2Session::Step;

  Task<std::vector<std::string>> AgentKeys();
  Task<Step> OfferFiles(const std::vector<PrivateKey>& keys, bool rsa);
  Task<Step> OfferAgents(const std::vector<std::string>& blobs, bool rsa);
  Task<Step> OfferAgent(std::string blob);
  bool MayOffer(const std::string& type, const std::string& blob, const std::string& name);
  absl::Status Failure() const;

  Clock& clock_;
  const Options options_;
  Libssh2Link& link_;
  Libssh2Session& session_;
  SshAgent agent_;
  int offered_ = 0;
  bool offered_rsa_ = false;
  bool too_many_ = false;
  std::vector<std::string> blobs_;  // offered
  std::string tried_;               // for people
  std::string trouble_;             // with the agent
};

}  // namespace hermes
