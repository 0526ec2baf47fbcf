#pragma once

// StatKey: what a file system says of a file without reading it. As long as it is the same, and was
// not taken while the file could still change within one tick of the clock, so are the bytes; a
// program that writes through a mapping is the exception. Pure.

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>

namespace hermes::sync {

struct StatKey {
  uint64_t dev = 0;
  uint64_t ino = 0;  // 0: of no file, never equal to one that is
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  bool operator==(const StatKey&) const = default;
  int64_t Newest() const { return std::max(mtime_ns, ctime_ns); }
};

inline StatKey KeyOf(const struct stat& seen) {
  constexpr int64_t kSecond = 1'000'000'000;
  return {.dev = seen.st_dev,
          .ino = seen.st_ino,
          .size = static_cast<uint64_t>(seen.st_size),
          .mtime_ns = seen.st_mtim.tv_sec * kSecond + seen.st_mtim.tv_nsec,
          .ctime_ns = seen.st_ctim.tv_sec * kSecond + seen.st_ctim.tv_nsec};
}

}  // namespace hermes::sync
