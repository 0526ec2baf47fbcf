#pragma once

// Quarantine: the beginning of a stream, written to a file without a name while it comes, so that a
// crash leaves nothing behind; only a stream that lied gets a name. It is evidence, not needed for
// anything: a failure here ends no transfer. Blocking; used by one worker at a time.

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/runtime/fd.h"

namespace hermes::sync {

// Streams kept in one directory; the oldest goes when another one lies.
inline constexpr size_t kMaxQuarantined = 16;

class Quarantine {
 public:
  // `directory_fd` is borrowed for the time of both calls; -1: nothing is kept.
  Quarantine(int directory_fd, uint64_t max_bytes);

  void Append(std::string_view bytes);
  // True: what was appended is in the directory as `name`, which did not exist before.
  bool Keep(const std::string& name);

 private:
  void MakeRoom() const;

  const int directory_fd_;
  uint64_t left_;
  Fd file_;
};

}  // namespace hermes::sync
