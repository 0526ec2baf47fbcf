#include "sync/land_place.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "daemon/runtime/status.h"
#include "sync/journal.h"

namespace hermes::sync {
namespace {

constexpr char kFilesName[] = "files";
constexpr size_t kMaxIdBytes = 64;
constexpr uint32_t kPrivate = 0700;
constexpr uint32_t kOthersWrite = 0022;
// Deeper trees are left behind: nothing honest makes one here.
constexpr int kMaxTreeDepth = 64;
// A new directory has no lock for a moment, in which whoever recovers this root may remove it.
constexpr int kMaxMakes = 20;
constexpr int kMakePauseMs = 1;

bool IsSyncId(std::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes && id.front() != '.' &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_' || c == '.';
         });
}

// Nothing of that name, or no directory.
bool IsMissing(int rc) { return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP; }

absl::Status Gone() { return Error(Reason::k_RESULT_EXPIRED, "nothing is kept of this sync"); }

void RemoveTree(Fs& fs, const Fs::At& at, int depth) {
  FileStat stat;
  if (depth > kMaxTreeDepth || fs.StatAt(at, &stat) < 0) return;
  if (stat.type != FileStat::Type::kDirectory) {
    fs.Unlink(at);
    return;
  }
  Handle dir(fs, fs.OpenDir(at.dir, at.leaf));
  std::vector<std::string> names;
  if (dir.valid()) fs.List(dir.get(), &names);
  for (std::string& name : names) RemoveTree(fs, {dir.get(), std::move(name)}, depth + 1);
  fs.RemoveDir(at);
}

}  // namespace

std::string PathOfSlot(std::string_view sync_id, std::string_view slot) {
  return std::string(kPlaceName) + "/" + std::string(sync_id) + "/" + kFilesName + "/" +
         std::string(slot);
}

absl::StatusOr<Handle> Place::OpenPlace(bool make) const {
  std::string name(kPlaceName);
  int rc = make ? fs_.MakeDir({root_, name}, kPrivate) : 0;
  if (rc < 0 && rc != -EEXIST) return FsError(rc, "make the staging directory");
  Handle place(fs_, fs_.OpenDir(root_, name));
  if (place.get() == -ENOENT) return absl::NotFoundError("no staging directory");
  if (!place.valid()) return FsError(place.get(), "open the staging directory");
  FileStat stat;
  rc = fs_.Stat(place.get(), &stat);
  if (rc < 0) return FsError(rc, "look at the staging directory");
  if (!stat.ours || (stat.mode & kOthersWrite) != 0) {
    return Error(Reason::k_SYNC_FAILED,
                 "the mount's staging directory must belong to the daemon's account alone");
  }
  return place;
}

absl::StatusOr<SyncDir> Place::Lock(const Handle& place, std::string_view id) const {
  SyncDir sync{std::string(id), Handle(fs_, fs_.OpenDir(place.get(), std::string(id))), {}};
  if (IsMissing(sync.dir.get())) return Gone();
  if (!sync.dir.valid()) return FsError(sync.dir.get(), "open a staging directory");
  const int rc = fs_.TryLock(sync.dir.get());
  if (rc == -EWOULDBLOCK) return Error(Reason::k_SYNC_HELD, "somebody works on this sync");
  if (rc < 0) return FsError(rc, "lock a staging directory");
  return sync;
}

absl::StatusOr<SyncDir> Place::Make(std::string_view id) const {
  if (!IsSyncId(id)) return BadField("sync", "an id has 1 to 64 letters, digits and \"-_.\"");
  ASSIGN_OR_RETURN(Handle place, OpenPlace(true));
  for (int attempt = 1;; ++attempt) {
    const int rc = fs_.MakeDir({place.get(), std::string(id)}, kPrivate);
    if (rc == -EEXIST && attempt == 1) return BadField("sync", "there is a sync of this id");
    if (rc < 0 && rc != -EEXIST) return FsError(rc, "make a staging directory");
    auto sync = Furnish(place, id);
    const std::optional<Reason> reason = ReasonOf(sync.status());
    const bool taken = reason == Reason::k_SYNC_HELD || reason == Reason::k_RESULT_EXPIRED;
    if (!taken || attempt == kMaxMakes) return sync;
    poll(nullptr, 0, kMakePauseMs);
  }
}

// SYNC_HELD, RESULT_EXPIRED: somebody took a directory that was not locked yet for a leftover.
absl::StatusOr<SyncDir> Place::Furnish(const Handle& place, std::string_view id) const {
  ASSIGN_OR_RETURN(SyncDir sync, Lock(place, id));
  int rc = fs_.MakeDir({sync.dir.get(), kFilesName}, kPrivate);
  if (rc == -ENOENT) return Gone();
  if (rc == 0) {
    sync.files = Handle(fs_, fs_.OpenDir(sync.dir.get(), kFilesName));
    rc = sync.files.get();
  }
  if (rc >= 0) return sync;
  Remove(std::move(sync));
  return FsError(rc, "make a staging directory");
}

absl::StatusOr<SyncDir> Place::Open(std::string_view id) const {
  if (!IsSyncId(id)) return Gone();
  auto place = OpenPlace(false);
  if (absl::IsNotFound(place.status())) return Gone();
  if (!place.ok()) return place.status();
  ASSIGN_OR_RETURN(SyncDir sync, Lock(*place, id));
  sync.files = Handle(fs_, fs_.OpenDir(sync.dir.get(), kFilesName));
  const int files = sync.files.get();
  if (files >= 0 || IsMissing(files)) return sync;
  return FsError(files, "open a staging directory");
}

absl::StatusOr<std::vector<std::string>> Place::Ids() const {
  std::vector<std::string> names;
  auto place = OpenPlace(false);
  if (absl::IsNotFound(place.status())) return names;
  if (!place.ok()) return place.status();
  int rc = fs_.List(place->get(), &names);
  if (rc < 0) return FsError(rc, "list the staging directory");
  std::erase_if(names, [](const std::string& name) { return !IsSyncId(name); });
  std::sort(names.begin(), names.end());
  return names;
}

void Place::Remove(SyncDir sync) const {
  fs_.Unlink({sync.dir.get(), std::string(kJournalName)});
  auto place = OpenPlace(false);
  if (place.ok()) RemoveTree(fs_, {place->get(), sync.id}, 0);
}

uint64_t Place::BytesOf(const SyncDir& sync) const {
  std::vector<std::string> names;
  if (!sync.files.valid() || fs_.List(sync.files.get(), &names) < 0) return 0;
  uint64_t bytes = 0;
  for (std::string& name : names) {
    FileStat stat;
    if (fs_.StatAt({sync.files.get(), std::move(name)}, &stat) == 0) bytes += stat.size;
  }
  return bytes;
}

}  // namespace hermes::sync
