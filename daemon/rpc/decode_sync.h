#pragma once

// From requests about mounts and syncs to requests of the core, as decode.h does it for the others:
// pure, every field checked and named, nothing clamped.

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/core/requests.h"
#include "daemon/rpc/decode.h"
#include "daemon/rpc/fields.h"
#include "hermes/v1/session.pb.h"
#include "hermes/v1/sync.pb.h"

namespace hermes {

// The most that a mount may ask for, as with sync::kMostMountFiles.
inline constexpr uint64_t kMostMountBytes = uint64_t{1} << 40;
inline constexpr size_t kMaxMountTextBytes = 64 << 10;  // paths and patterns of all mounts
inline constexpr Duration kMaxSyncInterval = std::chrono::hours(1);

// The mounts of the request, then those of its profile, as one valid table; whether the host roots
// are fit is not asked here. A profile's lock file is in its home.
absl::StatusOr<SyncSettings> DecodeSyncSettings(const v1::CreateSessionRequest& request);

absl::StatusOr<StartSync> DecodeSync(v1::SyncRequest request, uint32_t uid);
absl::StatusOr<StartSync> DecodeSyncBack(v1::SyncBackRequest request, uint32_t uid);
absl::StatusOr<StartSync> DecodeRevert(v1::RevertSyncRequest request, uint32_t uid);

struct ListSyncsCall {
  std::string session;
  size_t page_size = kStandardPage;
  std::string before;
};
// The list a page token of ListSyncs belongs to.
std::string SyncListKey(std::string_view session);
absl::StatusOr<ListSyncsCall> DecodeListSyncs(const v1::ListSyncsRequest& request);

}  // namespace hermes
