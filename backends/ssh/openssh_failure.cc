#include "backends/ssh/openssh_failure.h"

#include <algorithm>
#include <initializer_list>
#include <utility>
#include <vector>

#include "backends/ssh/openssh_command.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr std::string_view kFirstLinesMark = "debug1: kex.c:kex_exchange_identification():";
constexpr std::string_view kVersionMark = "remote software version ";
constexpr size_t kMaxShown = 1500;  // bytes of ssh's words in a message; the last of them

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = text.find_first_of("\r\n");
    if (end != 0) lines.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

bool HasAny(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(), [text](std::string_view part) {
    return text.find(part) != std::string_view::npos;
  });
}

// The rest of the first line after `part`; of `next`, the line after it.
std::string After(std::string_view words, std::string_view part, bool next = false) {
  const std::vector<std::string_view> lines = Lines(words);
  for (size_t i = 0; i < lines.size(); ++i) {
    const size_t at = lines[i].find(part);
    if (at == std::string_view::npos) continue;
    if (!next) return std::string(lines[i].substr(at + part.size()));
    return i + 1 < lines.size() ? std::string(lines[i + 1]) : "";
  }
  return "";
}

bool IsOfFirstLines(std::string_view line) { return line.starts_with(kFirstLinesMark); }

std::string Address(const SshFailure& failure) {
  const SshResolved& to = failure.resolved;
  return to.host.empty() ? failure.spec.host : to.host + ":" + std::to_string(to.port);
}

std::string Account(const SshFailure& failure) {
  const std::string& user =
      failure.resolved.user.empty() ? failure.spec.user : failure.resolved.user;
  return user.empty() ? Address(failure) : user + "@" + Address(failure);
}

std::string Said(const SshFailure& failure) {
  const std::string words = OneLine(failure.words);
  return words.empty() ? "" : " (ssh: " + words + ")";
}

// Whom a failure is about: the target, or a host that the way leads over.
struct Party {
  std::string name;       // for people
  const SshJump* jump;    // nullptr: the target
  const SshJump* before;  // nullptr: reached from here
};

std::string JumpName(const SshJump& jump) { return "the jump host " + jump.spec.host; }

const SshResolved& ResolvedOf(const SshFailure& failure, const Party& party) {
  return party.jump == nullptr ? failure.resolved : party.jump->resolved;
}

Party PartyAt(const SshFailure& failure, size_t place) {
  const SshJump* before = place == 0 ? nullptr : &failure.jumps[place - 1];
  if (place == failure.jumps.size()) return {Address(failure), nullptr, before};
  const SshJump& jump = failure.jumps[place];
  return {
      JumpName(jump) + " (" + jump.resolved.host + ":" + std::to_string(jump.resolved.port) + ")",
      &jump, before};
}

// The last that spoke: it was logged in to. Everybody before it has let us through.
Party LastReached(const SshFailure& failure) {
  return PartyAt(failure, std::clamp<size_t>(failure.reached, 1, failure.jumps.size() + 1) - 1);
}
// The one that is next, who said nothing yet.
Party FirstUnheard(const SshFailure& failure) {
  return PartyAt(failure, std::min(failure.reached, failure.jumps.size()));
}

std::string HowToSee(const SshFailure& failure, const Party& party) {
  const SshResolved& at = ResolvedOf(failure, party);
  return (party.before == nullptr ? "with" : "on " + party.before->spec.host + " with") +
         (" `ssh-keyscan -p " + std::to_string(at.port) + " " + at.host + " | ssh-keygen -lf -`");
}

absl::Status Changed(const SshFailure& failure, const Party& party) {
  std::string shown = After(failure.words, "sent by the remote host is", /*next=*/true);
  if (shown.ends_with('.')) shown.pop_back();  // of ssh's sentence
  const std::string where = After(failure.words, "Offending ");
  const bool revoked = HasAny(failure.words, {"REVOKED HOST KEY"});
  std::string text = "the key of " + party.name +
                     (revoked ? " is marked as revoked" : " is not the one that is known");
  if (!shown.empty()) text += "; it shows " + shown;
  if (!where.empty()) text += "; known is: " + where;
  return Error(Reason::k_HOST_KEY_CHANGED,
               text +
                   ". Somebody may stand in between, or the host was set up anew: ask its "
                   "operator for the fingerprint, then correct that line. hermesd overrides "
                   "nothing and has sent nothing" +
                   Said(failure));
}

absl::Status NotPinned(const SshFailure& failure, const ShownKey& shown) {
  return Error(Reason::k_HOST_KEY_CHANGED,
               Address(failure) + " shows the key " + shown.fingerprint + " (" + shown.type +
                   "), pinned is " + failure.spec.host_key +
                   ". Verify it with the host's operator before you change the pin",
               {{std::string(kShownType), shown.type}});
}

absl::Status Unknown(const SshFailure& failure, const Party& party) {
  std::string ways = "add it to known_hosts";
  if (party.jump == nullptr) {
    ways += ", pin its fingerprint as host_key, or use host_key accept-new";
  } else if (!IsPinned(failure.spec)) {  // a pin is the target's
    ways += ", or use host_key accept-new";
  }
  return Error(Reason::k_HOST_KEY_UNKNOWN,
               "the key of " + party.name + " is not in known_hosts. Look at it " +
                   HowToSee(failure, party) +
                   ", compare it with what the host's operator says, then " + ways + Said(failure));
}

absl::Status RefusedByJump(const SshFailure& failure, const Party& party) {
  return Error(Reason::k_BACKEND_AUTH_FAILED,
               party.name + " refuses to log in " + party.jump->resolved.user +
                   "; tried: the keys of ssh_config, of ~/.ssh and of the agent. Account and key "
                   "of the session are the target's: give the jump its User and IdentityFile "
                   "below \"Host " +
                   party.jump->spec.host + "\" in ssh_config, a key without passphrase" +
                   Said(failure));
}

absl::Status Refused(const SshFailure& failure, const Party& party) {
  if (party.jump != nullptr) return RefusedByJump(failure, party);
  const std::string key = failure.spec.key_file.empty()
                              ? "the keys of ssh_config, of ~/.ssh and of the agent"
                              : "the key " + failure.spec.key_file;
  return Error(Reason::k_BACKEND_AUTH_FAILED,
               "the host refuses to log in " + Account(failure) + "; tried: " + key +
                   ". hermesd can't answer questions: use a key without passphrase or an agent" +
                   Said(failure));
}

absl::Status BadConfiguration(const SshFailure& failure) {
  const bool ours = HasAny(failure.words, {"command-line"}) || failure.spec.config_file.empty();
  return BadField(ours ? "ssh.options" : "ssh.config_file",
                  "ssh refuses its configuration" + Said(failure));
}

absl::Status Lost(const SshFailure& failure) {
  const std::string words = Said(failure);
  return Error(
      Reason::k_BACKEND_UNREACHABLE,
      "the connection to " + Address(failure) + " broke" +
          (words.empty() ? ": it no longer answers, or ssh was ended from outside" : words));
}

bool IsKeyChanged(std::string_view words) {
  return HasAny(words, {"HOST IDENTIFICATION HAS CHANGED", "REVOKED HOST KEY"});
}
bool IsKeyUnknown(std::string_view words) {
  return HasAny(words, {"Host key verification failed", "host key is known for"});
}
bool IsRefused(std::string_view words) {
  return HasAny(words, {"Permission denied (", "Too many authentication failures",
                        "No more authentication methods"});
}
// By a jump that was logged in to.
bool IsNotForwarded(std::string_view words) {
  return HasAny(words, {"open failed: ", "stdio forwarding failed", "stdio forwarding request"});
}
// Whoever is behind a jump has no address for ssh, which then says "UNKNOWN".
bool IsClosedByAddress(std::string_view words) {
  if (HasAny(words, {"Unable to negotiate with"})) return true;
  for (const std::string_view closed : {"Connection closed by ", "Connection reset by "}) {
    const std::string by = After(words, closed);
    if (!by.empty() && !by.starts_with("UNKNOWN") && !by.starts_with("remote host") &&
        !by.starts_with("peer")) {
      return true;
    }
  }
  return false;
}

// What a ProxyCommand runs is the user's, and so are its words.
absl::Status ProxyFailed(const SshFailure& failure) {
  const std::string_view words = failure.words;
  const Reason reason = IsKeyChanged(words)   ? Reason::k_HOST_KEY_CHANGED
                        : IsKeyUnknown(words) ? Reason::k_HOST_KEY_UNKNOWN
                        : IsRefused(words)    ? Reason::k_BACKEND_AUTH_FAILED
                                              : Reason::k_BACKEND_UNREACHABLE;
  return Error(reason,
               "the ProxyCommand that leads to " + Address(failure) +
                   " failed before that host said a word: run it by hand, as hermesd's account, "
                   "to see what it needs" +
                   Said(failure));
}

absl::Status NotForwarded(const SshFailure& failure) {
  const size_t reached = std::max<size_t>(failure.reached, 1);
  const Party party = PartyAt(failure, std::min(reached, failure.jumps.size()));
  const bool forbidden = HasAny(failure.words, {"administratively prohibited"});
  return Error(Reason::k_BACKEND_UNREACHABLE,
               party.name + " can't be reached from " + JumpName(*party.before) +
                   (forbidden ? ", which forwards no connection there: see AllowTcpForwarding and "
                                "PermitOpen of its sshd_config"
                              : ": see whether it is up and lets that host connect") +
                   Said(failure));
}

absl::Status Unreachable(const SshFailure& failure) {
  const std::string_view words = failure.words;
  const bool by_last = failure.reached > 0 && IsClosedByAddress(words);
  const Party party = by_last ? LastReached(failure) : FirstUnheard(failure);
  const std::string from = party.before == nullptr ? "" : " from " + JumpName(*party.before);
  std::string text = party.name + " can't be reached" + from;
  if (failure.too_slow) {
    text = party.name + " did not let us in" + from + " within " +
           std::to_string(std::chrono::duration_cast<std::chrono::seconds>(kLoginLimit).count()) +
           " seconds";
  } else if (HasAny(words, {"Unable to negotiate with"})) {
    text = party.name + " and ssh have no algorithm in common: see Ciphers, KexAlgorithms, " +
           "HostKeyAlgorithms of either";
  } else if (HasAny(words, {"connect to host", "Could not resolve hostname", "timed out"}) &&
             !After(words, "connect to host ").ends_with("Connection reset by peer")) {
    // It was not even connected to, whatever those behind it say of theirs.
  } else if (HasAny(words, {"kex_exchange_identification", "Connection closed by",
                            "Connection reset by", "Not allowed at this time"})) {
    text = party.name + " closed the connection" + from +
           " before the login. It may have too many logins under way (MaxStartups), or refuse "
           "this address for a while (PerSourcePenalties, fail2ban)";
  }
  return Error(Reason::k_BACKEND_UNREACHABLE, text + Said(failure));
}

}  // namespace

std::string OneLine(std::string_view words) {
  std::string line;
  for (const std::string_view part : Lines(words)) {
    if (part.starts_with("@@@") || part.starts_with(kPinMark)) continue;
    if (!line.empty()) line += "; ";
    line += part;
  }
  if (line.size() > kMaxShown) line.replace(0, line.size() - kMaxShown, "...");
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  return line;
}

std::string ServerVersion(std::string_view words) {
  std::string last;  // the jumps say theirs before
  for (const std::string_view line : Lines(words)) {
    const size_t at = IsOfFirstLines(line) ? line.find(kVersionMark) : std::string_view::npos;
    if (at != std::string_view::npos) last = line.substr(at + kVersionMark.size());
  }
  return last;
}

size_t HostsReached(std::string_view words, size_t jumps, pid_t pid) {
  const std::string by_target = "(pid=" + std::to_string(pid) + ")";
  size_t reached = 0;
  for (const std::string_view line : Lines(words)) {
    if (!IsOfFirstLines(line) || line.find(kVersionMark) == std::string_view::npos) continue;
    if (line.find(by_target) != std::string_view::npos) return jumps + 1;
    ++reached;
  }
  return std::min(reached, jumps + 1);
}

std::string WithoutFirstLines(std::string_view words) {
  std::string rest;
  for (const std::string_view line : Lines(words)) {
    const bool told = IsOfFirstLines(line);
    if (told && line.find(" version ") != std::string_view::npos) continue;
    // What went wrong while they were exchanged, as ssh says it without being asked for more.
    const size_t words_at =
        told ? line.find("): ", kFirstLinesMark.size()) : std::string_view::npos;
    if (words_at != std::string_view::npos) {
      rest.append("kex_exchange_identification").append(line.substr(words_at + 1));
    } else {
      rest.append(line);
    }
    rest += '\n';
  }
  return rest;
}

ShownKey RefusedByPin(std::string_view words) {
  ShownKey key;
  for (const std::string_view line : Lines(words)) {
    if (!line.starts_with(kPinMark)) continue;
    const size_t type = line.find(' '), fingerprint = line.rfind(' ');
    if (type == std::string_view::npos || type == fingerprint) continue;
    key.type = line.substr(type + 1, fingerprint - type - 1);
    key.fingerprint = line.substr(fingerprint + 1);
  }
  return key;
}

absl::Status Explain(const SshFailure& failure) {
  const std::string_view words = failure.words;
  if (failure.logged_in) return Lost(failure);
  if (failure.proxied && failure.reached == 0 && !failure.too_slow) return ProxyFailed(failure);
  if (IsKeyChanged(words)) return Changed(failure, LastReached(failure));
  if (const ShownKey shown = RefusedByPin(words); !shown.fingerprint.empty()) {
    return NotPinned(failure, shown);
  }
  if (IsKeyUnknown(words)) return Unknown(failure, LastReached(failure));
  // `ssh -G` has read the same configuration just before; rare.
  if (HasAny(words, {"Bad configuration option", "command-line line", "bad configuration options",
                     "Can't open user config file", "Bad owner or permissions on"})) {
    return BadConfiguration(failure);
  }
  if (IsRefused(words)) return Refused(failure, LastReached(failure));
  if (!failure.jumps.empty() && IsNotForwarded(words)) return NotForwarded(failure);
  return Unreachable(failure);
}

// ssh does not tell whether it had come to its keys, and hardly ever which of two hosts hung up. A
// host behind a jump that cannot be reached, or is silent, is known by the words: it counts
// nothing.
SshTries TriesOf(const SshFailure& failure) {
  const std::string_view words = failure.words;
  if (IsKeyChanged(words) || IsKeyUnknown(words) || !RefusedByPin(words).fingerprint.empty())
    return {.left = 1};
  if (IsRefused(words)) return {.refused = 1};
  if (failure.reached == 0 || failure.logged_in) return {};
  if (HasAny(words, {"Unable to negotiate with"})) return {.left = 1};
  const bool target_spoke = failure.reached > failure.jumps.size();
  if (!target_spoke && (IsNotForwarded(words) || HasAny(words, {"timed out"}))) return {};
  return {.refused = 1};
}

}  // namespace hermes
