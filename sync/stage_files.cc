#include "sync/stage_files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

constexpr size_t kCopyBytes = 256 << 10;

absl::Status Failed(int64_t rc, const char* what) {
  const int error = static_cast<int>(-rc);
  const bool full = error == ENOSPC || error == EDQUOT;
  return Error(full ? Reason::k_DISK_FULL : Reason::k_SYNC_FAILED,
               std::string(what) + ": " + strerror(error));
}

}  // namespace

std::string StagedName(uint32_t index, uint32_t first) {
  return std::to_string(uint64_t{first} + index);
}

absl::Status StageFiles::Begin(const unpack::File& file) {
  file_ = Handle(fs_, fs_.OpenFile(At(file.index), Fs::Access::kCreate));
  if (!file_.valid()) return Failed(file_.get(), "create a received file");
  written_ = 0;
  current_ = {.index = file.index, .content = {.size = file.size, .executable = file.executable}};
  hasher_.emplace();
  return absl::OkStatus();
}

absl::Status StageFiles::CheckRoom() {
  if (kept_free_ && since_look_ < kRoomEvery) return absl::OkStatus();
  since_look_ = 0;
  uint64_t free = 0;
  if (const int rc = fs_.FreeBytes(stage_, &free); rc < 0)
    return Failed(rc, "ask for the free space");
  if (!kept_free_) kept_free_ = std::min(kMostKeptFree, free / kKeptFreeShare);
  if (free >= *kept_free_) return absl::OkStatus();
  return Error(Reason::k_DISK_FULL, "what the sandbox sends leaves too little room on the disk");
}

absl::Status StageFiles::Append(std::string_view bytes) {
  RETURN_IF_ERROR(CheckRoom());
  since_look_ += bytes.size();
  hasher_->Update(bytes);
  const int rc = fs_.Write(file_.get(), written_, bytes);
  written_ += bytes.size();
  return rc < 0 ? Failed(rc, "write a received file") : absl::OkStatus();
}

absl::Status StageFiles::End() {
  file_.Reset();
  current_.content.digest = hasher_->Finish();
  places_[current_.index] = staged_.size();
  staged_.push_back(current_);
  return absl::OkStatus();
}

absl::Status StageFiles::Copy(uint32_t index, uint32_t from) {
  auto place = places_.find(from);
  CHECK(place != places_.end());
  const Content content = staged_[place->second].content;
  const Handle in(fs_, fs_.OpenFile(At(from), Fs::Access::kRead));
  if (!in.valid()) return Failed(in.get(), "open a received file");
  RETURN_IF_ERROR(Begin({index, content.size, content.executable}));
  std::string buffer(kCopyBytes, '\0');
  for (;;) {
    const int64_t got = fs_.Read(in.get(), written_, buffer.data(), buffer.size());
    if (got < 0) return Failed(got, "read a received file");
    if (got == 0) return End();
    RETURN_IF_ERROR(Append(std::string_view(buffer).substr(0, static_cast<size_t>(got))));
  }
}

void StageFiles::RemovePartial() {
  if (!file_.valid()) return;
  file_.Reset();
  fs_.Unlink(At(current_.index));
}

void StageFiles::RemoveAll() {
  RemovePartial();
  for (const StagedFile& file : staged_) fs_.Unlink(At(file.index));
  staged_.clear();
  places_.clear();
}

}  // namespace hermes::sync
