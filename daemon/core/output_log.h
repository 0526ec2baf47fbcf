#pragma once

// OutputLog: what one command has written, per stream an append-only log of raw bytes with absolute
// offsets. One writer (the CommandRun), any number of readers that pull at their own speed and
// never hold the writer. Small outputs (<= kInlineBytes per stream) stay in memory and are saved
// with the command's row; larger ones spill to one file per stream. Kept: the first half and the
// last half of the limit; between them a gap grows (DROP_MIDDLE). Owned by the CommandRun, later by
// the session's finished command; loop thread only.
//
// Kill -9 at any instant: the bytes are written to the page cache first, then a mark in the file's
// header that says where the log ends. What the mark covers is on_disk() and comes back from
// Restore, also when the row is older than the file or does not know of it. A command's bytes lie
// at positions that depend on their offsets alone: the first half of the limit in place, the rest
// in a ring which is kMaxAppend longer than the kept tail, so that an append that fails or dies
// half way has overwritten only bytes that were trimmed already. A file is thus at most
// limit_bytes + kMaxAppend + one page long.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "daemon/core/output_file.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

inline constexpr uint64_t kInlineBytes = 64 << 10;  // per stream; beyond it a file is made
inline constexpr uint64_t kMaxAppend = 256 << 10;   // bytes in one Append; more is refused (BUG)

class OutputLog {
 public:
  struct Options {
    std::string path_prefix;  // files are <path_prefix>.out and <path_prefix>.err
    std::string tag;  // whose output it is (the run id); Restore ignores a file of somebody else
    uint64_t limit_bytes = 128ull << 20;  // per stream, at least 1
    bool drop_middle = true;              // false: Append refuses beyond the limit, see room()
  };

  // What is kept of one stream, for the row of a finished or spilled command.
  struct StreamState {
    uint64_t end = 0;               // bytes appended or skipped so far
    std::vector<OutputHole> holes;  // what the far side lost; at most kMaxHoles
    bool in_file = false;
    std::string inline_bytes;  // when !in_file: by position, for Restore only
  };
  struct Saved {
    StreamState stream[kOutputStreams];
  };

  OutputLog(Loop& loop, Options options);
  ~OutputLog();  // closes files, keeps them

  // Takes up what a Saved and the files describe; the newer of the two counts. STORE_CORRUPT when
  // a file that the row counts on is missing, damaged or knows less than the row; a broken file
  // that the row does not know of is ignored.
  static absl::StatusOr<std::unique_ptr<OutputLog>> Restore(Loop& loop, Options options,
                                                            Saved saved);

  // Appends at `offset`. Bytes that are already here are skipped; a hole before `offset` is
  // OFFSET_BEYOND_END (use Skip). SPOOL_FULL with drop_middle = false when room() is too small.
  // DISK_FULL when the file cannot grow. After any error nothing of this call is kept, and the log
  // is as it was. Not after Finish (BUG).
  absl::Status Append(OutputStream stream, uint64_t offset, std::string_view data);

  // Records [end, to) as lost. Nothing happens when `to` <= end, or is beyond any real output.
  void Skip(OutputStream stream, uint64_t to);

  uint64_t end(OutputStream stream) const;

  // Offsets below this may be acknowledged to the far side now: they are in a file. (Inline bytes
  // are safe only when the row is committed.)
  uint64_t on_disk(OutputStream stream) const;

  // Bytes that may still be appended with drop_middle = false.
  uint64_t room(OutputStream stream) const;

  // One piece at or after an offset: either bytes at `offset`, or a gap [offset, gap_to). Empty and
  // no gap: nothing there yet. OFFSET_BEYOND_END when offset > end; STORE_CORRUPT when the file was
  // damaged or removed meanwhile. `most` > 0; up to kMaxPiece bytes are returned.
  static constexpr size_t kMaxPiece = 1 << 20;
  struct Piece {
    uint64_t offset = 0;
    std::string data;
    uint64_t gap_to = 0;
    std::string gap_reason;  // "trimmed" | "lost"
  };
  absl::StatusOr<Piece> ReadAt(OutputStream stream, uint64_t offset, size_t most) const;

  // Whether `offset` was dropped to keep the limit.
  bool trimmed(OutputStream stream, uint64_t offset) const;

  // Where reading `tail` last bytes would start (gaps not counted as bytes).
  uint64_t TailOffset(OutputStream stream, uint64_t tail) const;

  // Closed: no more bytes will come. Readers see it through finished(). Holds no descriptor from
  // now on: a read opens the file for itself.
  void Finish();
  bool finished() const { return finished_; }

  // Woken after every Append and Skip that moved the end, and by Finish.
  Event& changed() { return changed_; }

  Saved Save() const;

  // Removes the files. The log must not be used afterwards.
  void Remove();
  static void RemoveFiles(const std::string& path_prefix);

  // Of all before the ends of both streams: what was trimmed or lost. Never shrinks.
  uint64_t dropped_bytes() const;

 private:
  class StreamLog;
  StreamLog& at(OutputStream stream) const { return *streams_[static_cast<size_t>(stream)]; }
  Event changed_;
  bool finished_ = false;
  std::unique_ptr<StreamLog> streams_[kOutputStreams];
};

}  // namespace hermes
