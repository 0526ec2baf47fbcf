#include "sync/file_bytes.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string_view>

namespace hermes::sync {
namespace {

constexpr int kTries = 3;
constexpr size_t kChunkBytes = 128 << 10;

int Hash(int file, uint64_t max_bytes, Content* content) {
  const auto chunk = std::make_unique<std::array<char, kChunkBytes>>();
  Hasher hasher;
  content->size = 0;
  while (true) {
    const ssize_t got =
        pread(file, chunk->data(), chunk->size(), static_cast<off_t>(content->size));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) break;
    content->size += static_cast<uint64_t>(got);
    if (content->size > max_bytes) return EFBIG;
    hasher.Update({chunk->data(), static_cast<size_t>(got)});
  }
  content->digest = hasher.Finish();
  return 0;
}

}  // namespace

int ReadVersion(int file, uint64_t max_bytes, FileBytes* version) {
  struct stat before;
  if (fstat(file, &before) != 0) return errno;
  if (!S_ISREG(before.st_mode)) return ENXIO;
  for (int i = 0; i < kTries && !version->settled; ++i) {
    if (static_cast<uint64_t>(before.st_size) > max_bytes) return EFBIG;
    const int error = Hash(file, max_bytes, &version->content);
    if (error != 0) return error;
    struct stat after;
    if (fstat(file, &after) != 0) return errno;
    version->settled = KeyOf(before) == KeyOf(after) &&
                       version->content.size == static_cast<uint64_t>(after.st_size);
    before = after;
  }
  version->key = KeyOf(before);
  version->content.executable = (before.st_mode & S_IXUSR) != 0;
  version->linked = before.st_nlink > 1;
  return 0;
}

}  // namespace hermes::sync
