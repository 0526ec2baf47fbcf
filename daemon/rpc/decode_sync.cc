#include "daemon/rpc/decode_sync.h"

#include <utility>

#include "daemon/rpc/digest.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kMaxCredentials = sync::kMaxMounts;

absl::Status Unknown(std::string_view field) {
  return BadField(field, "is not a value that this daemon knows");
}

absl::StatusOr<sync::Policy> DecodePolicy(v1::Mount::Policy policy) {
  switch (policy) {
    case v1::Mount::POLICY_UNSPECIFIED:
    case v1::Mount::TWO_WAY:
      return sync::Policy::kTwoWay;
    case v1::Mount::PUSH:
      return sync::Policy::kPush;
    case v1::Mount::PULL:
      return sync::Policy::kPull;
    default:
      return Unknown("policy");
  }
}

absl::StatusOr<sync::ConflictPolicy> DecodeConflict(v1::Mount::Conflict conflict) {
  switch (conflict) {
    case v1::Mount::CONFLICT_UNSPECIFIED:
    case v1::Mount::REMOTE_WINS:
      return sync::ConflictPolicy::kRemote;
    case v1::Mount::HOST_WINS:
      return sync::ConflictPolicy::kHost;
    case v1::Mount::KEEP_BOTH:
      return sync::ConflictPolicy::kBoth;
    case v1::Mount::ABORT:
      return sync::ConflictPolicy::kAbort;
    default:
      return Unknown("conflict");
  }
}

absl::StatusOr<sync::DeletePolicy> DecodeDeletes(v1::Mount::Deletes deletes) {
  switch (deletes) {
    case v1::Mount::DELETES_UNSPECIFIED:
    case v1::Mount::GUARDED:
      return sync::DeletePolicy::kGuarded;
    case v1::Mount::NEVER:
      return sync::DeletePolicy::kNever;
    case v1::Mount::REPORT:
      return sync::DeletePolicy::kReport;
    default:
      return Unknown("deletes");
  }
}

absl::StatusOr<sync::LinkPolicy> DecodeLinks(v1::Mount::Links links) {
  switch (links) {
    case v1::Mount::LINKS_UNSPECIFIED:
    case v1::Mount::SKIP:
      return sync::LinkPolicy::kSkip;
    case v1::Mount::INSIDE:
      return sync::LinkPolicy::kInside;
    case v1::Mount::FOLLOW_HOST:
      return sync::LinkPolicy::kFollowHost;
    default:
      return Unknown("links");
  }
}

absl::StatusOr<sync::MountKind> DecodeKind(v1::Mount::Kind kind) {
  switch (kind) {
    case v1::Mount::KIND_UNSPECIFIED:
      return sync::MountKind::kAny;
    case v1::Mount::DIRECTORY:
      return sync::MountKind::kDirectory;
    case v1::Mount::FILE:
      return sync::MountKind::kFile;
    default:
      return Unknown("kind");
  }
}

// 0: what `*limit` is already.
absl::Status DecodeLimit(std::string_view field, uint64_t value, uint64_t most, uint64_t* limit) {
  if (value > most) return BadField(field, "must be at most " + std::to_string(most));
  if (value != 0) *limit = value;
  return absl::OkStatus();
}

absl::Status CheckRoot(std::string_view field, std::string_view path) {
  if (path.empty()) return BadField(field, "is required");
  return CheckPath(field, path);
}

absl::StatusOr<sync::Mount> DecodeMount(const v1::Mount& wire) {
  sync::Mount mount;
  if (!wire.id().empty() && !IsId(wire.id())) {
    return BadField("id", "must match [a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?");
  }
  mount.id = wire.id();
  RETURN_IF_ERROR(CheckRoot("host_root", wire.host_root()));
  RETURN_IF_ERROR(CheckRoot("remote_root", wire.remote_root()));
  mount.host_root = wire.host_root();
  mount.remote_root = wire.remote_root();
  ASSIGN_OR_RETURN(mount.policy, DecodePolicy(wire.policy()));
  ASSIGN_OR_RETURN(mount.conflict, DecodeConflict(wire.conflict()));
  ASSIGN_OR_RETURN(mount.deletes, DecodeDeletes(wire.deletes()));
  ASSIGN_OR_RETURN(mount.links, DecodeLinks(wire.links()));
  ASSIGN_OR_RETURN(mount.kind, DecodeKind(wire.kind()));
  mount.ignore.assign(wire.ignore().begin(), wire.ignore().end());
  mount.secrets = wire.include_secrets();
  RETURN_IF_ERROR(
      DecodeLimit("max_files", wire.max_files(), sync::kMostMountFiles, &mount.max_files));
  RETURN_IF_ERROR(DecodeLimit("max_bytes", wire.max_bytes(), kMostMountBytes, &mount.max_bytes));
  RETURN_IF_ERROR(
      DecodeLimit("max_file_bytes", wire.max_file_bytes(), kMostMountBytes, &mount.max_file_bytes));
  return mount;
}

size_t TextBytes(const sync::Mount& mount) {
  size_t bytes = mount.host_root.size() + mount.remote_root.size();
  for (const std::string& pattern : mount.ignore) bytes += pattern.size();
  return bytes;
}

absl::StatusOr<sync::HermesProfile> DecodeProfile(const v1::HermesProfile& wire) {
  sync::HermesProfile profile;
  RETURN_IF_ERROR(CheckRoot("home", wire.home()));
  RETURN_IF_ERROR(CheckPath("remote_home", wire.remote_home()));
  if (static_cast<size_t>(wire.credentials_size()) > kMaxCredentials) {
    return BadField("credentials", "at most " + std::to_string(kMaxCredentials) + " are allowed");
  }
  profile.home = wire.home();
  if (!wire.remote_home().empty()) profile.remote_home = wire.remote_home();
  profile.credentials.assign(wire.credentials().begin(), wire.credentials().end());
  profile.secrets = wire.include_secrets();
  return profile;
}

absl::StatusOr<std::vector<sync::Mount>> DecodeProfileMounts(const v1::HermesProfile& wire) {
  ASSIGN_OR_RETURN(const sync::HermesProfile profile, DecodeProfile(wire));
  return sync::ExpandProfile(profile);
}

absl::Status DecodeSyncPolicy(const v1::SyncPolicy& wire, SyncSettings* settings) {
  switch (wire.on_error()) {
    case v1::SyncPolicy::ON_ERROR_UNSPECIFIED:
    case v1::SyncPolicy::FAIL:
      settings->on_error = OnSyncError::kFail;
      break;
    case v1::SyncPolicy::RUN_STALE:
      settings->on_error = OnSyncError::kRunStale;
      break;
    default:
      return Unknown("sync.on_error");
  }
  if (!wire.lock_file().empty()) {
    return BadField("sync.lock_file", "is shown only: it follows from the profile");
  }
  if (wire.has_min_interval()) {
    ASSIGN_OR_RETURN(settings->min_interval, ParseDuration("sync.min_interval", wire.min_interval(),
                                                           {.limit = kMaxSyncInterval}));
  }
  return absl::OkStatus();
}

// Id and digest: what all three requests that begin a sync share. The kind is part of the digest,
// as their bodies may be equal on the wire.
template <typename Request>
absl::StatusOr<StartSync> DecodeStart(Request& request, SyncKind kind, uint32_t uid) {
  StartSync start;
  start.kind = kind;
  start.uid = uid;
  if (!request.request_id().empty()) {
    ASSIGN_OR_RETURN(start.request_id, ParseUuid("request_id", request.request_id()));
  }
  request.clear_request_id();
  start.digest = Request::descriptor()->name() + " " + DigestOf(request);
  return start;
}

}  // namespace

absl::StatusOr<SyncSettings> DecodeSyncSettings(const v1::CreateSessionRequest& request) {
  SyncSettings settings;
  if (static_cast<size_t>(request.mounts_size()) > sync::kMaxMounts) {
    return BadField("mounts", "a session has at most " + std::to_string(sync::kMaxMounts));
  }
  for (int i = 0; i < request.mounts_size(); ++i) {
    absl::StatusOr<sync::Mount> mount = DecodeMount(request.mounts(i));
    if (!mount.ok()) return InField("mounts[" + std::to_string(i) + "]", mount.status());
    settings.mounts.push_back(*std::move(mount));
  }
  if (request.has_profile()) {
    absl::StatusOr<std::vector<sync::Mount>> more = DecodeProfileMounts(request.profile());
    if (!more.ok()) return InField("profile", more.status());
    settings.lock_file = (*more)[0].host_root;
    settings.lock_file.replace(settings.lock_file.rfind('/') + 1, std::string::npos, ".sync.lock");
    settings.mounts.insert(settings.mounts.end(), std::make_move_iterator(more->begin()),
                           std::make_move_iterator(more->end()));
  }
  size_t bytes = 0;
  for (const sync::Mount& mount : settings.mounts) bytes += TextBytes(mount);
  if (bytes > kMaxMountTextBytes) {
    return BadField("mounts", "paths and patterns must have at most " +
                                  std::to_string(kMaxMountTextBytes) + " bytes in all");
  }
  ASSIGN_OR_RETURN(const sync::MountTable table,
                   sync::MountTable::Make(std::move(settings.mounts)));
  settings.mounts = table.mounts();
  RETURN_IF_ERROR(DecodeSyncPolicy(request.sync(), &settings));
  return settings;
}

absl::StatusOr<StartSync> DecodeSync(v1::SyncRequest request, uint32_t uid) {
  ASSIGN_OR_RETURN(StartSync start, DecodeStart(request, SyncKind::kPush, uid));
  ASSIGN_OR_RETURN(start.session_id, ParseSessionName("session", request.session()));
  start.force = request.force();
  return start;
}

absl::StatusOr<StartSync> DecodeSyncBack(v1::SyncBackRequest request, uint32_t uid) {
  const SyncKind kind = request.validate_only() ? SyncKind::kPlan : SyncKind::kPull;
  ASSIGN_OR_RETURN(StartSync start, DecodeStart(request, kind, uid));
  ASSIGN_OR_RETURN(start.session_id, ParseSessionName("session", request.session()));
  start.approve_deletes = request.approve_deletes();
  start.salvage = request.salvage();
  return start;
}

absl::StatusOr<StartSync> DecodeRevert(v1::RevertSyncRequest request, uint32_t uid) {
  ASSIGN_OR_RETURN(StartSync start, DecodeStart(request, SyncKind::kRevert, uid));
  ASSIGN_OR_RETURN(SyncRef name, ParseSyncName("name", request.name()));
  start.session_id = std::move(name.session);
  start.of_sync = std::move(name.sync);
  return start;
}

std::string SyncListKey(std::string_view session) { return "syncs/" + std::string(session); }

absl::StatusOr<ListSyncsCall> DecodeListSyncs(const v1::ListSyncsRequest& request) {
  ListSyncsCall call;
  ASSIGN_OR_RETURN(call.session, ParseSessionName("parent", request.parent()));
  ASSIGN_OR_RETURN(call.page_size, ParsePageSize(request.page_size(), kStandardPage, kMaxPage));
  ASSIGN_OR_RETURN(call.before, DecodePageToken(SyncListKey(call.session), request.page_token()));
  return call;
}

}  // namespace hermes
