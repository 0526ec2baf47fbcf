#pragma once

// What people type, checked before anything is sent: durations, sizes, names, pairs, signals.
// Pure and thread-safe. Every failure is INVALID_ARGUMENT with a message that says what would be
// right; values are taken exactly or refused, never rounded to a limit.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "google/protobuf/duration.pb.h"

namespace hermes::client {

// "500ms", "5s", "1h30m", "1.5h", "2d". Units: us ms s m h d. A plain number is refused.
absl::StatusOr<google::protobuf::Duration> ParseDuration(std::string_view text);

// "512", "64k", "10M", "2G", "1GiB": bytes, in powers of 1024.
absl::StatusOr<uint64_t> ParseSize(std::string_view text);

// "box" or "sessions/box" -> "sessions/box".
absl::StatusOr<std::string> ParseSession(std::string_view text);

// "box/c1" or "sessions/box/commands/c1" -> "sessions/box/commands/c1".
absl::StatusOr<std::string> ParseCommand(std::string_view text);

// "box/s1" or "sessions/box/syncs/s1" -> "sessions/box/syncs/s1".
absl::StatusOr<std::string> ParseSync(std::string_view text);

// The short forms of resource names, for people: "box", "box/c1", "box/s1". Other text comes back
// as it is.
std::string ShortName(std::string_view resource);

// "KEY=VALUE"; the value may be empty or hold further '='. `what` names the option in errors.
absl::StatusOr<std::pair<std::string, std::string>> ParsePair(std::string_view text,
                                                              std::string_view what);

// "TERM", "SIGTERM", "term" or a number from 1 to 64.
absl::StatusOr<int> ParseSignal(std::string_view text);

// 8-4-4-4-12 hexadecimal digits.
bool IsUuid(std::string_view text);

// A random UUID (version 4) from the kernel.
std::string NewRequestId();

}  // namespace hermes::client
