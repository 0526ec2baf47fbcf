#pragma once

// Reading one file of the host as a version: its bytes' digest with what the file system said
// before and after. Blocking; worker threads.

#include "sync/content.h"
#include "sync/stat_key.h"

namespace hermes::sync {

struct FileBytes {
  Content content;
  StatKey key;           // as of the end of the last read
  bool settled = false;  // nobody was seen to change it while it was read
  bool linked = false;   // it has other names, through which it may change unseen
};

// `file` is open for reading at its start and is a regular file, or ENXIO is returned. A file that
// changes as it is read is read again, up to 3 times; then the last version counts, unsettled.
// Returns 0 or an errno: EFBIG if it is longer than `max_bytes`.
int ReadVersion(int file, uint64_t max_bytes, FileBytes* version);

}  // namespace hermes::sync
