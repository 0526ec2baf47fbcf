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

std::string HowToSee(const SshFailure& failure) {
  return "`ssh-keyscan -p " + std::to_string(failure.resolved.port) + " " + failure.resolved.host +
         " | ssh-keygen -lf -`";
}

absl::Status Changed(const SshFailure& failure) {
  std::string shown = After(failure.words, "sent by the remote host is", /*next=*/true);
  if (shown.ends_with('.')) shown.pop_back();  // of ssh's sentence
  const std::string where = After(failure.words, "Offending ");
  const bool revoked = HasAny(failure.words, {"REVOKED HOST KEY"});
  std::string text = "the key of " + Address(failure) +
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

absl::Status Unknown(const SshFailure& failure) {
  return Error(Reason::k_HOST_KEY_UNKNOWN,
               "the key of " + Address(failure) + " is not in known_hosts. Look at it with " +
                   HowToSee(failure) +
                   ", compare it with what the host's operator says, then add it to known_hosts, "
                   "pin its fingerprint as host_key, or use host_key accept-new" +
                   Said(failure));
}

absl::Status Refused(const SshFailure& failure) {
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

absl::Status Unreachable(const SshFailure& failure) {
  std::string text = Address(failure) + " can't be reached";
  if (failure.too_slow) {
    text = Address(failure) + " did not let us in within " +
           std::to_string(std::chrono::duration_cast<std::chrono::seconds>(kLoginLimit).count()) +
           " seconds";
  } else if (HasAny(failure.words, {"kex_exchange_identification", "Connection closed by",
                                    "Connection reset by", "Not allowed at this time"})) {
    text = Address(failure) +
           " closed the connection before the login. It may have too many logins under way "
           "(MaxStartups), or refuse this address for a while (PerSourcePenalties, fail2ban)";
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
  for (const std::string_view line : Lines(words)) {
    if (IsOfFirstLines(line)) {
      const size_t at = line.find(kVersionMark);
      if (at != std::string_view::npos) return std::string(line.substr(at + kVersionMark.size()));
    }
  }
  return "";
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
  if (HasAny(words, {"HOST IDENTIFICATION HAS CHANGED", "REVOKED HOST KEY"})) {
    return Changed(failure);
  }
  if (const ShownKey shown = RefusedByPin(words); !shown.fingerprint.empty()) {
    return NotPinned(failure, shown);
  }
  if (HasAny(words, {"Host key verification failed", "host key is known for"})) {
    return Unknown(failure);
  }
  // `ssh -G` has read the same configuration just before; rare.
  if (HasAny(words, {"Bad configuration option", "command-line line", "bad configuration options",
                     "Can't open user config file", "Bad owner or permissions on"})) {
    return BadConfiguration(failure);
  }
  if (HasAny(words, {"Permission denied (", "Too many authentication failures",
                     "No more authentication methods"})) {
    return Refused(failure);
  }
  return Unreachable(failure);
}

}  // namespace hermes
