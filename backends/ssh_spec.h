#pragma once

// SshSpec: what a caller says about the host that a session is to run on. Plain data, validated
// when the request was decoded (CheckSshSpec), stored with the session, no secret in it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace hermes {

enum class SshTransportChoice : uint8_t { kAuto, kOpenSsh, kLibssh2 };

struct SshSpec {
  std::string host;      // a name, an address or a Host of ssh_config; empty: no SSH session
  std::string user;      // empty: what ssh_config says, else the daemon's account
  uint32_t port = 0;     // 0: what ssh_config says, else 22
  std::string key_file;  // empty: what ssh_config and the agent offer; else this key only
  std::string host_key;  // "strict", "accept-new", "SHA256:..."; empty: as [backend.ssh] says
  SshTransportChoice transport = SshTransportChoice::kAuto;
  std::string config_file;                                   // empty: the account's; else -F of ssh
  std::vector<std::pair<std::string, std::string>> options;  // -o of ssh, behind our own
  bool operator==(const SshSpec&) const = default;
};

inline constexpr size_t kMaxSshHost = 255;     // bytes
inline constexpr size_t kMaxSshUser = 64;      // bytes
inline constexpr size_t kMaxSshOptions = 64;   // more: BAD_FIELD
inline constexpr size_t kMaxSshOption = 1024;  // bytes of a value

// BAD_FIELD that names the field below `prefix` ("ssh.host") and says what would be right. Options
// that hermesd sets itself, or that a field given here decides, are refused by name.
absl::Status CheckSshSpec(const SshSpec& spec, const std::string& prefix);

}  // namespace hermes
