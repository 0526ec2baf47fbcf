#pragma once

// What went wrong, from what ssh said: a reason of the catalogue, what to do, and ssh's own words.
// Pure.

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "backends/ssh/openssh_command.h"
#include "backends/ssh/ssh_connection.h"

namespace hermes {

struct SshFailure {
  SshSpec spec;
  SshResolved resolved;  // not known when ssh already fails at its configuration
  std::vector<SshJump> jumps = {};
  bool proxied = false;  // as in SshCommand
  size_t reached = 0;    // of the hosts on the way, the target included: who said a first line
  std::string words;     // its stderr, and that of the jumps
  bool logged_in = false;
  bool too_slow = false;  // we ended it at the limit of a login
};

// In the metadata of a HOST_KEY_CHANGED of a pinned host: the type of the key that it showed.
inline constexpr std::string_view kShownType = "shown_key_type";

absl::Status Explain(const SshFailure& failure);

// What the host that sees our address may count of such a login.
SshTries TriesOf(const SshFailure& failure);

// The far side's software, from the words of an ssh that tells all about the first lines; empty:
// not said yet. And the words without that.
std::string ServerVersion(std::string_view words);
// How many hosts have said theirs: all `jumps` and the target when the ssh `pid`, which is the
// target's, tells so; else those who are known of. A jump that a master of the user's own leads to
// says none.
size_t HostsReached(std::string_view words, size_t jumps, pid_t pid);
std::string WithoutFirstLines(std::string_view words);

// ssh's own words as one line, fit for a message; empty: it said nothing.
std::string OneLine(std::string_view words);

// The types and fingerprints of the last key that a pinned host showed; empty: the pin was not the
// trouble. See kPinMark.
struct ShownKey {
  std::string type;
  std::string fingerprint;
};
ShownKey RefusedByPin(std::string_view words);

}  // namespace hermes
