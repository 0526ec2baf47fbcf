#include "client/parse.h"

#include <signal.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <optional>

#include "absl/status/status.h"

namespace hermes::client {
namespace {

// Far below what google.protobuf.Duration can hold, far above any use. Longer is refused.
constexpr int64_t kMaxDurationSeconds = int64_t{100} * 366 * 24 * 3600;
constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr size_t kMaxIdLength = 63;
constexpr int kMaxSignal = 64;
// The parts of resource names.
constexpr std::string_view kSessions = "sessions/";
constexpr std::string_view kCommands = "/commands/";
constexpr std::string_view kSyncs = "/syncs/";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

struct Unit {
  std::string_view name;
  int64_t nanos;
};

// Longer names first: "ms" must not be read as "m" and a stray "s".
constexpr std::array<Unit, 6> kUnits = {{{"us", 1'000},
                                         {"ms", 1'000'000},
                                         {"s", kNanosPerSecond},
                                         {"m", 60 * kNanosPerSecond},
                                         {"h", 3600 * kNanosPerSecond},
                                         {"d", int64_t{24} * 3600 * kNanosPerSecond}}};

absl::Status BadDuration(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError("'" + std::string(text) +
                                    "' is not a duration: " + std::string(why) +
                                    "; write for example 500ms, 5s, 1h30m or 2d");
}

// One number with its unit, as nanoseconds; advances `rest`. The cap on digits keeps every product
// inside 128 bits.
std::optional<__int128> TakeTerm(std::string_view& rest) {
  constexpr size_t kMaxDigits = 12;
  __int128 whole = 0;
  __int128 fraction = 0;
  __int128 scale = 1;
  size_t digits = 0;
  size_t i = 0;
  for (; i < rest.size() && IsDigit(rest[i]); ++i, ++digits) whole = whole * 10 + (rest[i] - '0');
  if (i < rest.size() && rest[i] == '.') {
    for (++i; i < rest.size() && IsDigit(rest[i]); ++i, ++digits) {
      fraction = fraction * 10 + (rest[i] - '0');
      scale *= 10;
    }
    if (scale == 1) return std::nullopt;
  }
  if (digits == 0 || digits > kMaxDigits || !IsDigit(rest[0])) return std::nullopt;
  rest.remove_prefix(i);
  for (const Unit& unit : kUnits) {
    if (!rest.starts_with(unit.name)) continue;
    rest.remove_prefix(unit.name.size());
    return whole * unit.nanos + fraction * unit.nanos / scale;
  }
  return std::nullopt;
}

bool IsIdChar(char c) {
  return (c >= 'a' && c <= 'z') || IsDigit(c) || c == '.' || c == '_' || c == '-';
}

bool IsId(std::string_view id) {
  auto is_end = [](char c) { return (c >= 'a' && c <= 'z') || IsDigit(c); };
  return !id.empty() && id.size() <= kMaxIdLength && is_end(id.front()) && is_end(id.back()) &&
         std::all_of(id.begin(), id.end(), IsIdChar);
}

absl::Status BadName(std::string_view text, std::string_view form) {
  return absl::InvalidArgumentError("'" + std::string(text) + "' is not a name: expected " +
                                    std::string(form) +
                                    ", each part up to 63 of a-z 0-9 . _ - with a letter or digit "
                                    "at both ends");
}

// "box/c1" or "sessions/box" + middle + "c1" -> the latter.
absl::StatusOr<std::string> ParseTwo(std::string_view text, std::string_view middle,
                                     std::string_view form) {
  std::string_view rest = text;
  std::string_view separator = "/";
  if (rest.starts_with(kSessions)) {
    rest.remove_prefix(kSessions.size());
    separator = middle;
  }
  size_t slash = rest.find(separator);
  if (slash == std::string_view::npos) return BadName(text, form);
  std::string_view session = rest.substr(0, slash);
  std::string_view id = rest.substr(slash + separator.size());
  if (!IsId(session) || !IsId(id)) return BadName(text, form);
  return std::string(kSessions) + std::string(session) + std::string(middle) + std::string(id);
}

}  // namespace

absl::StatusOr<google::protobuf::Duration> ParseDuration(std::string_view text) {
  if (text.empty()) return BadDuration(text, "it is empty");
  if (text.front() == '-') return BadDuration(text, "it is negative");
  if (std::all_of(text.begin(), text.end(), IsDigit))
    return BadDuration(text, "the unit is missing");
  __int128 nanos = 0;
  for (std::string_view rest = text; !rest.empty();) {
    std::optional<__int128> term = TakeTerm(rest);
    if (!term) return BadDuration(text, "expected numbers with the units us, ms, s, m, h or d");
    nanos += *term;
    if (nanos / kNanosPerSecond > kMaxDurationSeconds) {
      return BadDuration(text, "it is longer than 100 years");
    }
  }
  google::protobuf::Duration result;
  result.set_seconds(static_cast<int64_t>(nanos / kNanosPerSecond));
  result.set_nanos(static_cast<int32_t>(nanos % kNanosPerSecond));
  return result;
}

absl::StatusOr<uint64_t> ParseSize(std::string_view text) {
  auto bad = [&] {
    return absl::InvalidArgumentError("'" + std::string(text) +
                                      "' is not a size: write bytes, for example 512, 64k or 10M");
  };
  size_t i = 0;
  unsigned __int128 value = 0;
  for (; i < text.size() && IsDigit(text[i]); ++i) {
    value = value * 10 + static_cast<unsigned>(text[i] - '0');
    if (value > std::numeric_limits<uint64_t>::max()) return bad();
  }
  if (i == 0) return bad();
  std::string_view unit = text.substr(i);
  if (!unit.empty() && unit != "B") {
    static constexpr std::string_view kPrefixes = "kmgt";
    size_t power = kPrefixes.find(static_cast<char>(std::tolower(unit.front())));
    std::string_view tail = unit.substr(1);
    if (power == std::string_view::npos || (!tail.empty() && tail != "iB" && tail != "B"))
      return bad();
    value <<= 10 * (power + 1);
  }
  if (value > std::numeric_limits<uint64_t>::max()) return bad();
  return static_cast<uint64_t>(value);
}

absl::StatusOr<std::string> ParseSession(std::string_view text) {
  std::string_view id = text;
  if (id.starts_with(kSessions)) id.remove_prefix(kSessions.size());
  if (!IsId(id)) return BadName(text, "SESSION");
  return std::string(kSessions) + std::string(id);
}

absl::StatusOr<std::string> ParseCommand(std::string_view text) {
  return ParseTwo(text, kCommands, "SESSION/COMMAND");
}

absl::StatusOr<std::string> ParseSync(std::string_view text) {
  return ParseTwo(text, kSyncs, "SESSION/SYNC");
}

std::string ShortName(std::string_view resource) {
  if (!resource.starts_with(kSessions)) return std::string(resource);
  std::string_view rest = resource.substr(kSessions.size());
  for (std::string_view middle : {kCommands, kSyncs}) {
    size_t at = rest.find(middle);
    if (at == std::string_view::npos) continue;
    return std::string(rest.substr(0, at)) + "/" + std::string(rest.substr(at + middle.size()));
  }
  return std::string(rest);
}

absl::StatusOr<std::pair<std::string, std::string>> ParsePair(std::string_view text,
                                                              std::string_view what) {
  size_t at = text.find('=');
  if (at == std::string_view::npos || at == 0) {
    return absl::InvalidArgumentError(std::string(what) + " '" + std::string(text) +
                                      "' is not of the form KEY=VALUE");
  }
  return std::make_pair(std::string(text.substr(0, at)), std::string(text.substr(at + 1)));
}

absl::StatusOr<int> ParseSignal(std::string_view text) {
  std::string name(text);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  if (name.starts_with("SIG")) name.erase(0, 3);
  if (!name.empty() && name.size() <= 2 && std::all_of(name.begin(), name.end(), IsDigit)) {
    int number = std::stoi(name);
    if (number >= 1 && number <= kMaxSignal) return number;
  }
  for (int number = 1; number < SIGRTMIN; ++number) {
    const char* known = sigabbrev_np(number);
    if (known != nullptr && name == known) return number;
  }
  return absl::InvalidArgumentError("'" + std::string(text) +
                                    "' is not a signal: write a name such as TERM, or 1 to 64");
}

bool IsUuid(std::string_view text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : !std::isxdigit(static_cast<unsigned char>(text[i]))) return false;
  }
  return true;
}

std::string NewRequestId() {
  std::array<unsigned char, 16> bytes{};
  size_t have = 0;
  while (have < bytes.size()) {
    ssize_t got = getrandom(bytes.data() + have, bytes.size() - have, 0);
    if (got > 0) have += static_cast<size_t>(got);  // else: interrupted by a signal
  }
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  static constexpr char kHex[] = "0123456789abcdef";
  std::string id;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) id += '-';
    id += kHex[bytes[i] >> 4];
    id += kHex[bytes[i] & 15];
  }
  return id;
}

}  // namespace hermes::client
