#include "sync/look.h"

#include <algorithm>
#include <cerrno>
#include <vector>

namespace hermes::sync {
namespace {

constexpr uint64_t kReadBytes = 128 << 10;

bool MayBe(const FileStat& stat, const MaybeContent& content) {
  return content && stat.size == content->size && ExecutableMode(stat.mode) == content->executable;
}

Seen Classify(Fs& fs, int handle, const MaybeContent& from, const MaybeContent& to) {
  Seen seen;
  seen.error = fs.Stat(handle, &seen.stat);
  if (seen.error < 0) return seen;
  if (seen.stat.type != FileStat::Type::kFile) {
    seen.what = Seen::What::kForeign;
    return seen;
  }
  seen.what = Seen::What::kOther;
  bool may_be_from = MayBe(seen.stat, from);
  bool may_be_to = MayBe(seen.stat, to);
  if (!may_be_from && !may_be_to) return seen;
  Hashed hashed = HashFile(fs, handle, seen.stat.size);
  if (hashed.error < 0) {
    seen.error = hashed.error;
  } else if (may_be_from && hashed.size == from->size && hashed.digest == from->digest) {
    seen.what = Seen::What::kFrom;
  } else if (may_be_to && hashed.size == to->size && hashed.digest == to->digest) {
    seen.what = Seen::What::kTo;
  }
  return seen;
}

}  // namespace

bool ExecutableMode(uint32_t mode) { return (mode & 0100) != 0; }

Hashed HashFile(Fs& fs, int handle, uint64_t limit) {
  Hashed hashed;
  Hasher hasher;
  std::vector<char> buffer(std::min(kReadBytes, limit + 1));
  while (hashed.size <= limit) {  // one byte more than expected is enough to know
    int64_t got = fs.Read(handle, hashed.size, buffer.data(), buffer.size());
    if (got < 0) hashed.error = static_cast<int>(got);
    if (got <= 0) break;
    hasher.Update({buffer.data(), static_cast<size_t>(got)});
    hashed.size += static_cast<uint64_t>(got);
  }
  hashed.digest = hasher.Finish();
  return hashed;
}

Seen Look(Fs& fs, const Fs::At& at, const MaybeContent& from, const MaybeContent& to) {
  Seen seen;
  int rc = fs.StatAt(at, &seen.stat);
  if (rc == -ENOENT) return seen;
  if (rc < 0) {
    seen.error = rc;
    return seen;
  }
  seen.what = Seen::What::kForeign;
  // Looked at before it is opened: opening a device may already do something.
  if (seen.stat.type != FileStat::Type::kFile) return seen;
  seen.what = Seen::What::kOther;
  if (!MayBe(seen.stat, from) && !MayBe(seen.stat, to)) return seen;
  Handle file(fs, fs.OpenFile(at, Fs::Access::kRead));
  if (file.valid()) return Classify(fs, file.get(), from, to);
  // It was a regular file a moment ago, so somebody is at work here.
  if (file.get() == -ENOENT) return Seen{};
  if (file.get() == -ELOOP || file.get() == -ENXIO) return Seen{Seen::What::kForeign, {}, 0};
  seen.error = file.get();
  return seen;
}

}  // namespace hermes::sync
