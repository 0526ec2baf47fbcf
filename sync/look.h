#pragma once

// Look: which of two versions lies under a name. Never follows a link, never waits for a fifo and
// reads no byte of a file whose size already says that it is another one. Worker threads.

#include "sync/content.h"
#include "sync/fs.h"

namespace hermes::sync {

struct Seen {
  enum class What {
    kAbsent,
    kFrom,
    kTo,
    kOther,    // a regular file, neither version
    kForeign,  // no regular file
  };
  What what = What::kAbsent;
  FileStat stat = {};  // from before the first byte was read
  int error = 0;       // negative errno: nothing can be said
};

Seen Look(Fs& fs, const Fs::At& at, const MaybeContent& from, const MaybeContent& to);

// The digest of an open file's bytes, reading little more than `limit` of them
struct Hashed {
  Digest digest = {};
  uint64_t size = 0;
  int error = 0;
};
Hashed HashFile(Fs& fs, int handle, uint64_t limit);

bool ExecutableMode(uint32_t mode);  // the owner's bit decides

}  // namespace hermes::sync
