#pragma once

// OutputLog: what one command has written, per stream an append-only log of raw bytes with absolute
// offsets. One writer (the CommandRun), any number of readers that pull at their own speed and
// never hold the writer. Small outputs
// (<= kInlineBytes per stream) stay in memory and are saved with the command's row; larger ones
// spill to one file per stream. Kept: the first half and the last half of the limit; between them a
// gap grows (DROP_MIDDLE). Owned by the CommandRun, later by the session's finished command; loop
// thread only. Files are written with pwrite to the page cache, which survives the death of this
// process.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

inline constexpr uint64_t kInlineBytes = 64 << 10;  // per stream; beyond it a file is made

class OutputLog {
 public:
  struct Options {
    std::string path_prefix;  // files are <path_prefix>.out and <path_prefix>.err
    uint64_t limit_bytes = 128ull << 20;
    bool drop_middle = true;  // false: Append refuses beyond the limit, see room()
  };

  // What is kept of one stream, for the row of a finished or spilled command.
  struct StreamState {
    uint64_t end = 0;        // bytes appended so far
    uint64_t lost_from = 0;  // an explicit hole (the far side lost it), when lost_from < lost_to
    uint64_t lost_to = 0;
    bool in_file = false;
    std::string inline_bytes;  // when !in_file
  };
  struct Saved {
    StreamState stream[kOutputStreams];
  };

  OutputLog(Loop& loop, Options options);
  ~OutputLog();  // closes files, keeps them

  // Takes up what a Saved describes. Bytes in a file beyond `end` (written, then the daemon died
  // before the row said so) are cut off; a file that is shorter than the row says is STORE_CORRUPT.
  static absl::StatusOr<std::unique_ptr<OutputLog>> Restore(Loop& loop, Options options,
                                                            Saved saved);

  // Appends at `offset`. Bytes that are already here are skipped; a hole before `offset` is an
  // error (use Skip). DISK_FULL when the file cannot grow: nothing of this call is kept, the log
  // stays usable.
  absl::Status Append(OutputStream stream, uint64_t offset, std::string_view data);

  // Records [end, to) as lost.
  void Skip(OutputStream stream, uint64_t to);

  uint64_t end(OutputStream stream) const;

  // Offsets below this may be acknowledged to the far side now: they are in a file. (Inline bytes
  // are safe only when the row is committed.)
  uint64_t on_disk(OutputStream stream) const;

  // Bytes that may still be appended with drop_middle = false.
  uint64_t room(OutputStream stream) const;

  // One piece at or after an offset: either bytes at `offset`, or a gap [offset, gap_to). Empty and
  // no gap: nothing there yet. OFFSET_BEYOND_END when offset > end.
  struct Piece {
    uint64_t offset = 0;
    std::string data;
    uint64_t gap_to = 0;
    std::string gap_reason;  // "trimmed" | "lost"
  };
  absl::StatusOr<Piece> ReadAt(OutputStream stream, uint64_t offset, size_t most) const;

  // Where reading `tail` last bytes would start (gaps not counted as bytes).
  uint64_t TailOffset(OutputStream stream, uint64_t tail) const;

  // Closed: no more bytes will come. Readers see it through finished().
  void Finish();
  bool finished() const { return finished_; }

  // Woken after every Append, Skip and Finish.
  Event& changed() { return changed_; }

  Saved Save() const;

  // Removes the files. The log must not be used afterwards.
  void Remove();
  static void RemoveFiles(const std::string& path_prefix);

  uint64_t dropped_bytes() const;  // trimmed so far, both streams

 private:
  class StreamLog;
  Event changed_;
  bool finished_ = false;
  std::unique_ptr<StreamLog> streams_[kOutputStreams];
};

}  // namespace hermes
