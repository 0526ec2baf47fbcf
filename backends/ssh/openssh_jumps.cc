#include "backends/ssh/openssh_jumps.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr uint32_t kDefaultPort = 22;

// The value of a line of `ssh -G`; empty also for "none".
std::string_view ValueOf(std::string_view output, std::string_view name) {
  while (!output.empty()) {
    const size_t end = std::min(output.find('\n'), output.size());
    const std::string_view line = output.substr(0, end);
    output.remove_prefix(std::min(end + 1, output.size()));
    if (!line.starts_with(name) || line.substr(name.size(), 1) != " ") continue;
    const std::string_view value = line.substr(name.size() + 1);
    return value == "none" ? std::string_view() : value;
  }
  return {};
}

// With the tokens that ProxyJump may have; `ssh -G` shows it as it was written.
std::string Filled(std::string_view jumps, std::string_view output) {
  std::string filled;
  for (size_t i = 0; i < jumps.size(); ++i) {
    const char token = jumps[i] == '%' && i + 1 < jumps.size() ? jumps[i + 1] : '\0';
    const std::string_view name = token == 'h'   ? "hostname"
                                  : token == 'n' ? "host"
                                  : token == 'p' ? "port"
                                  : token == 'r' ? "user"
                                                 : "";
    if (name.empty()) {
      filled += jumps[i];
      if (token == '%') ++i;
      continue;
    }
    filled += ValueOf(output, name);
    ++i;
  }
  return filled;
}

// "[user@]host[:port]", with brackets around an address; or the same as "ssh://...".
SshSpec JumpOf(std::string_view text) {
  constexpr std::string_view kScheme = "ssh://";
  if (text.starts_with(kScheme)) text.remove_prefix(kScheme.size());
  if (text.ends_with('/')) text.remove_suffix(1);
  SshSpec jump;
  if (const size_t at = text.rfind('@'); at != std::string_view::npos) {
    jump.user = text.substr(0, at);
    text.remove_prefix(at + 1);
  }
  std::string_view port;
  const size_t colon = text.rfind(':');
  if (text.starts_with('[')) {
    const size_t end = std::min(text.find(']'), text.size());
    if (text.substr(end).starts_with("]:")) port = text.substr(end + 2);
    text = text.substr(1, end - 1);
  } else if (colon != std::string_view::npos && colon == text.find(':')) {
    port = text.substr(colon + 1);
    text = text.substr(0, colon);
  }
  jump.host = text;
  std::from_chars(port.data(), port.data() + port.size(), jump.port);
  return jump;
}

std::string PlaceOf(const SshSpec& jump) {
  return jump.host + ":" + std::to_string(jump.port != 0 ? jump.port : kDefaultPort);
}

// It is reached as the target is; a pin is the target's alone, and so are its other options.
void Follow(const SshSpec& target, SshSpec* jump) {
  jump->host_key = IsPinned(target) ? "strict" : target.host_key;
  jump->config_file = target.config_file;
}

void Append(const std::vector<std::string>& more, std::vector<std::string>* to) {
  to->insert(to->end(), more.begin(), more.end());
}

absl::Status TooMany() {
  return BadField("ssh", "the way there has more than " + std::to_string(kMaxJumps) +
                             " jump hosts; does a ProxyJump of ssh_config lead back?");
}

}  // namespace

std::vector<SshSpec> JumpsOf(std::string_view output) {
  const std::string list = Filled(ValueOf(output, "proxyjump"), output);
  std::vector<SshSpec> jumps;
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    jumps.push_back(JumpOf(std::string_view(list).substr(at, end - at)));
    at = end + 1;
  }
  return jumps;
}

bool IsProxied(std::string_view output) { return !ValueOf(output, "proxycommand").empty(); }

Task<absl::StatusOr<OpenSshResolved>> ResolveWay(Loop& loop, Clock& clock, SshCommand command) {
  CO_ASSIGN_OR_RETURN(OpenSshResolved resolved, co_await ResolveTarget(loop, clock, command));
  resolved.proxied = IsProxied(resolved.output);
  std::vector<SshSpec> ahead = JumpsOf(resolved.output);
  while (command.jumps.size() < ahead.size()) {
    if (ahead.size() > kMaxJumps) co_return TooMany();
    const size_t at = command.jumps.size();
    Follow(command.target.spec, &ahead[at]);
    command.jumps.push_back({.spec = ahead[at]});
    CO_ASSIGN_OR_RETURN(OpenSshResolved jump,
                        co_await ResolveTarget(loop, clock, JumpCommand(command, at)));
    // Only the first is reached as its own configuration has it.
    if (const std::vector<SshSpec> before = JumpsOf(jump.output); at == 0 && !before.empty()) {
      ahead.insert(ahead.begin(), before.begin(), before.end());
      command.jumps.clear();
      continue;
    }
    command.jumps[at].user_known_hosts = jump.user_known_hosts;
    Append(jump.facts.credential_files, &resolved.facts.credential_files);
    Append(jump.facts.known_hosts_files, &resolved.facts.known_hosts_files);
    command.jumps[at].resolved = std::move(jump.facts);
  }
  if (!command.jumps.empty()) resolved.facts.first_hop = PlaceOf(command.jumps.front().spec);
  resolved.jumps = std::move(command.jumps);
  co_return resolved;
}

}  // namespace hermes
