#include "sync/quarantine.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

namespace hermes::sync {

Quarantine::Quarantine(int directory_fd, uint64_t max_bytes)
    : directory_fd_(directory_fd), left_(directory_fd < 0 ? 0 : max_bytes) {}

void Quarantine::Append(std::string_view bytes) {
  bytes = bytes.substr(0, std::min<uint64_t>(bytes.size(), left_));
  left_ -= bytes.size();
  if (bytes.empty()) return;
  if (!file_.valid()) {
    file_.reset(openat(directory_fd_, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
  }
  // No file, or a short write (the disk is full): that ends it, so that there is no hole.
  const ssize_t put = write(file_.get(), bytes.data(), bytes.size());
  if (put != static_cast<ssize_t>(bytes.size())) left_ = 0;
}

bool Quarantine::Keep(const std::string& name) {
  if (!file_.valid()) return false;
  const std::string path = "/proc/self/fd/" + std::to_string(file_.get());
  return linkat(AT_FDCWD, path.c_str(), directory_fd_, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
}

}  // namespace hermes::sync
