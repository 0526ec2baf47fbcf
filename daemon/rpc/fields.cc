#include "daemon/rpc/fields.h"

#include <algorithm>
#include <array>

namespace hermes {
namespace {

constexpr size_t kShownBytes = 80;
constexpr int64_t kNanosPerSecond = 1'000'000'000;
// Keeps seconds * 1e9 within 64 bits; every real limit is far below.
constexpr int64_t kMaxSeconds = 9'000'000'000;

bool IsLowerOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

std::string Number(uint64_t value) { return std::to_string(value); }

// Bytes of the UTF-8 sequence at the front of `text`; 0: not a valid one.
size_t SequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates and what lies beyond U+10FFFF.
  if (first == 0xe0 && byte(1) < 0xa0) return 0;
  if (first == 0xed && byte(1) > 0x9f) return 0;
  if (first == 0xf0 && byte(1) < 0x90) return 0;
  if (first == 0xf4 && byte(1) > 0x8f) return 0;
  return length;
}

bool IsEnvName(std::string_view name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

std::string Entry(std::string_view field, std::string_view key) {
  return std::string(field) + "[" + Shown(key) + "]";
}

absl::Status CheckEnvEntry(std::string_view field, const std::string& name,
                           const std::string& value) {
  if (!IsEnvName(name)) {
    return BadField(Entry(field, name), "a variable's name must match [A-Za-z_][A-Za-z0-9_]*");
  }
  if (value.find('\0') != std::string::npos) {
    return BadField(Entry(field, name), "a variable's value must not contain NUL");
  }
  if (name.size() + 1 + value.size() > kMaxArgBytes) {
    return BadField(Entry(field, name),
                    "name and value must fit into " + Number(kMaxArgBytes) + " bytes");
  }
  return absl::OkStatus();
}

// sessions/{session} + middle + {what}, as its two ids.
absl::StatusOr<std::pair<std::string, std::string>> ParsePair(std::string_view field,
                                                              std::string_view name,
                                                              std::string_view middle,
                                                              std::string_view what) {
  std::string form = "sessions/{session}";
  form.append(middle).append(what);
  if (name.empty()) return BadName(field, name, "is required: " + form);
  const size_t at = name.find(middle);
  if (at != std::string_view::npos) {
    auto session = ParseSessionName(field, name.substr(0, at));
    const std::string_view id = name.substr(at + middle.size());
    if (session.ok() && IsId(id)) return std::pair(*std::move(session), std::string(id));
  }
  return BadName(field, name, "must be " + form);
}

}  // namespace

std::string Shown(std::string_view text) {
  std::string shown;
  size_t i = 0;
  while (i < text.size() && shown.size() < kShownBytes) {
    const size_t length = SequenceLength(text.substr(i));
    if (length == 0 || !IsPrintable(text.substr(i, length))) {
      shown += '?';
      i += std::max<size_t>(length, 1);
    } else {
      shown += text.substr(i, length);
      i += length;
    }
  }
  if (i < text.size()) shown += "...";
  return shown;
}

absl::Status BadName(std::string_view field, std::string_view name, std::string_view message) {
  return Error(Reason::k_BAD_NAME, std::string(field) + ": " + std::string(message),
               {{"field", std::string(field)}, {"name", Shown(name)}});
}

absl::Status BadTimeout(std::string_view field, std::string_view message, Duration limit) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit).count();
  return Error(Reason::k_BAD_TIMEOUT, std::string(field) + ": " + std::string(message),
               {{"field", std::string(field)}, {"limit_seconds", std::to_string(seconds)}});
}

bool IsId(std::string_view text) {
  if (text.empty() || text.size() > kMaxIdBytes) return false;
  if (!IsLowerOrDigit(text.front()) || !IsLowerOrDigit(text.back())) return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return IsLowerOrDigit(c) || c == '.' || c == '_' || c == '-'; });
}

absl::StatusOr<std::string> ParseSessionName(std::string_view field, std::string_view name) {
  constexpr std::string_view kPrefix = "sessions/";
  if (name.empty()) return BadName(field, name, "is required: sessions/{session}");
  if (!name.starts_with(kPrefix) || !IsId(name.substr(kPrefix.size()))) {
    return BadName(field, name, "must be sessions/{session}");
  }
  return std::string(name.substr(kPrefix.size()));
}

absl::StatusOr<CommandRef> ParseCommandName(std::string_view field, std::string_view name) {
  ASSIGN_OR_RETURN(auto ids, ParsePair(field, name, "/commands/", "{command}"));
  return CommandRef{std::move(ids.first), std::move(ids.second)};
}

absl::StatusOr<SyncRef> ParseSyncName(std::string_view field, std::string_view name) {
  ASSIGN_OR_RETURN(auto ids, ParsePair(field, name, "/syncs/", "{sync}"));
  return SyncRef{std::move(ids.first), std::move(ids.second)};
}

absl::StatusOr<std::string> ParseUuid(std::string_view field, std::string_view text) {
  constexpr size_t kUuidBytes = 36;
  std::string uuid;
  for (size_t i = 0; i < text.size() && i <= kUuidBytes; ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    char c = text[i];
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
    const bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    if (dash ? c != '-' : !digit) break;
    uuid += c;
  }
  if (uuid.size() != kUuidBytes || text.size() != kUuidBytes) {
    return BadField(field, "must be a UUID such as 00112233-4455-6677-8899-aabbccddeeff");
  }
  return uuid;
}

absl::StatusOr<Duration> ParseDuration(std::string_view field,
                                       const google::protobuf::Duration& value, DurationRule rule) {
  const int64_t seconds = value.seconds();
  const int64_t nanos = value.nanos();
  if (nanos <= -kNanosPerSecond || nanos >= kNanosPerSecond) {
    return BadTimeout(field, "nanos must lie within one second", rule.limit);
  }
  if ((seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0)) {
    return BadTimeout(field, "seconds and nanos must have the same sign", rule.limit);
  }
  if (seconds < 0 || nanos < 0) return BadTimeout(field, "must not be negative", rule.limit);
  if (seconds == 0 && nanos == 0 && !rule.zero_allowed) {
    return BadTimeout(field, "must be more than zero", rule.limit);
  }
  const Duration duration{std::min(seconds, kMaxSeconds) * kNanosPerSecond + nanos};
  if (duration > rule.limit) {
    const auto most = std::chrono::duration_cast<std::chrono::seconds>(rule.limit).count();
    return BadTimeout(field, "must be at most " + std::to_string(most) + " s", rule.limit);
  }
  return duration;
}

absl::Status CheckPath(std::string_view field, std::string_view path) {
  if (path.empty()) return absl::OkStatus();
  if (path.size() > kMaxPathBytes) {
    return BadField(field, "must have at most " + Number(kMaxPathBytes) + " bytes");
  }
  if (path.find('\0') != std::string_view::npos) return BadField(field, "must not contain NUL");
  if (path[0] != '/' && !path.starts_with("~/")) {
    return BadField(field, "must be absolute or start with ~/");
  }
  return absl::OkStatus();
}

absl::StatusOr<EnvPairs> ParseEnv(std::string_view field, const StringMap& env, EnvBudget& budget) {
  budget.entries += env.size();
  if (budget.entries > kMaxEnvEntries) {
    return BadField(field, "at most " + Number(kMaxEnvEntries) + " variables are allowed");
  }
  EnvPairs pairs;
  pairs.reserve(env.size());
  for (const auto& [name, value] : env) {
    RETURN_IF_ERROR(CheckEnvEntry(field, name, value));
    budget.bytes += name.size() + value.size();
    pairs.emplace_back(name, value);
  }
  if (budget.bytes > kMaxEnvBytes) {
    return BadField(field, "variables must have at most " + Number(kMaxEnvBytes) + " bytes in all");
  }
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

bool IsLabelKey(std::string_view key) {
  if (key.empty() || key.size() > kMaxLabelKeyBytes) return false;
  return std::all_of(key.begin(), key.end(), [](char c) {
    return IsLowerOrDigit(c) || c == '.' || c == '/' || c == '_' || c == '-';
  });
}

absl::StatusOr<Labels> ParseLabels(std::string_view field, const StringMap& labels) {
  if (labels.size() > kMaxLabels) {
    return BadField(field, "at most " + Number(kMaxLabels) + " labels are allowed");
  }
  Labels parsed;
  for (const auto& [key, value] : labels) {
    if (!IsLabelKey(key)) {
      return BadField(Entry(field, key), "a label's key must match [a-z0-9./_-]{1,63}");
    }
    if (value.size() > kMaxLabelValueBytes || !IsPrintable(value)) {
      return BadField(Entry(field, key), "a label's value must be printable UTF-8 of at most " +
                                             Number(kMaxLabelValueBytes) + " bytes");
    }
    parsed.emplace(key, value);
  }
  return parsed;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

bool IsPrintable(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7f) return false;
    // U+0080 to U+009F: control characters, too.
    if (c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      return false;
    }
  }
  return IsUtf8(text);
}

std::string FitText(std::string_view text, size_t most) {
  std::string cut(CutUtf8(text, most));
  return IsUtf8(cut) ? cut : Shown(cut);
}

std::string_view CutUtf8(std::string_view text, size_t most) {
  constexpr size_t kLongestTail = 3;  // continuation bytes of one sequence
  if (text.size() <= most) return text;
  for (size_t back = 0; back <= kLongestTail && back <= most; ++back) {
    const size_t length = SequenceLength(text.substr(most - back));
    if (length == 0) continue;
    return text.substr(0, length > back ? most - back : most);
  }
  return text.substr(0, most);
}

absl::StatusOr<size_t> ParsePageSize(int32_t value, size_t standard, size_t most) {
  if (value == 0) return standard;
  if (value < 0 || static_cast<size_t>(value) > most) {
    return BadField("page_size", "must be 1 to " + Number(most) + ", or 0 for the default");
  }
  return static_cast<size_t>(value);
}

std::string EncodePageToken(std::string_view list, std::string_view last) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string token;
  for (const char c : std::string(list) + ":" + std::string(last)) {
    const auto byte = static_cast<unsigned char>(c);
    token += kDigits[byte >> 4];
    token += kDigits[byte & 15];
  }
  return token;
}

absl::StatusOr<std::string> DecodePageToken(std::string_view list, std::string_view token) {
  if (token.empty()) return std::string();
  const auto bad = [] {
    return BadField("page_token", "must be the next_page_token of an earlier page of this list");
  };
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (token.size() > kMaxTokenBytes || token.size() % 2 != 0) return bad();
  std::string text;
  for (size_t i = 0; i < token.size(); i += 2) {
    const int high = digit(token[i]);
    const int low = digit(token[i + 1]);
    if (high < 0 || low < 0) return bad();
    text += static_cast<char>(high * 16 + low);
  }
  const std::string prefix = std::string(list) + ":";
  if (!text.starts_with(prefix) || text.size() == prefix.size()) return bad();
  return text.substr(prefix.size());
}

}  // namespace hermes
