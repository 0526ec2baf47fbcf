#include "backends/runner/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

namespace hermes::runner {

void Spool::Append(const std::string& directory, std::string_view bytes) {
  if (!file_.valid()) {
    std::string path = directory + "/" + RandomHex(8);
    file_.Reset(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (file_.valid()) unlink(path.c_str());
  }
  while (!bytes.empty() && tail_.empty()) {
    ssize_t n = pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(written_));
    if (n <= 0) break;
    written_ += static_cast<uint64_t>(n);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  tail_.append(bytes);
}

size_t Spool::Take(char* into, size_t limit) {
  size_t wanted = static_cast<size_t>(std::min<uint64_t>(limit, written_ - taken_));
  if (wanted != 0) {
    ssize_t n = pread(file_.get(), into, wanted, static_cast<off_t>(taken_));
    if (n <= 0) return 0;
    taken_ += static_cast<uint64_t>(n);
    if (taken_ < written_) return static_cast<size_t>(n);
    file_.Reset();
    written_ = taken_ = 0;
    return static_cast<size_t>(n);
  }
  size_t rest = std::min(limit, tail_.size());
  tail_.copy(into, rest);
  tail_.erase(0, rest);
  return rest;
}

}  // namespace hermes::runner
