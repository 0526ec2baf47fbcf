#include "backends/ssh_spec.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <iterator>
#include <string_view>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kMaxSshFile = 4096;       // bytes of a path
constexpr size_t kMaxSshOptionName = 64;   // bytes
constexpr size_t kFingerprintDigits = 43;  // of a SHA-256 in base64 without padding
constexpr std::string_view kFingerprintPrefix = "SHA256:";

// What hermesd decides itself: a value of the caller's would be ignored, or break the connection.
constexpr std::array<std::string_view, 46> kOurs = {"batchmode",
                                                    "checkhostip",
                                                    "clearallforwardings",
                                                    "connectionattempts",
                                                    "connecttimeout",
                                                    "controlmaster",
                                                    "controlpath",
                                                    "controlpersist",
                                                    "dynamicforward",
                                                    "escapechar",
                                                    "exitonforwardfailure",
                                                    "fingerprinthash",
                                                    "forkafterauthentication",
                                                    "forwardagent",
                                                    "forwardx11",
                                                    "forwardx11trusted",
                                                    "gatewayports",
                                                    "globalknownhostsfile",
                                                    "hashknownhosts",
                                                    "host",
                                                    "identitiesonly",
                                                    "knownhostscommand",
                                                    "localcommand",
                                                    "localforward",
                                                    "loglevel",
                                                    "logverbose",
                                                    "match",
                                                    "nohostauthenticationforlocalhost",
                                                    "permitlocalcommand",
                                                    "permitremoteopen",
                                                    "port",
                                                    "protocolkeepalives",
                                                    "remotecommand",
                                                    "remoteforward",
                                                    "requesttty",
                                                    "serveralivecountmax",
                                                    "serveraliveinterval",
                                                    "sessiontype",
                                                    "setuptimeout",
                                                    "stdinnull",
                                                    "stricthostkeychecking",
                                                    "tunnel",
                                                    "updatehostkeys",
                                                    "userknownhostsfile",
                                                    "verifyhostkeydns",
                                                    "visualhostkey"};

// What a field of the spec has decided where it is given; empty: nothing.
std::string_view FieldOf(const SshSpec& spec, std::string_view lower_name) {
  if (lower_name == "user" && !spec.user.empty()) return "user";
  constexpr std::string_view kKeys[] = {"identityfile", "identityfile2", "pkcs11provider",
                                        "smartcarddevice"};
  const bool key = std::find(std::begin(kKeys), std::end(kKeys), lower_name) != std::end(kKeys);
  return key && !spec.key_file.empty() ? "key_file" : "";
}

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

bool HasControl(std::string_view text) { return std::any_of(text.begin(), text.end(), IsControl); }

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

bool IsFingerprint(std::string_view text) {
  if (!text.starts_with(kFingerprintPrefix)) return false;
  text.remove_prefix(kFingerprintPrefix.size());
  return text.size() == kFingerprintDigits && std::all_of(text.begin(), text.end(), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) || c == '+' || c == '/';
         });
}

// Host and user end up on ssh's command line and in patterns of its configuration.
absl::Status CheckWord(const std::string& field, std::string_view word, size_t most) {
  if (word.size() > most) {
    return BadField(field, "is longer than " + std::to_string(most) + " bytes");
  }
  constexpr std::string_view kRefused = " '`\"$\\;&<>|(){}*?!,#=";
  if (HasControl(word) || word.find_first_of(kRefused) != std::string_view::npos) {
    return BadField(field,
                    "may not have blanks, quotes or characters of the shell or of ssh_config");
  }
  if (word.starts_with('-')) return BadField(field, "may not begin with '-'");
  return absl::OkStatus();
}

absl::Status CheckFile(const std::string& field, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  if (path.front() != '/' && !path.starts_with("~/")) {
    return BadField(field, "must be an absolute path, or begin with ~/");
  }
  if (path.size() > kMaxSshFile || HasControl(path)) {
    return BadField(field, "must be one line of at most " + std::to_string(kMaxSshFile) + " bytes");
  }
  return absl::OkStatus();
}

bool IsOptionName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxSshOptionName &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return std::isalnum(static_cast<unsigned char>(c)); });
}

// The beginning of what a caller sent, in an error.
std::string Shown(std::string_view text) {
  std::string shown(text.substr(0, kMaxSshOptionName));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
  }
  return shown;
}

absl::Status CheckOptions(const SshSpec& spec, const std::string& prefix) {
  const std::string field = prefix + ".options";
  if (spec.options.size() > kMaxSshOptions) {
    return BadField(field, "has more than " + std::to_string(kMaxSshOptions) + " entries");
  }
  for (const auto& [name, value] : spec.options) {
    if (!IsOptionName(name)) {
      return BadField(field, "'" + Shown(name) +
                                 "' is not the name of an option of ssh: letters "
                                 "and digits, at most " +
                                 std::to_string(kMaxSshOptionName));
    }
    if (std::find(kOurs.begin(), kOurs.end(), Lower(name)) != kOurs.end()) {
      return BadField(field, name + " is set by hermesd and can't be given");
    }
    if (const std::string_view by = FieldOf(spec, Lower(name)); !by.empty()) {
      return BadField(field, name + " can't be given beside " + prefix + "." + std::string(by) +
                                 ", which decides it: leave one of them out");
    }
    if (value.empty() || value.size() > kMaxSshOption || HasControl(value)) {
      return BadField(field, "the value of " + name + " must be one line of 1 to " +
                                 std::to_string(kMaxSshOption) + " bytes");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSshSpec(const SshSpec& spec, const std::string& prefix) {
  if (spec.host.empty()) return BadField(prefix + ".host", "is required");
  RETURN_IF_ERROR(CheckWord(prefix + ".host", spec.host, kMaxSshHost));
  if (spec.host.find('@') != std::string::npos || spec.host.find('/') != std::string::npos) {
    return BadField(prefix + ".host", "is a host only: account and port have fields of their own");
  }
  RETURN_IF_ERROR(CheckWord(prefix + ".user", spec.user, kMaxSshUser));
  if (spec.port > 65535) return BadField(prefix + ".port", "must be 1 to 65535");
  RETURN_IF_ERROR(CheckFile(prefix + ".key_file", spec.key_file));
  RETURN_IF_ERROR(CheckFile(prefix + ".config_file", spec.config_file));
  const std::string& policy = spec.host_key;
  if (!policy.empty() && policy != "strict" && policy != "accept-new" && !IsFingerprint(policy)) {
    return BadField(prefix + ".host_key",
                    "must be strict, accept-new or SHA256: and the 43 characters of a fingerprint");
  }
  RETURN_IF_ERROR(CheckOptions(spec, prefix));
  const bool configured = !spec.config_file.empty() || !spec.options.empty();
  if (spec.transport == SshTransportChoice::kLibssh2 && configured) {
    return BadField(prefix + ".transport",
                    "libssh2 does not read ssh_config: use openssh with config_file or options");
  }
  return absl::OkStatus();
}

}  // namespace hermes
