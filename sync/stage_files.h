#pragma once

// StageFiles: writes what a bundle brings into the stage directory, as files named by numbers
// (never by a name that came from afar), and hashes the bytes as it writes them. The directory is
// the owner's, has no file of these numbers, and is on the file system where the files will land.
// Nothing is made durable here. Blocking; used by one worker at a time.

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "sync/content.h"
#include "sync/fs.h"
#include "sync/record_checker.h"

namespace hermes::sync {

struct StagedFile {
  uint32_t index = 0;  // in the wanted list
  Content content;     // of the bytes that were written
};

// Of the file at `index` where those of its bundle begin at this number.
std::string StagedName(uint32_t index, uint32_t first = 0);

// Whoever sends more than it told must not fill the disk: this much stays free for others, on a
// disk with little room a share of what there was. It is looked at after so many bytes.
inline constexpr uint64_t kMostKeptFree = 64 << 20;
inline constexpr uint64_t kKeptFreeShare = 16;
inline constexpr uint64_t kRoomEvery = 4 << 20;

class StageFiles : public BundleSink {
 public:
  // `stage` is a directory of `fs`; both outlive this.
  StageFiles(Fs& fs, int stage, uint32_t first) : fs_(fs), stage_(stage), first_(first) {}

  // DISK_FULL, also before others have no room left (see kMostKeptFree), or SYNC_FAILED with the
  // system's words.
  absl::Status Begin(const unpack::File& file) override;
  absl::Status Append(std::string_view bytes) override;
  absl::Status End() override;
  absl::Status Copy(uint32_t index, uint32_t from) override;

  // Whole files only, in the order of their coming.
  const std::vector<StagedFile>& staged() const { return staged_; }
  // Removes what was begun after the last End, or everything.
  void RemovePartial();
  void RemoveAll();

 private:
  Fs::At At(uint32_t index) const { return {stage_, StagedName(index, first_)}; }
  absl::Status CheckRoom();

  Fs& fs_;
  const int stage_;
  const uint32_t first_;
  Handle file_;
  uint64_t written_ = 0;               // of this file
  std::optional<uint64_t> kept_free_;  // of the disk
  uint64_t since_look_ = 0;            // bytes
  StagedFile current_;
  std::optional<Hasher> hasher_;
  std::vector<StagedFile> staged_;
  std::unordered_map<uint32_t, size_t> places_;  // index -> in staged_
};

}  // namespace hermes::sync
