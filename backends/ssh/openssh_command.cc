#include "backends/ssh/openssh_command.h"

#include <pwd.h>
#include <strings.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>

namespace hermes {
namespace {

using Strings = std::vector<std::string>;

// In place of kConnectLimit where jumps are logged in to meanwhile: a jump that does not answer is
// to say so before who waits behind it gives up.
constexpr Duration kConnectThroughLimit = 2 * kConnectLimit;

constexpr std::string_view kTellFirstLines = "kex.c:kex_exchange_identification():*";

void AddOption(Strings& words, std::string_view name, const std::string& value) {
  words.emplace_back("-o");
  words.push_back(std::string(name) + "=" + value);
}

// A path as one word of ssh_config, where '%' begins a token.
std::string Quoted(const std::string& path) {
  std::string quoted = "\"";
  for (const char c : path) quoted.append(c == '%' ? 2 : 1, c);
  return quoted + "\"";
}

bool BeginsLikeAPath(std::string_view word) {
  return !word.empty() && std::string_view("/~$%").find(word.front()) != std::string_view::npos;
}

std::string Seconds(Duration duration) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(duration).count());
}

// ssh asks this program for the host's line of known_hosts: it gets one if the key's fingerprint is
// the pinned one. "%f" is NONE when ssh only wants to know which types to prefer.
std::string PinCheck(const std::string& pin) {
  return "/bin/sh -c 'if [ \"$2\" = \"$1\" ]; then echo \"$3 $4 $5\"; "
         "elif [ \"$2\" != NONE ]; then echo \"" +
         std::string(kPinMark) + " $4 $2\" >&2; fi' sh " + pin + " %f %H %t %K";
}

void AddHostKeyPolicy(Strings& words, const SshCommand& command) {
  const SshSpec& spec = command.target.spec;
  AddOption(words, "UpdateHostKeys", "no");
  AddOption(words, "VerifyHostKeyDNS", "no");
  AddOption(words, "CheckHostIP", "no");
  AddOption(words, "NoHostAuthenticationForLocalhost", "no");
  AddOption(words, "VisualHostKey", "no");
  AddOption(words, "FingerprintHash", "sha256");
  if (IsPinned(spec)) {
    AddOption(words, "StrictHostKeyChecking", "yes");
    AddOption(words, "UserKnownHostsFile", "none");
    AddOption(words, "GlobalKnownHostsFile", "none");
    AddOption(words, "KnownHostsCommand", PinCheck(spec.host_key));
    std::string without;
    for (const std::string& type : command.refused_key_types) {
      without += (without.empty() ? "-" : ",") + type;
    }
    if (!without.empty()) AddOption(words, "HostKeyAlgorithms", without);
  } else if (spec.host_key == "accept-new") {
    AddOption(words, "StrictHostKeyChecking", "accept-new");
    AddOption(words, "HashKnownHosts", "no");
    // New keys go to the first file only.
    std::string files = Quoted(command.target.learned_known_hosts);
    if (command.user_known_hosts != "none") files += " " + QuotedFiles(command.user_known_hosts);
    if (!command.user_known_hosts.empty()) AddOption(words, "UserKnownHostsFile", files);
  } else {
    AddOption(words, "StrictHostKeyChecking", "yes");
  }
}

// Nothing but programs and their stdio: no terminal, no forwarding, nobody to ask.
void AddOurs(Strings& words) {
  AddOption(words, "BatchMode", "yes");
  AddOption(words, "ConnectionAttempts", "1");
  AddOption(words, "ServerAliveInterval", Seconds(kAliveInterval));
  // ssh asks so often and gives up an interval after the last question.
  AddOption(words, "ServerAliveCountMax", std::to_string(kAliveMisses - 1));
  AddOption(words, "LogLevel", "ERROR");
  AddOption(words, "SessionType", "none");
  AddOption(words, "RemoteCommand", "none");
  AddOption(words, "RequestTTY", "no");
  AddOption(words, "EscapeChar", "none");
  AddOption(words, "ForkAfterAuthentication", "no");
  AddOption(words, "StdinNull", "no");  // what ends ssh with us hangs on its stdin
  AddOption(words, "PermitLocalCommand", "no");
  AddOption(words, "ClearAllForwardings", "yes");
  AddOption(words, "ExitOnForwardFailure", "no");
  AddOption(words, "ForwardAgent", "no");
  AddOption(words, "ForwardX11", "no");
  AddOption(words, "ForwardX11Trusted", "no");
  AddOption(words, "GatewayPorts", "no");
  AddOption(words, "Tunnel", "no");
}

// Over the jumps, if there are any. What stands in quotes is the same in every shell: ssh takes the
// account's.
void AddWay(Strings& words, const SshCommand& command) {
  const size_t jumps = command.jumps.size();
  AddOption(words, "ConnectTimeout", Seconds(jumps == 0 ? kConnectLimit : kConnectThroughLimit));
  if (jumps == 0) return;
  AddOption(words, "ProxyCommand",
            "/bin/sh -c \"$" + std::string(kJumpsVariable) + "\" sh " + std::to_string(jumps) +
                " '[%h]:%p'");
  AddOption(words, "ProxyUseFdpass", "no");
}

void AddTheirs(Strings& words, const SshCommand& command) {
  const SshSpec& spec = command.target.spec;
  if (spec.port != 0) words.insert(words.end(), {"-p", std::to_string(spec.port)});
  if (!spec.user.empty()) words.insert(words.end(), {"-l", spec.user});
  if (!spec.key_file.empty()) {
    AddOption(words, "IdentitiesOnly", "yes");
    words.insert(words.end(), {"-i", ExpandHome(spec.key_file)});
  }
  const std::string& config = command.config_file.empty() ? spec.config_file : command.config_file;
  if (!config.empty()) words.insert(words.end(), {"-F", ExpandHome(config)});
  for (const auto& [name, value] : spec.options) AddOption(words, name, value);
  words.emplace_back("--");
  words.push_back(spec.host);
}

// For /bin/sh.
std::string ShellWord(std::string_view word) {
  std::string quoted = "'";
  for (const char c : word) c == '\'' ? quoted.append("'\\''") : quoted.append(1, c);
  return quoted + "'";
}

// A master of the user's own may carry it, but it becomes nobody's master.
Strings JumpWords(const SshCommand& jump) {
  Strings words;
  AddOption(words, "ControlMaster", "no");
  // See HostsReached; and why it leads no further.
  AddOption(words, "LogVerbose",
            std::string(kTellFirstLines) + ",channels.c:channel_input_open_failure():*");
  AddOurs(words);
  AddWay(words, jump);
  AddHostKeyPolicy(words, jump);
  AddTheirs(words, jump);
  return words;
}

}  // namespace

std::string ExpandHome(const std::string& path) {
  if (!path.starts_with("~/")) return path;
  const passwd* account = getpwuid(geteuid());
  return account == nullptr ? path : account->pw_dir + path.substr(1);
}

std::vector<std::string> FilesOf(std::string_view list) {
  std::vector<std::string> files;
  while (!list.empty()) {
    const size_t blank = std::min(list.find(' '), list.size());
    const std::string_view word = list.substr(0, blank);
    list.remove_prefix(std::min(blank + 1, list.size()));
    if (files.empty() || BeginsLikeAPath(word)) {
      files.emplace_back(word);
    } else {
      files.back().append(" ").append(word);
    }
  }
  return files;
}

std::string QuotedFiles(std::string_view list) {
  if (!BeginsLikeAPath(list)) return std::string(list);  // "none", or paths that tell nothing
  std::string words;
  for (const std::string& file : FilesOf(list)) {
    words += words.empty() ? "\"" : " \"";
    for (const char c : file) {
      if (c == '"' || c == '\\') words += '\\';
      words += c;
    }
    words += '"';
  }
  return words;
}

int OpenSshVersion(std::string_view words) {
  constexpr std::string_view kName = "OpenSSH_";
  const size_t at = words.find(kName);
  if (at == std::string_view::npos) return 0;
  const char* end = words.data() + words.size();
  int major = 0, minor = 0;
  auto [dot, bad] = std::from_chars(words.data() + at + kName.size(), end, major);
  if (bad != std::errc() || dot == end || *dot != '.' || major > 1000) return 0;
  if (std::from_chars(dot + 1, end, minor).ec != std::errc() || minor > 99) return 0;
  return major * 100 + minor;
}

std::string FastestFirst(std::string_view accepted, bool cpu_has_aes) {
  if (!cpu_has_aes || !accepted.starts_with("chacha20-poly1305")) return "";
  std::string fast;
  std::string others;
  while (!accepted.empty()) {
    const size_t comma = std::min(accepted.find(','), accepted.size());
    const std::string_view cipher = accepted.substr(0, comma);
    accepted.remove_prefix(std::min(comma + 1, accepted.size()));
    (cipher.find("-gcm@") == cipher.npos ? others : fast).append(",").append(cipher);
  }
  return fast.empty() ? "" : fast.substr(1) + others;
}

bool GivesCiphers(const SshSpec& spec) {
  return std::any_of(spec.options.begin(), spec.options.end(), [](const auto& option) {
    return strcasecmp(option.first.c_str(), "Ciphers") == 0;
  });
}

bool CpuHasAes() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
  return (getauxval(AT_HWCAP) & HWCAP_AES) != 0 && (getauxval(AT_HWCAP) & HWCAP_PMULL) != 0;
#else
  return false;
#endif
}

std::vector<std::string> ResolveWords(const SshCommand& command) {
  Strings words = {command.program, "-G"};
  AddOurs(words);
  AddWay(words, command);
  AddHostKeyPolicy(words, command);
  AddTheirs(words, command);
  return words;
}

std::vector<std::string> MasterWords(const SshCommand& command, const std::string& control_path) {
  Strings words = {command.program, "-M", "-N"};
  AddOption(words, "ControlMaster", "yes");
  AddOption(words, "ControlPath", Quoted(control_path));
  AddOption(words, "ControlPersist", "no");
  if (!command.ciphers.empty()) AddOption(words, "Ciphers", command.ciphers);
  AddOption(words, "LogVerbose", std::string(kTellFirstLines));  // see ServerVersion
  AddOurs(words);
  AddWay(words, command);
  AddHostKeyPolicy(words, command);
  AddTheirs(words, command);
  return words;
}

SshCommand JumpCommand(const SshCommand& command, size_t index) {
  const SshJump& jump = command.jumps[index];
  return {.program = command.program,
          .target = {.spec = jump.spec, .learned_known_hosts = command.target.learned_known_hosts},
          .user_known_hosts = jump.user_known_hosts,
          .jumps = {command.jumps.begin(), command.jumps.begin() + static_cast<ptrdiff_t>(index)}};
}

std::string JumpScript(const SshCommand& command) {
  std::string script = "case $1 in";
  for (size_t i = 0; i < command.jumps.size(); ++i) {
    script += " " + std::to_string(i + 1) + ") exec " + ShellWord(command.program) + " -W \"$2\"";
    for (const std::string& word : JumpWords(JumpCommand(command, i))) {
      script += " " + ShellWord(word);
    }
    script += " ;;";
  }
  return script + " esac";
}

std::vector<std::string> SshEnvironment() {
  Strings environment = {"SSH_ASKPASS_REQUIRE=never"};
  const passwd* account = getpwuid(geteuid());
  auto add = [&](const char* name, const char* otherwise) {
    const char* value = getenv(name);
    if (value == nullptr || *value == '\0') value = otherwise;
    if (value != nullptr) environment.push_back(std::string(name) + "=" + value);
  };
  add("PATH", "/usr/local/bin:/usr/bin:/bin");
  add("HOME", account != nullptr ? account->pw_dir : "/");
  add("USER", account != nullptr ? account->pw_name : nullptr);
  add("LOGNAME", account != nullptr ? account->pw_name : nullptr);
  for (const char* name : {"SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSH_AUTH_SOCK",
                           "XDG_RUNTIME_DIR", "KRB5CCNAME"}) {
    add(name, nullptr);
  }
  return environment;
}

}  // namespace hermes
