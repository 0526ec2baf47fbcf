#include "sync/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "daemon/runtime/status.h"
#include "sync/land_place.h"

namespace hermes::sync {
namespace {

// How often somebody may put another file under the name while we lock it.
constexpr int kMaxReplacements = 8;

absl::Status Unusable(std::string_view why) {
  return Error(Reason::k_SYNC_FAILED, "the sync lock can't be used: " + std::string(why));
}

absl::StatusOr<Fd> OpenLockFile(const std::string& path) {
  // O_NONBLOCK: a fifo would wait for its other end.
  constexpr int kFlags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  int fd = open(path.c_str(), kFlags, 0600);
  if (fd < 0 && errno == ENOENT) {
    size_t slash = path.rfind('/');
    if (slash != std::string::npos && slash > 0) mkdir(path.substr(0, slash).c_str(), 0700);
    fd = open(path.c_str(), kFlags, 0600);
  }
  if (fd < 0 && errno == ELOOP) return Unusable("it is a link");
  if (fd < 0) return Unusable(std::string(ErrnoStatus(errno, "open").message()));
  Fd file(fd);
  struct stat st = {};
  if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) return Unusable("it is no regular file");
  if (st.st_uid != geteuid()) return Unusable("it belongs to another account");
  return file;
}

bool StillUnderItsName(const Fd& file, const std::string& path) {
  struct stat held = {};
  struct stat named = {};
  return fstat(file.get(), &held) == 0 && lstat(path.c_str(), &named) == 0 &&
         held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

// The process that the kernel says holds the lock: "N: FLOCK ADVISORY WRITE pid maj:min:inode ...".
std::string HolderOf(const Fd& file) {
  struct stat st = {};
  if (fstat(file.get(), &st) < 0) return "";
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream fields(line);
    std::string number, kind, mode, access, pid, where;
    fields >> number >> kind >> mode >> access >> pid >> where;
    unsigned int major_number = 0;
    unsigned int minor_number = 0;
    uint64_t inode = 0;
    if (kind != "FLOCK" || pid.empty() || pid.front() == '-') continue;
    if (std::sscanf(where.c_str(), "%x:%x:%" SCNu64, &major_number, &minor_number, &inode) != 3) {
      continue;
    }
    if (inode == st.st_ino && makedev(major_number, minor_number) == st.st_dev) return pid;
  }
  return "";
}

absl::Status Held(const std::string& pid) {
  if (pid.empty()) return Error(Reason::k_SYNC_HELD, "another sync is at work on these files");
  return Error(Reason::k_SYNC_HELD, "process " + pid + " holds the sync lock", {{"pid", pid}});
}

absl::StatusOr<Fd> LockFile(const std::string& path) {
  for (int i = 0; i < kMaxReplacements; ++i) {
    ASSIGN_OR_RETURN(Fd file, OpenLockFile(path));
    if (flock(file.get(), LOCK_EX | LOCK_NB) < 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) {
        return Unusable(std::string(ErrnoStatus(errno, "flock").message()));
      }
      return Held(HolderOf(file));
    }
    if (StillUnderItsName(file, path)) return file;
  }
  return Unusable("it is replaced again and again");
}

// Only its owner can open the staging directory, so nobody else can keep us waiting. Where the file
// system has no such locks, each exchange of two names still finds what another landing did.
absl::StatusOr<Fd> LockPlace(int root) {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  Fd place(openat(root, std::string(kPlaceName).c_str(), kFlags));
  if (!place.valid() || flock(place.get(), LOCK_EX | LOCK_NB) == 0) return place;
  if (errno == EWOULDBLOCK) return Held(HolderOf(place));
  return place;
}

void Unlock(const Fd& file) {
  if (file.valid()) flock(file.get(), LOCK_UN);
}

}  // namespace

SyncLock::SyncLock(SyncLock&& other) noexcept
    : locks_(std::exchange(other.locks_, nullptr)),
      roots_(std::move(other.roots_)),
      file_(std::move(other.file_)),
      place_(std::move(other.place_)) {}

SyncLock::~SyncLock() {
  // Not by closing alone: a child between fork and exec has the descriptor as well.
  Unlock(place_);
  Unlock(file_);
  file_.reset();
  if (locks_ != nullptr) locks_->Release(roots_);
}

bool SyncLocks::Claim(const std::vector<RootKey>& roots) {
  MutexLock lock(mutex_);
  for (const RootKey& root : roots) {
    if (busy_.contains(root)) return false;
  }
  busy_.insert(roots.begin(), roots.end());
  return true;
}

void SyncLocks::Release(const std::vector<RootKey>& roots) {
  MutexLock lock(mutex_);
  for (const RootKey& root : roots) busy_.erase(root);
}

absl::StatusOr<SyncLock> SyncLocks::TryAcquire(const LockRequest& request) {
  if (!Claim(request.roots)) return Held("");
  SyncLock lock(*this, request.roots);
  if (!request.file.empty()) {
    ASSIGN_OR_RETURN(lock.file_, LockFile(request.file));
  }
  if (request.dir >= 0) {
    ASSIGN_OR_RETURN(lock.place_, LockPlace(request.dir));
  }
  return lock;
}

}  // namespace hermes::sync
