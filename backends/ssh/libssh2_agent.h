#pragma once

// A client of the user's SSH agent. Speaks to its socket on the loop, with deadlines, so an agent
// that hangs holds up nobody but the login that asked it. One call at a time. Loop thread.

#include <string>
#include <vector>

#include <asio/local/stream_protocol.hpp>

#include "absl/status/statusor.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// An agent that has not listed its keys by then is left out. Signing may need the user's finger:
// it has all of the login's time.
inline constexpr Duration kAgentListLimit = std::chrono::seconds(3);
inline constexpr size_t kMaxAgentReply = 256 << 10;  // bytes; a longer one is refused

class SshAgent {
 public:
  SshAgent(Loop& loop, Clock& clock, std::string path);

  // Public keys, in the agent's order. A failure is a plain status in words: it is only part of an
  // answer.
  Task<absl::StatusOr<std::vector<std::string>>> List(SteadyTime deadline);

  // The bare signature of `data` (what follows its algorithm's name).
  Task<absl::StatusOr<std::string>> Sign(std::string blob, std::string data, SteadyTime deadline);

 private:
  Task<absl::StatusOr<std::string>> Ask(std::string request);
  Task<absl::StatusOr<std::string>> AskUntil(std::string request, SteadyTime deadline);

  Clock& clock_;
  std::string path_;
  asio::local::stream_protocol::socket socket_;
};

}  // namespace hermes
