#pragma once

// Journal: what a landing is about to do, written down before it does anything, so that whoever
// finds it after a kill or a power cut knows every file's two versions and where they may lie. One
// file per sync, append-only records that each carry their own digest: a torn record is no record.
// After the commit it is the index of the undo store. Owned by whoever holds the lock of the sync's
// directory; worker threads.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sync/content.h"
#include "sync/fs.h"
#include "sync/rel_path.h"

namespace hermes::sync {

inline constexpr std::string_view kJournalName = "journal";

// The file at `path` goes from one version to another: both: replaced; no `from`: created; no `to`:
// deleted. `slot` is a file of the sync's own directory: whichever version is not at `path` lies
// there (before a creation and after a deletion; a replacement exchanges the two).
struct Change {
  RelPath path;
  MaybeContent from;
  MaybeContent to;
  std::string slot;

  Change Inverse() const { return {path, to, from, slot}; }
};

enum class Outcome : uint8_t {
  kDone = 1,
  kHostChanged = 2,  // the host's file is not `from`; it stays, and so does what we brought
  kInTheWay = 3,     // a link, a hard link, a directory or something special; untouched
  kFailed = 4,       // untouched as well
};

struct Ruling {
  Outcome outcome = Outcome::kFailed;
  bool kept = false;  // a version of the host that nobody expected lies in the undo store
};

// A directory that some change of the sync lies in.
struct DirRecord {
  std::string path;
  bool existed = false;
  uint32_t mode = 0;  // if it existed
};

struct LandPlan {
  int64_t time_s = 0;  // since 1970
  std::vector<Change> changes;
  std::vector<DirRecord> dirs;  // parents before their children
};

// The largest record; a plan that needs more is refused. 20,000 files of 4 kB names fit.
inline constexpr uint64_t kMaxRecordBytes = 128 << 20;

class Journal {
 public:
  // Writes the plan as a new file, with room for its commit. Not synced yet: the caller syncs it
  // together with the staged files. On failure there is no file.
  static absl::StatusOr<Journal> Create(Fs& fs, int dir, LandPlan plan);
  // NotFound: nothing was ever begun. DataLoss: what is there is no journal. SYNC_FAILED: it can't
  // be read now.
  static absl::StatusOr<Journal> Open(Fs& fs, int dir);

  // Opens a second turn, backwards, over some changes by index. Durable when it returns OK.
  absl::Status BeginRevert(std::vector<uint32_t> indexes);
  // Ends the open turn, one ruling per index of turn(). Durable when it returns OK.
  absl::Status Commit(const std::vector<Ruling>& rulings);

  const LandPlan& plan() const { return plan_; }
  bool open() const { return open_; }                           // a turn began and did not end
  bool backwards() const { return backwards_; }                 // the open turn
  const std::vector<uint32_t>& turn() const { return turn_; }   // its changes
  bool landed(uint32_t index) const { return landed_[index]; }  // and not taken back
  bool kept(uint32_t index) const { return kept_[index]; }

 private:
  Journal(Fs& fs, Handle file) : fs_(&fs), file_(std::move(file)) {}
  absl::Status Append(uint32_t type, std::string_view payload, uint64_t reserve);
  absl::Status Load();
  bool Apply(uint32_t type, std::string_view payload);
  void BeginTurn(bool backwards, std::vector<uint32_t> indexes);
  void EndTurn(const std::vector<Ruling>& rulings);

  Fs* fs_;
  Handle file_;
  uint64_t end_ = 0;
  LandPlan plan_;
  bool open_ = false;
  bool backwards_ = false;
  std::vector<uint32_t> turn_;
  std::vector<bool> landed_;
  std::vector<bool> kept_;
};

// A failed call as a status: DISK_FULL for a full disk or quota, else SYNC_FAILED.
absl::Status FsError(int rc, std::string_view what);
bool IsFull(int rc);  // -ENOSPC, -EDQUOT

}  // namespace hermes::sync
