#include "sync/land_place.h"

#include <algorithm>
#include <cerrno>

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

bool IsSyncId(std::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes && id.front() != '.' &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_' || c == '.';
         });
}

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
  if (sync.dir.get() == -ENOENT) return Error(Reason::k_RESULT_EXPIRED, "nothing is kept of it");
  if (!sync.dir.valid()) return FsError(sync.dir.get(), "open a staging directory");
  int rc = fs_.TryLock(sync.dir.get());
  if (rc == -EWOULDBLOCK) return Error(Reason::k_SYNC_HELD, "somebody works on this sync");
  if (rc < 0) return FsError(rc, "lock a staging directory");
  return sync;
}

absl::StatusOr<SyncDir> Place::Make(std::string_view id) const {
  if (!IsSyncId(id)) return BadField("sync", "an id has 1 to 64 letters, digits and \"-_.\"");
  ASSIGN_OR_RETURN(Handle place, OpenPlace(true));
  int rc = fs_.MakeDir({place.get(), std::string(id)}, kPrivate);
  if (rc == -EEXIST) return BadField("sync", "there is a sync of this id");
  if (rc < 0) return FsError(rc, "make a staging directory");
  ASSIGN_OR_RETURN(SyncDir sync, Lock(place, id));
  rc = fs_.MakeDir({sync.dir.get(), kFilesName}, kPrivate);
  if (rc == 0) {
    sync.files = Handle(fs_, fs_.OpenDir(sync.dir.get(), kFilesName));
    rc = sync.files.get();
  }
  if (rc >= 0) return sync;
  Remove(std::move(sync));
  return FsError(rc, "make a staging directory");
}

absl::StatusOr<SyncDir> Place::Open(std::string_view id) const {
  absl::Status none = Error(Reason::k_RESULT_EXPIRED, "nothing is kept of this sync");
  if (!IsSyncId(id)) return none;
  auto place = OpenPlace(false);
  if (absl::IsNotFound(place.status())) return none;
  if (!place.ok()) return place.status();
  ASSIGN_OR_RETURN(SyncDir sync, Lock(*place, id));
  sync.files = Handle(fs_, fs_.OpenDir(sync.dir.get(), kFilesName));
  return sync;
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
