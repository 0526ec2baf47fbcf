#include "daemon/rpc/encode_sync.h"

#include <algorithm>
#include <string>
#include <vector>

#include "daemon/core/session_names.h"
#include "daemon/rpc/encode.h"
#include "daemon/rpc/errors.h"
#include "daemon/rpc/fields.h"
#include "sync/ignore.h"

namespace hermes {
namespace {

// Of all entries in one message; most clients take no message above 4 MiB.
constexpr size_t kMaxEntryBytes = 3 << 20;

// The same value on the wire, where UNSPECIFIED stands before it; both lists are in one order.
template <typename Wire, typename Value>
Wire WireOf(Value value) {
  return static_cast<Wire>(static_cast<int>(value) + 1);
}

v1::SyncEntry::Why WhyOf(sync::Why why) {
  switch (why) {
    case sync::Why::kSame:
      return v1::SyncEntry::SAME;
    case sync::Why::kRemoteChanged:
      return v1::SyncEntry::REMOTE_CHANGED;
    case sync::Why::kHostStands:
      return v1::SyncEntry::HOST_STANDS;
    case sync::Why::kConflict:
      return v1::SyncEntry::CONFLICT;
    case sync::Why::kHeld:
      return v1::SyncEntry::HELD;
    case sync::Why::kNotDeleted:
      return v1::SyncEntry::NOT_DELETED;
    case sync::Why::kPushOnly:
      return v1::SyncEntry::PUSH_ONLY;
    case sync::Why::kOdd:
      return v1::SyncEntry::ODD;
    case sync::Why::kTree:
      return v1::SyncEntry::TREE;
    case sync::Why::kDenied:
      return v1::SyncEntry::DENIED;
    case sync::Why::kHostChanged:
      return v1::SyncEntry::HOST_CHANGED;
    case sync::Why::kLie:
      return v1::SyncEntry::LIE;
    case sync::Why::kGone:
      return v1::SyncEntry::GONE;
  }
  return v1::SyncEntry::WHY_UNSPECIFIED;
}

std::string Bytes(const sync::MaybeContent& content) {
  if (!content) return "";
  return std::string(content->digest.bytes.begin(), content->digest.bytes.end());
}

void Encode(const sync::Mount& mount, v1::Mount* to) {
  to->set_id(mount.id);
  to->set_host_root(mount.host_root);
  to->set_remote_root(mount.remote_root);
  to->set_policy(WireOf<v1::Mount::Policy>(mount.policy));
  to->set_conflict(WireOf<v1::Mount::Conflict>(mount.conflict));
  to->set_deletes(WireOf<v1::Mount::Deletes>(mount.deletes));
  to->set_links(WireOf<v1::Mount::Links>(mount.links));
  const bool withholds = sync::WithholdsSecrets(mount);
  const std::vector<std::string>& secrets = sync::SecretPatterns();
  for (const std::string& pattern : mount.ignore) {
    const bool ours = std::find(secrets.begin(), secrets.end(), pattern) != secrets.end();
    if (!withholds || !ours) to->add_ignore(pattern);
  }
  to->set_include_secrets(!withholds && mount.kind != sync::MountKind::kFile);
  to->set_max_files(mount.max_files);
  to->set_max_bytes(mount.max_bytes);
  to->set_max_file_bytes(mount.max_file_bytes);
  to->set_kind(static_cast<v1::Mount::Kind>(mount.kind));
}

}  // namespace

void Encode(const SyncSettings& settings, v1::Session* to) {
  for (const sync::Mount& mount : settings.mounts) Encode(mount, to->add_mounts());
  v1::SyncPolicy* policy = to->mutable_sync();
  policy->set_on_error(WireOf<v1::SyncPolicy::OnError>(settings.on_error));
  if (settings.min_interval.count() > 0) {
    EncodeDuration(settings.min_interval, policy->mutable_min_interval());
  }
  policy->set_lock_file(settings.lock_file);
}

void Encode(const sync::SyncProgress& progress, v1::SyncProgress* to) {
  to->set_files_done(progress.files_done);
  to->set_files_total(progress.files_total);
  to->set_bytes_done(progress.bytes_done);
  to->set_bytes_total(progress.bytes_total);
}

void Encode(const sync::SyncEntry& entry, v1::SyncEntry* to) {
  to->set_mount(entry.mount);
  to->set_path(entry.path);
  to->set_effect(WireOf<v1::SyncEntry::Effect>(entry.effect));
  to->set_fate(WireOf<v1::SyncEntry::Fate>(entry.fate));
  to->set_why(WhyOf(entry.why));
  to->set_size(entry.size);
  to->set_host_sha256(Bytes(entry.host));
  to->set_remote_sha256(Bytes(entry.remote));
  to->set_aside(entry.aside);
  to->set_note(FitText(entry.note, kMaxErrorText));
}

void Encode(const SyncInfo& info, v1::SyncJob* to) {
  to->set_name(SyncName(info.session_id, info.id));
  to->set_kind(WireOf<v1::SyncJob::Kind>(info.kind));
  to->set_state(WireOf<v1::SyncJob::State>(info.state));
  to->set_reason(info.reason);
  to->set_message(FitText(info.message, kMaxErrorText));
  Encode(info.progress, to->mutable_progress());
  const sync::SyncReport& report = info.report;
  to->set_applied(report.counts.applied);
  to->set_conflicts(report.counts.conflicts);
  to->set_rejected(report.counts.rejected);
  to->set_held(report.counts.held);
  to->set_failed(report.counts.failed);
  to->set_unsaved(report.unsaved);
  to->set_suspect(report.suspect);
  to->set_revertible(report.revertible);
  if (!info.of_sync.empty()) to->set_of_sync(SyncName(info.session_id, info.of_sync));
  EncodeTime(info.create_time, to->mutable_create_time());
  if (info.end_time) EncodeTime(*info.end_time, to->mutable_end_time());
  if (info.expire_time) EncodeTime(*info.expire_time, to->mutable_expire_time());
  to->set_entries_total(info.entries_total);
  to->set_creator_uid(info.creator_uid);
  to->set_request_id(info.request_id);
}

void Encode(const StoredSync& sync, v1::SyncJob* to) {
  Encode(sync.info, to);
  size_t bytes = 0;
  for (const sync::SyncEntry& entry : sync.entries) {
    Encode(entry, to->add_entries());
    bytes += to->entries().rbegin()->ByteSizeLong();
    if (bytes > kMaxEntryBytes) break;
  }
}

}  // namespace hermes
