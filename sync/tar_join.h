#pragma once

// TarJoin: makes one tar stream of several that come one after the other, piece by piece, by
// leaving out the ends between them. It understands no more than where the next header is. The
// streams are hostile: whoever reads what comes out must be ready for anything. Pure.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hermes::sync {

// Zeros left out behind the end of one stream: tools fill up a record. All of what is longer goes
// on, so that the reader sees it and gives it up, as nobody else would ever end it.
inline constexpr size_t kMaxJoinedTail = 1 << 20;

class TarJoin {
 public:
  // The next bytes of the current stream; gives what goes on.
  std::string Feed(std::string_view bytes);

  // The current stream has ended; another may follow. False: it was cut short.
  bool EndStream();

 private:
  std::string header_;    // a part of one
  uint64_t left_ = 0;     // bytes that belong to the last header
  bool at_end_ = false;   // of this stream: a header of zeros came
  uint64_t zeros_ = 0;    // left out behind it
  bool passing_ = false;  // something came behind the end: all is handed on
};

}  // namespace hermes::sync
