#include "sync/beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
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

}  // namespace hermes::sync
