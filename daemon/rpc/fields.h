#pragma once

// Validators for the parts that many requests share: names, ids, durations, environments, labels.
// Pure. A failure is BAD_NAME, BAD_TIMEOUT or BAD_FIELD with the field's name in its metadata; no
// value of an environment variable ever gets into an error text.

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/map.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/core/model.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/status.h"

namespace hermes {

// Beyond any of these the request is refused with the limit in the error.
inline constexpr size_t kMaxScriptBytes = 4 << 20;
inline constexpr size_t kMaxPathBytes = 4096;
inline constexpr size_t kMaxArgs = 10'000;
inline constexpr size_t kMaxEnvEntries = 10'000;
inline constexpr size_t kMaxEnvBytes = 6 << 20;          // names and values of one request
inline constexpr size_t kMaxArgBytes = (128 << 10) - 1;  // the kernel's limit for one string
inline constexpr size_t kMaxLabels = 64;
inline constexpr size_t kMaxLabelKeyBytes = 63;
inline constexpr size_t kMaxLabelValueBytes = 256;
inline constexpr size_t kMaxIdBytes = 63;
inline constexpr size_t kMaxPasswordBytes = 4096;
inline constexpr size_t kMaxTokenBytes = 512;

// Text that came from outside, made fit for an error: printable, short.
std::string Shown(std::string_view text);

absl::Status BadName(std::string_view field, std::string_view name, std::string_view message);
absl::Status BadTimeout(std::string_view field, std::string_view message, Duration limit);

// [a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?
bool IsId(std::string_view text);

// "sessions/{session}" -> the id.
absl::StatusOr<std::string> ParseSessionName(std::string_view field, std::string_view name);

struct CommandRef {
  std::string session;
  std::string command;
};
// "sessions/{session}/commands/{command}".
absl::StatusOr<CommandRef> ParseCommandName(std::string_view field, std::string_view name);

struct SyncRef {
  std::string session;
  std::string sync;
};
// "sessions/{session}/syncs/{sync}".
absl::StatusOr<SyncRef> ParseSyncName(std::string_view field, std::string_view name);

// A UUID in its canonical form, any case -> lower case.
absl::StatusOr<std::string> ParseUuid(std::string_view field, std::string_view text);

struct DurationRule {
  Duration limit{0};  // the most that is allowed
  bool zero_allowed = true;
};
absl::StatusOr<Duration> ParseDuration(std::string_view field,
                                       const google::protobuf::Duration& value, DurationRule rule);

// Absolute, or "~/...". Empty is allowed and means the default.
absl::Status CheckPath(std::string_view field, std::string_view path);

using StringMap = google::protobuf::Map<std::string, std::string>;

// Adds up over the maps of one request.
struct EnvBudget {
  size_t entries = 0;
  size_t bytes = 0;
};
// Sorted by name.
absl::StatusOr<EnvPairs> ParseEnv(std::string_view field, const StringMap& env, EnvBudget& budget);

absl::StatusOr<Labels> ParseLabels(std::string_view field, const StringMap& labels);
bool IsLabelKey(std::string_view key);

bool IsUtf8(std::string_view text);
// UTF-8 without control characters.
bool IsPrintable(std::string_view text);

// Any text as a proto3 string of at most `most` bytes: what is no UTF-8 is shown as by Shown.
std::string FitText(std::string_view text, size_t most);

// The longest prefix of at most `most` bytes that does not end inside a UTF-8 sequence. Text that
// is no UTF-8 is cut at `most`.
std::string_view CutUtf8(std::string_view text, size_t most);

// 0: `standard`; more than `most` or negative: BAD_FIELD.
absl::StatusOr<size_t> ParsePageSize(int32_t value, size_t standard, size_t most);

// Page tokens are opaque to callers: the last key of a page, marked with the list it belongs to.
// A page ends before it is larger: clients take 4 MiB.
inline constexpr size_t kMaxPageBytes = 3 << 20;

std::string EncodePageToken(std::string_view list, std::string_view last);
// Empty token: empty key. One that we did not make, or of another list: BAD_FIELD page_token.
absl::StatusOr<std::string> DecodePageToken(std::string_view list, std::string_view token);

}  // namespace hermes
