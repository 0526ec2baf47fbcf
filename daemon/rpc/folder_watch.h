#pragma once

// FolderWatch: tells when names in a folder come and go, without looking again and again. Loop
// thread only; shared by its owner and by the task that waits.

#include <memory>
#include <string>

#include <asio/posix/stream_descriptor.hpp>

#include "absl/status/statusor.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

class FolderWatch {
 public:
  // An error: the folder is not there, or the kernel has no watch left for this account.
  static absl::StatusOr<std::shared_ptr<FolderWatch>> Open(Loop& loop, const std::string& folder);
  FolderWatch(Loop& loop, Fd fd);

  // Returns after a change, or once closed. A folder that is gone closes it.
  static Task<void> Changed(std::shared_ptr<FolderWatch> self);
  bool open() const { return events_.is_open(); }
  void Close();

 private:
  void Drain();

  asio::posix::stream_descriptor events_;
};

}  // namespace hermes
