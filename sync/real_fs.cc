#include "sync/real_fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "daemon/runtime/fd.h"

namespace hermes::sync {
namespace {

constexpr int kDirFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
// openat2 gives up when a rename races with it; beyond that many tries the error stays.
constexpr int kOpenTries = 16;

int Result(int64_t rc) { return rc < 0 ? -errno : static_cast<int>(rc); }

FileStat ToStat(const struct stat& st) {
  FileStat stat;
  if (S_ISREG(st.st_mode)) stat.type = FileStat::Type::kFile;
  if (S_ISDIR(st.st_mode)) stat.type = FileStat::Type::kDirectory;
  stat.mode = st.st_mode & 07777;
  stat.links = st.st_nlink;
  stat.dev = st.st_dev;
  stat.ino = st.st_ino;
  stat.size = static_cast<uint64_t>(st.st_size);
  stat.mtime_ns = st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec;
  stat.ours = st.st_uid == geteuid();
  return stat;
}

int OpenBeneath(int dir, const char* path) {
  struct open_how how = {};
  how.flags = kDirFlags;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  int fd = -EAGAIN;
  for (int i = 0; i < kOpenTries && fd == -EAGAIN; ++i) {
    fd = Result(syscall(SYS_openat2, dir, path, &how, sizeof(how)));
  }
  return fd;
}

// One part. O_DIRECTORY alone would call a link "no directory", which is just as well.
int OpenPart(int dir, const std::string& part, dev_t device) {
  Fd fd(openat(dir, part.c_str(), kDirFlags | O_NOFOLLOW));
  if (!fd.valid()) return -errno;
  struct stat st = {};
  if (fstat(fd.get(), &st) < 0) return -errno;
  return st.st_dev == device ? fd.release() : -EXDEV;
}

}  // namespace

int OpenDirByWalking(int dir, const std::string& path) {
  struct stat st = {};
  if (fstat(dir, &st) < 0) return -errno;
  Fd at(openat(dir, ".", kDirFlags));
  if (!at.valid()) return -errno;
  for (size_t begin = 0; begin < path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    int next = OpenPart(at.get(), path.substr(begin, end - begin), st.st_dev);
    if (next < 0) return next;
    at.reset(next);
    begin = end + 1;
  }
  return at.release();
}

int RealFs::OpenDir(int dir, const std::string& path) {
  int fd = OpenBeneath(dir, path.empty() ? "." : path.c_str());
  // EPERM: filters of containers answer so for calls that they do not know.
  return fd == -ENOSYS || fd == -EPERM ? OpenDirByWalking(dir, path) : fd;
}

int RealFs::OpenFile(const At& at, Access access) {
  int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  switch (access) {
    case Access::kRead:
      flags |= O_RDONLY;
      break;
    case Access::kCreate:
      flags |= O_RDWR | O_CREAT | O_EXCL;
      break;
    case Access::kUpdate:
      flags |= O_RDWR;
      break;
  }
  return Result(openat(at.dir, at.leaf.c_str(), flags, 0600));
}

void RealFs::Close(int handle) { Fd(handle).reset(); }

int RealFs::Stat(int handle, FileStat* stat) {
  struct stat st = {};
  if (fstat(handle, &st) < 0) return -errno;
  *stat = ToStat(st);
  return 0;
}

int RealFs::StatAt(const At& at, FileStat* stat) {
  struct stat st = {};
  if (fstatat(at.dir, at.leaf.c_str(), &st, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
  *stat = ToStat(st);
  return 0;
}

int RealFs::List(int dir, std::vector<std::string>* names) {
  int fd = openat(dir, ".", kDirFlags);
  if (fd < 0) return -errno;
  DIR* stream = fdopendir(fd);
  if (stream == nullptr) {
    Fd(fd).reset();
    return -ENOMEM;
  }
  names->clear();
  errno = 0;
  while (const dirent* entry = readdir(stream)) {
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") names->emplace_back(name);
    errno = 0;
  }
  int error = errno;
  closedir(stream);
  return -error;
}

int64_t RealFs::Read(int handle, uint64_t offset, char* bytes, uint64_t size) {
  for (;;) {
    ssize_t got = pread(handle, bytes, size, static_cast<off_t>(offset));
    if (got >= 0) return got;
    if (errno != EINTR) return -errno;
  }
}

int RealFs::FreeBytes(int handle, uint64_t* bytes) {
  struct statvfs st = {};
  if (fstatvfs(handle, &st) < 0) return -errno;
  // File systems without a size of their own say zero of zero.
  *bytes = st.f_blocks == 0 ? UINT64_MAX : static_cast<uint64_t>(st.f_bavail) * st.f_frsize;
  return 0;
}

int RealFs::TryLock(int handle) { return Result(flock(handle, LOCK_EX | LOCK_NB)); }

int RealFs::Write(int handle, uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t put = pwrite(handle, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return put < 0 ? -errno : -EIO;
    offset += static_cast<uint64_t>(put);
    bytes.remove_prefix(static_cast<size_t>(put));
  }
  return 0;
}

int RealFs::Chmod(int handle, uint32_t mode) { return Result(fchmod(handle, mode)); }

int RealFs::MakeDir(const At& at, uint32_t mode) {
  return Result(mkdirat(at.dir, at.leaf.c_str(), mode));
}

int RealFs::RemoveDir(const At& at) {
  return Result(unlinkat(at.dir, at.leaf.c_str(), AT_REMOVEDIR));
}

int RealFs::Unlink(const At& at) { return Result(unlinkat(at.dir, at.leaf.c_str(), 0)); }

int RealFs::Rename(const At& from, const At& to, Move move) {
  unsigned int flags = move == Move::kExchange    ? RENAME_EXCHANGE
                       : move == Move::kNoReplace ? RENAME_NOREPLACE
                                                  : 0;
  int rc = Result(renameat2(from.dir, from.leaf.c_str(), to.dir, to.leaf.c_str(), flags));
  return rc == -ENOSYS || rc == -EOPNOTSUPP ? -EINVAL : rc;
}

int RealFs::Link(const At& from, const At& to) {
  return Result(linkat(from.dir, from.leaf.c_str(), to.dir, to.leaf.c_str(), 0));
}

int RealFs::Sync(int handle) { return Result(fsync(handle)); }

int RealFs::SyncAll(int handle) { return Result(syncfs(handle)); }

}  // namespace hermes::sync
