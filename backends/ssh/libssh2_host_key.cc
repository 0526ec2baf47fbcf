#include "backends/ssh/libssh2_host_key.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "backends/ssh/libssh2_wire.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr std::string_view kPinned = "SHA256:";
constexpr std::string_view kAcceptNew = "accept-new";
constexpr const char* kSystemFile = "/etc/ssh/ssh_known_hosts";

// Best first. ssh-rsa is signed with SHA-1 by old libraries; new hosts do not offer it.
constexpr std::array<std::string_view, 7> kOurOrder = {"ssh-ed25519",
                                                       "ecdsa-sha2-nistp256",
                                                       "ecdsa-sha2-nistp384",
                                                       "ecdsa-sha2-nistp521",
                                                       "rsa-sha2-512",
                                                       "rsa-sha2-256",
                                                       "ssh-rsa"};

absl::StatusOr<std::string> ReadAll(int fd, const std::string& path) {
  std::string text;
  char buffer[16384];
  for (;;) {
    ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return Error(Reason::k_HOST_KEY_UNKNOWN, "can't read " + path + ": " + std::strerror(errno));
    }
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > kMaxKnownHosts) {
      return Error(Reason::k_HOST_KEY_UNKNOWN,
                   path + " is larger than " + std::to_string(kMaxKnownHosts) + " bytes");
    }
  }
}

absl::Status AddKeysOf(const std::string& path, const HostAddress& address,
                       std::vector<KnownHostKey>* known) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) {
    if (errno == ENOENT || errno == ENOTDIR) return absl::OkStatus();
    return Error(Reason::k_HOST_KEY_UNKNOWN, "can't read " + path + ": " + std::strerror(errno));
  }
  ASSIGN_OR_RETURN(std::string text, ReadAll(file.get(), path));
  std::vector<KnownHostKey> found = FindKnownHost(text, path, address.host, address.port);
  std::move(found.begin(), found.end(), std::back_inserter(*known));
  return absl::OkStatus();
}

// The short name that ssh-keygen and ssh-keyscan use.
std::string ShortType(const std::string& type) {
  if (type == "ssh-ed25519") return "ed25519";
  return type.starts_with("ecdsa") ? "ecdsa" : "rsa";
}

std::string HostText(const HostAddress& address) {
  return address.host + " port " + std::to_string(address.port);
}

Metadata KeyMetadata(const std::string& shown) {
  return {{std::string(kShownKeyType), KeyTypeOf(shown)}, {"fingerprint", KeyFingerprint(shown)}};
}

absl::Status Unknown(const HostAddress& address, const std::string& shown) {
  const std::string kind = ShortType(KeyTypeOf(shown));
  return Error(
      Reason::k_HOST_KEY_UNKNOWN,
      "the key of " + HostText(address) + " is not known: " + KeyTypeOf(shown) + " " +
          KeyFingerprint(shown) + ". Compare it with `ssh-keygen -lf /etc/ssh/ssh_host_" + kind +
          "_key.pub` on the host; if it is the same, run `ssh-keyscan -p " +
          std::to_string(address.port) + " -t " + kind + " " + address.host +
          " >> ~/.ssh/known_hosts`, or give the fingerprint as host_key, or host_key accept-new",
      KeyMetadata(shown));
}

absl::Status OtherType(const HostAddress& address, const std::string& shown,
                       const KnownHostKey& line) {
  return Error(Reason::k_HOST_KEY_UNKNOWN,
               HostText(address) + " showed a key of type " + KeyTypeOf(shown) + " (" +
                   KeyFingerprint(shown) + "), but only others are known: " + line.type + " in " +
                   line.where +
                   ". Add this one after comparing it with the host's, or use the "
                   "openssh transport, which knows more types",
               KeyMetadata(shown));
}

absl::Status Changed(const HostAddress& address, const std::string& shown,
                     const KnownHostKey& line) {
  return Error(Reason::k_HOST_KEY_CHANGED,
               "the key of " + HostText(address) + " is not the one that is known: it showed " +
                   KeyTypeOf(shown) + " " + KeyFingerprint(shown) + ", " + line.where + " has " +
                   KeyFingerprint(line.blob) +
                   ". Somebody may be in between. If the host was set up anew, remove that line",
               KeyMetadata(shown));
}

absl::Status Revoked(const HostAddress& address, const std::string& shown,
                     const KnownHostKey& line) {
  return Error(Reason::k_HOST_KEY_CHANGED,
               "the key of " + HostText(address) + " is revoked in " + line.where + ": " +
                   KeyTypeOf(shown) + " " + KeyFingerprint(shown),
               KeyMetadata(shown));
}

absl::Status CheckPinned(const std::string& pinned, const HostAddress& address,
                         const std::string& shown) {
  const std::string fingerprint = KeyFingerprint(shown);
  if (fingerprint == pinned) return absl::OkStatus();
  return Error(Reason::k_HOST_KEY_CHANGED,
               "the key of " + HostText(address) + " is not the pinned one: it showed " +
                   KeyTypeOf(shown) + " " + fingerprint + ", host_key is " + pinned +
                   ". Verify it with the host's operator before you change the pin",
               KeyMetadata(shown));
}

absl::Status CannotLearn(const std::string& path, int error) {
  return Error(Reason::k_HOST_KEY_UNKNOWN,
               "a new key can't be recorded in " + path + ": " + std::strerror(error));
}

}  // namespace

std::vector<std::string> KnownHostsFiles(const SshTarget& target, const std::string& home) {
  std::vector<std::string> paths;
  if (target.spec.host_key.starts_with(kPinned)) return paths;
  if (!home.empty()) paths = {home + "/.ssh/known_hosts", home + "/.ssh/known_hosts2"};
  paths.push_back(kSystemFile);
  if (target.spec.host_key == kAcceptNew) paths.push_back(target.learned_known_hosts);
  return paths;
}

absl::StatusOr<std::vector<KnownHostKey>> ReadKnownHosts(const SshTarget& target,
                                                         const HostAddress& address,
                                                         const std::string& home) {
  std::vector<KnownHostKey> known;
  for (const std::string& path : KnownHostsFiles(target, home)) {
    RETURN_IF_ERROR(AddKeysOf(path, address, &known));
  }
  return known;
}

std::vector<std::string> PreferredHostKeys(const std::vector<KnownHostKey>& known,
                                           const std::vector<std::string>& supported,
                                           const std::vector<std::string>& refused) {
  auto type_of = [](std::string_view method) {
    return method.starts_with("rsa-sha2-") ? "ssh-rsa" : method;
  };
  auto is_known = [&](std::string_view method) {
    return std::any_of(known.begin(), known.end(), [&](const KnownHostKey& key) {
      return !key.revoked && key.type == type_of(method);
    });
  };
  auto is_refused = [&](std::string_view method) {
    return std::find(refused.begin(), refused.end(), type_of(method)) != refused.end();
  };
  std::vector<std::string> order;
  for (bool wanted : {true, false}) {
    for (std::string_view method : kOurOrder) {
      const bool can = std::find(supported.begin(), supported.end(), method) != supported.end();
      if (can && !is_refused(method) && is_known(method) == wanted) order.emplace_back(method);
    }
  }
  return order;
}

absl::Status CheckHostKey(const SshTarget& target, const HostAddress& address,
                          const std::vector<KnownHostKey>& known, const std::string& shown,
                          bool* learn) {
  *learn = false;
  const std::string& policy = target.spec.host_key;
  if (policy.starts_with(kPinned)) return CheckPinned(policy, address, shown);
  HostKeyFinding finding = JudgeHostKey(known, shown);
  switch (finding.verdict) {
    case HostKeyVerdict::kKnown:
      return absl::OkStatus();
    case HostKeyVerdict::kRevoked:
      return Revoked(address, shown, finding.line);
    case HostKeyVerdict::kChanged:
      return Changed(address, shown, finding.line);
    case HostKeyVerdict::kOtherType:
      return OtherType(address, shown, finding.line);
    case HostKeyVerdict::kUnknown:
      break;
  }
  if (policy != kAcceptNew) return Unknown(address, shown);
  *learn = true;
  return absl::OkStatus();
}

absl::Status LearnHostKey(const SshTarget& target, const HostAddress& address,
                          const std::string& shown) {
  const std::string& path = target.learned_known_hosts;
  Fd file(::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return CannotLearn(path, errno);
  while (::flock(file.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return CannotLearn(path, errno);
  }
  ASSIGN_OR_RETURN(std::string text, ReadAll(file.get(), path));
  HostKeyFinding finding =
      JudgeHostKey(FindKnownHost(text, path, address.host, address.port), shown);
  if (finding.verdict == HostKeyVerdict::kKnown) return absl::OkStatus();
  if (finding.verdict != HostKeyVerdict::kUnknown) return Changed(address, shown, finding.line);
  // One write: a reader without the lock sees the whole line or nothing. What a crash cut off gets
  // a line end, so that it spoils nothing but itself.
  std::string line = !text.empty() && text.back() != '\n' ? "\n" : "";
  line += KnownHostName(address.host, address.port) + " " + KeyTypeOf(shown) + " " +
          EncodeBase64(shown) + std::string((3 - shown.size() % 3) % 3, '=') + "\n";
  const ssize_t wrote = ::write(file.get(), line.data(), line.size());
  if (wrote != static_cast<ssize_t>(line.size())) {
    return CannotLearn(path, wrote < 0 ? errno : ENOSPC);
  }
  return absl::OkStatus();
}

}  // namespace hermes
