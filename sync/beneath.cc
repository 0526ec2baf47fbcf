#include "sync/beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace hermes::sync {
namespace {

constexpr int kTries = 128;  // the kernel gives up, EAGAIN, when a rename races with the walk

Fd Open(int root, const std::string& path, int flags, uint64_t resolve) {
  open_how how = {.flags = static_cast<uint64_t>(flags | O_CLOEXEC),
                  .resolve = resolve | RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
  const char* const name = path.empty() ? "." : path.c_str();
  int64_t fd = -1;
  for (int i = 0; i < kTries; ++i) {
    fd = syscall(SYS_openat2, root, name, &how, sizeof(how));
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) break;
  }
  return Fd(static_cast<int>(fd));
}

}  // namespace

Fd OpenBeneath(int root, const std::string& path) {
  return Open(root, path, O_RDONLY | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
}

Fd OpenTargetBeneath(int root, const std::string& path) { return Open(root, path, O_PATH, 0); }

}  // namespace hermes::sync
