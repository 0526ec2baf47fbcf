#pragma once

// How sessions, commands and syncs become the blobs of the store's rows: one version byte, a
// checksum, then the fields in a fixed order, numbers as varints, everything else with its length
// in front. New fields go to the end of their struct's list: a reader that does not know them
// ignores them, a reader that misses them takes the defaults. Pure functions, any thread. Decoding
// takes any bytes; damage is STORE_CORRUPT.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/core/model.h"
#include "daemon/core/session_store.h"

namespace hermes {

std::string EncodeSession(const SessionInfo& session);
absl::StatusOr<SessionInfo> DecodeSession(std::string_view blob);

// Without the inline bytes of the output, which have columns of their own.
std::string EncodeCommand(const StoredCommand& command);
absl::StatusOr<StoredCommand> DecodeCommand(std::string_view blob);

std::string EncodeSync(const SyncInfo& sync);
absl::StatusOr<SyncInfo> DecodeSync(std::string_view blob);
std::string EncodeSyncEntries(const std::vector<sync::SyncEntry>& entries);
absl::StatusOr<std::vector<sync::SyncEntry>> DecodeSyncEntries(std::string_view blob);

// Version and checksum around a body; apart for tests that damage bodies.
std::string SealBlob(std::string_view body);
absl::StatusOr<std::string_view> UnsealBlob(std::string_view blob);

}  // namespace hermes
