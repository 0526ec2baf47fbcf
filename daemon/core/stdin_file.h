#pragma once

// StdinFile: what a caller gave a command as its whole stdin, kept from before the command is
// handed over until its place has taken all of it. The command may read it long after, from a later
// hermesd. One OutputFile per command (0600, the spool's folder), at most as large as a request.
// Loop thread; blocking, a piece at a time, as OutputFile.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/core/output_file.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

inline constexpr char kStdinSuffix[] = ".in";

class StdinFile {
 public:
  // `path_prefix` and `tag` as OutputLog's. Nothing is opened yet.
  StdinFile(const std::string& path_prefix, const std::string& tag);

  // DISK_FULL: Remove what there is of it. Others have their turn between two pieces.
  Task<absl::Status> Keep(Loop& loop, std::string data);

  // NOT_FOUND: nothing was kept, or all was taken. STORE_CORRUPT: it is damaged. Holds no
  // descriptor afterwards: the command may wait long before it reads.
  absl::Status Open();
  // After Open. Empty at the end.
  absl::StatusOr<std::string> Read(uint64_t offset, size_t most) const;

  // Nothing happens when there is none.
  static void Remove(const std::string& path_prefix);

 private:
  const std::string path_;
  const std::string tag_;
  OutputFile file_;
  uint64_t size_ = 0;
};

}  // namespace hermes
