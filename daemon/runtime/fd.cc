#include "daemon/runtime/fd.h"

#include <cerrno>

namespace hermes {

void Fd::reset(int fd) {
  const int old = std::exchange(fd_, fd);
  if (old < 0) return;
  const int saved_errno = errno;
  close(old);
  errno = saved_errno;
}

}  // namespace hermes
