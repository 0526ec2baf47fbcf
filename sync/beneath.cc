#include "sync/beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "sync/real_fs.h"

namespace hermes::sync {
namespace {

// The kernel gives up when a rename races with a link's ".."; beyond that many tries it is an
// error.
constexpr int kTries = 128;

}  // namespace

Fd OpenBeneath(int root, const std::string& path) {
  const int fd = RealFs().OpenDir(root, path);
  if (fd < 0) errno = -fd;
  return Fd(fd);
}

Fd OpenTargetBeneath(int root, const std::string& path) {
  open_how how = {.flags = O_PATH | O_CLOEXEC,
                  .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
  int64_t fd = -1;
  for (int i = 0; i < kTries; ++i) {
    fd = syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how));
    if (fd >= 0 || errno != EAGAIN) break;
  }
  return Fd(static_cast<int>(fd));
}

Fd OpenVersionBeneath(int root, const std::string& path, LinkPolicy links) {
  const size_t slash = path.rfind('/');
  const Fd parent = OpenBeneath(root, slash == path.npos ? "" : path.substr(0, slash));
  if (!parent.valid()) return Fd();
  const char* const leaf = path.c_str() + (slash + 1);  // npos + 1 is 0
  // As O_PATH first: opening a device for reading may do things to it.
  Fd found(openat(parent.get(), leaf, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat seen;
  if (!found.valid() || fstat(found.get(), &seen) != 0) return Fd();
  if (S_ISLNK(seen.st_mode) && links != LinkPolicy::kSkip) {
    found = links == LinkPolicy::kInside ? OpenTargetBeneath(root, path)
                                         : Fd(openat(parent.get(), leaf, O_PATH | O_CLOEXEC));
    if (!found.valid() || fstat(found.get(), &seen) != 0) return Fd();
  }
  if (!S_ISREG(seen.st_mode)) {
    errno = ENXIO;
    return Fd();
  }
  const std::string name = "/proc/self/fd/" + std::to_string(found.get());
  return Fd(open(name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

}  // namespace hermes::sync
