#include "backends/ssh/openssh_resolve.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <utility>

#include <openssl/evp.h>

#include "backends/ssh/openssh_failure.h"
#include "backends/ssh/openssh_tool.h"
#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

std::string Digest(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes;
  unsigned int size = 0;
  CHECK(EVP_Digest(text.data(), text.size(), bytes.data(), &size, EVP_sha256(), nullptr) == 1);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    hex += "0123456789abcdef"[bytes[i] >> 4];
    hex += "0123456789abcdef"[bytes[i] & 15];
  }
  return hex;
}

// "name value"; a name alone has an empty value.
std::pair<std::string_view, std::string_view> Split(std::string_view line) {
  const size_t blank = line.find(' ');
  if (blank == std::string_view::npos) return {line, {}};
  return {line.substr(0, blank), line.substr(blank + 1)};
}

// %n is the name that was typed, and so is %k without a HostKeyAlias. One that "%%" only looks like
// costs a connection.
bool UsesTypedName(std::string_view value) {
  return value.find("%n") != std::string_view::npos || value.find("%k") != std::string_view::npos;
}

// What leads elsewhere than the host's own name does, to which machine or by which name.
constexpr std::array<std::string_view, 3> kRoute = {"proxyjump", "proxycommand", "hostkeyalias"};

void Append(const std::vector<std::string>& files, std::vector<std::string>* to) {
  for (const std::string& file : files) to->push_back(ExpandHome(file));
}

}  // namespace

absl::StatusOr<OpenSshResolved> ParseResolved(const SshTarget& target, std::string_view output) {
  OpenSshResolved resolved;
  resolved.output = output;
  // Everything that matters to a connection: ssh's view of it, what `ssh -G` does not know, who we
  // are. Where its control socket lies does not, nor the name that was typed, unless something is
  // still to be made of it.
  std::string matters = "openssh\n" + std::to_string(geteuid()) + "\n" + target.spec.host_key +
                        "\n" + target.learned_known_hosts + "\n";
  std::string agent = "SSH_AUTH_SOCK";
  std::string typed;
  bool typed_matters = false;
  std::string route;
  bool typed_leads = false;
  while (!output.empty()) {
    const size_t end = output.find('\n');
    const std::string_view line = output.substr(0, end);
    output.remove_prefix(end == std::string_view::npos ? output.size() : end + 1);
    const auto [name, value] = Split(line);
    if (name.starts_with("control")) continue;
    if (name == "host") {
      typed = value;
      continue;
    }
    if (UsesTypedName(value)) typed_matters = true;
    if (std::find(kRoute.begin(), kRoute.end(), name) != kRoute.end() && value != "none") {
      route.append(line).append("\n");
      if (UsesTypedName(value)) typed_leads = true;
    }
    matters.append(line).append("\n");
    if (name == "hostname") resolved.facts.host = value;
    if (name == "user") resolved.facts.user = value;
    if (name == "userknownhostsfile") resolved.user_known_hosts = value;
    if (name == "userknownhostsfile" || name == "globalknownhostsfile") {
      Append(FilesOf(value), &resolved.facts.known_hosts_files);
    }
    if (name == "ciphers") resolved.ciphers = value;
    if (name == "identityfile" || name == "certificatefile") {
      const std::string file(value);
      Append({file, file + "-cert.pub"}, &resolved.facts.credential_files);
    }
    if (name == "identityagent") agent = value;
    if (name == "port") {
      std::from_chars(value.data(), value.data() + value.size(), resolved.facts.port);
    }
  }
  if (resolved.facts.host.empty() || resolved.facts.user.empty()) {
    return Error(Reason::k_BACKEND_UNREACHABLE, "`ssh -G` does not say which host and account");
  }
  const char* socket = getenv("SSH_AUTH_SOCK");
  if (agent == "SSH_AUTH_SOCK") agent = socket == nullptr ? "" : socket;
  Append({agent}, &resolved.facts.credential_files);
  Append({target.learned_known_hosts}, &resolved.facts.known_hosts_files);
  if (typed_matters) matters += "host " + typed + "\n";
  resolved.facts.sharing_key = Digest(matters);
  if (typed_leads) route += "host " + typed + "\n";
  if (!route.empty()) resolved.facts.route = Digest(route);
  return resolved;
}

Task<absl::StatusOr<OpenSshResolved>> ResolveTarget(Loop& loop, Clock& clock, SshCommand command) {
  ChildSpec spec{.argv = ResolveWords(command), .environment = SshEnvironment()};
  CO_ASSIGN_OR_RETURN(const ToolResult result, co_await RunTool(loop, clock, std::move(spec)));
  if (result.status.signalled || result.status.value != 0) {
    co_return BadField("ssh", "ssh refuses this configuration: " + OneLine(result.err));
  }
  co_return ParseResolved(command.target, result.out);
}

}  // namespace hermes
