#pragma once

// The two ends of the file service: what it reads from stdin and what it writes to stdout, both
// through one buffer, both blocking.

#include <stdint.h>

#include <string>
#include <string_view>

namespace hermes::runner {

inline constexpr size_t kPieceBytes = 64 << 10;  // read or written at a time

class FilesInput {
 public:
  // The next bytes, at most `most` of them; empty: the input is cut short.
  std::string_view Next(uint64_t most);
  // Exactly `bytes`, or fewer when it is cut short.
  std::string Read(uint64_t bytes);

 private:
  std::string buffer_;
  size_t at_ = 0;
};

class FilesAnswer {
 public:
  std::string_view mark;

  FilesAnswer& Put(std::string_view text);
  FilesAnswer& Put(uint64_t number);
  FilesAnswer& Mark();  // begins a line of the frame: the mark and a space
  // "notools", "noroot", "nospace" or "failed", with errno if it is not 0. The end of the answer.
  void Trouble(std::string_view word, std::string_view what, int error);
  bool Flush();  // false: nobody listens any more

 private:
  std::string buffer_;
  bool broken_ = false;
};

}  // namespace hermes::runner
