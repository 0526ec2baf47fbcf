#pragma once

// Is this the host that was meant? The policy of SshSpec::host_key over known_hosts files. The
// functions that touch files block: they run on Workers. No state.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/ssh/known_hosts.h"
#include "backends/ssh/ssh_connection.h"

namespace hermes {

// A larger known_hosts is an error, not a half-read file.
inline constexpr size_t kMaxKnownHosts = 16 << 20;  // bytes

// The host as names and files know it.
struct HostAddress {
  std::string host;
  uint32_t port = 22;
};

// The files that ReadKnownHosts reads.
std::vector<std::string> KnownHostsFiles(const SshTarget& target, const std::string& home);

// The keys that the user's files, the system's file and (accept-new) hermesd's own file have for
// this host; nothing for a pinned key. `home` is the account's. HOST_KEY_UNKNOWN when a file is
// there but cannot be read.
absl::StatusOr<std::vector<KnownHostKey>> ReadKnownHosts(const SshTarget& target,
                                                         const HostAddress& address,
                                                         const std::string& home);

// What to ask the host for: types with a known key first, so that a host with several keys shows
// one that can be checked; then the rest in our order of preference. Never a `refused` type.
std::vector<std::string> PreferredHostKeys(const std::vector<KnownHostKey>& known,
                                           const std::vector<std::string>& supported,
                                           const std::vector<std::string>& refused);

// In the metadata of a refused key: its type.
inline constexpr std::string_view kShownKeyType = "key_type";

// OK: this is the host. `*learn` is set when accept-new takes the key on the condition that
// LearnHostKey succeeds. Else HOST_KEY_UNKNOWN or HOST_KEY_CHANGED, with what to do.
absl::Status CheckHostKey(const SshTarget& target, const HostAddress& address,
                          const std::vector<KnownHostKey>& known, const std::string& shown,
                          bool* learn);

// Adds the key to hermesd's own file unless it is there; another key that somebody else added
// meanwhile is HOST_KEY_CHANGED.
absl::Status LearnHostKey(const SshTarget& target, const HostAddress& address,
                          const std::string& shown);

}  // namespace hermes
