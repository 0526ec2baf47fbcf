#include "sync/quarantine.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "sync/stat_key.h"

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

void Quarantine::MakeRoom() const {
  Fd again(openat(directory_fd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* const opened = again.valid() ? fdopendir(again.get()) : nullptr;
  if (opened == nullptr) return;
  static_cast<void>(again.release());  // the listing closes it
  const std::unique_ptr<DIR, decltype(&closedir)> listing(opened, &closedir);
  std::vector<std::pair<int64_t, std::string>> kept;  // by age
  while (const dirent* entry = readdir(listing.get())) {
    struct stat seen;
    const bool file = fstatat(directory_fd_, entry->d_name, &seen, AT_SYMLINK_NOFOLLOW) == 0 &&
                      S_ISREG(seen.st_mode);
    if (file) kept.emplace_back(KeyOf(seen).mtime_ns, entry->d_name);
  }
  std::sort(kept.begin(), kept.end());
  for (size_t i = 0; i + kMaxQuarantined <= kept.size(); ++i)
    unlinkat(directory_fd_, kept[i].second.c_str(), 0);
}

bool Quarantine::Keep(const std::string& name) {
  if (!file_.valid()) return false;
  MakeRoom();
  const std::string path = "/proc/self/fd/" + std::to_string(file_.get());
  return linkat(AT_FDCWD, path.c_str(), directory_fd_, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
}

}  // namespace hermes::sync
