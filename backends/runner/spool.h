#pragma once

// Bytes of one output stream beyond the ring while no daemon is connected: an unlinked file that
// grows to kMaxSpoolBytes and is given back when it was read to its end.

#include <stdint.h>

#include <string>
#include <string_view>

#include "backends/runner/sys.h"

namespace hermes::runner {

inline constexpr uint64_t kMaxSpoolBytes = 64 << 20;  // at the limit the command blocks

class Spool {
 public:
  uint64_t size() const { return written_ - taken_ + tail_.size(); }
  bool full() const { return written_ >= kMaxSpoolBytes || !tail_.empty(); }

  // Takes all of `bytes`: what the disk does not take stays in memory, and the spool is full from
  // then on. So the caller appends a bounded piece at a time, and asks full() first.
  void Append(const std::string& directory, std::string_view bytes);

  // Up to `limit` of the oldest bytes; 0 when there are none or they cannot be read.
  size_t Take(char* into, size_t limit);

 private:
  Fd file_;
  uint64_t written_ = 0;
  uint64_t taken_ = 0;
  std::string tail_;
};

}  // namespace hermes::runner
