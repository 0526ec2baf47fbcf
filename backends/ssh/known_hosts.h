#pragma once

// What known_hosts files say about one host: plain and hashed names, [host]:port, lists, wildcards,
// negation, @revoked. @cert-authority lines are skipped: certificates of hosts are not understood.
// Pure; files may be anything.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hermes {

struct KnownHostKey {
  std::string where;  // "path:line"
  std::string type;   // "ssh-ed25519"
  std::string blob;
  bool revoked = false;
  // The line names the host without its port: it can confirm a key but does not contradict one.
  bool without_port = false;
};

// The keys in `text` (of the file `path`, for people) that are of this host.
std::vector<KnownHostKey> FindKnownHost(std::string_view text, std::string_view path,
                                        std::string_view host, uint32_t port);

// "host", or "[host]:port" unless it is 22: how a line names it.
std::string KnownHostName(std::string_view host, uint32_t port);

enum class HostKeyVerdict {
  kKnown,
  kUnknown,    // nothing is known of this host
  kOtherType,  // only keys of other types are known
  kChanged,    // another key of this type is known
  kRevoked,
};

struct HostKeyFinding {
  HostKeyVerdict verdict = HostKeyVerdict::kUnknown;
  KnownHostKey line;  // the one that decided; none with kUnknown
};

HostKeyFinding JudgeHostKey(const std::vector<KnownHostKey>& known, std::string_view shown);

}  // namespace hermes
