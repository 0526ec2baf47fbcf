#pragma once

// OutputFile: one stream's bytes in one file, and a header that says what of them counts. Layout:
//   [0, kHeaderBytes)  Mark: tag, limit, end, holes, checksum; lies within one page, so a killed
//                      process leaves the old or the new one, never a mixture
//   then the bytes     at positions that are a pure function of their offset (see output_log.cc)
// Bytes are written first, the Mark after them. After kill -9 the file is as of the last Mark (the
// page cache survives; after a power loss it may not). Owned by OutputLog; loop thread; blocking,
// on purpose: the page cache takes a write in microseconds.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace hermes {

// Offsets [from, to) that the far side lost before anybody fetched them.
struct OutputHole {
  uint64_t from = 0;
  uint64_t to = 0;
  bool operator==(const OutputHole&) const = default;
};

// Holes that are told apart. One more swallows the bytes between the last two: they count as lost.
inline constexpr size_t kMaxHoles = 8;

class OutputFile {
 public:
  static constexpr uint64_t kHeaderBytes = 4096;

  struct Mark {
    std::string tag;     // whose file it is; only its first kTagBytes count
    uint64_t limit = 0;  // of the log; positions depend on it
    uint64_t end = 0;    // bytes appended so far
    uint64_t high = 0;   // first position that was never written
    std::vector<OutputHole> holes;
  };
  static constexpr size_t kTagBytes = 64;

  OutputFile() = default;
  ~OutputFile() { Close(); }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Makes an empty file (0600; its folder 0700 when missing), replacing whatever is there.
  absl::Status Create(const std::string& path);

  // Opens an existing file and reads its Mark. NOT_FOUND when there is none; STORE_CORRUPT when the
  // Mark is damaged or the file is shorter than it says.
  absl::StatusOr<Mark> Open(const std::string& path);

  // All of `data`, or DISK_FULL (then the bytes in this range are undefined). A file stops growing
  // before the disk is full: what is left belongs to the store, which must still take results.
  absl::Status Write(uint64_t position, std::string_view data);
  absl::Status WriteMark(const Mark& mark);

  // Fills all of `into`; STORE_CORRUPT when the file ends before. Works after Close, too.
  absl::Status Read(uint64_t position, std::span<char> into) const;

  // Gives the descriptor back; a later Read opens the file for itself.
  void Close();

 private:
  absl::Status WriteAll(uint64_t file_offset, std::string_view data);
  absl::Status CheckRoom(uint64_t bytes) const;

  std::string path_;
  int fd_ = -1;
  uint64_t written_to_ = 0;  // first position that was never written
};

}  // namespace hermes
