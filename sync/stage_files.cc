#include "sync/stage_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

constexpr size_t kCopyBytes = 256 << 10;

absl::Status Failed(const char* what) {
  const bool full = errno == ENOSPC || errno == EDQUOT;
  return Error(full ? Reason::k_DISK_FULL : Reason::k_SYNC_FAILED,
               std::string(what) + ": " + strerror(errno));
}

absl::Status WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno != EINTR) return Failed("write a received file");
    if (put > 0) bytes.remove_prefix(static_cast<size_t>(put));
  }
  return absl::OkStatus();
}

Fd Create(int stage_fd, uint32_t index) {
  return Fd(openat(stage_fd, StagedName(index).c_str(),
                   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
}

}  // namespace

std::string StagedName(uint32_t index) { return std::to_string(index); }

absl::Status StageFiles::Begin(const unpack::File& file) {
  file_ = Create(stage_fd_, file.index);
  if (!file_.valid()) return Failed("create a received file");
  current_ = {.index = file.index, .content = {.size = file.size, .executable = file.executable}};
  hasher_.emplace();
  return absl::OkStatus();
}

absl::Status StageFiles::Append(std::string_view bytes) {
  hasher_->Update(bytes);
  return WriteAll(file_.get(), bytes);
}

absl::Status StageFiles::End() {
  file_.reset();
  current_.content.digest = hasher_->Finish();
  places_[current_.index] = staged_.size();
  staged_.push_back(current_);
  return absl::OkStatus();
}

absl::Status StageFiles::Copy(uint32_t index, uint32_t from) {
  auto place = places_.find(from);
  CHECK(place != places_.end());
  const Content content = staged_[place->second].content;
  Fd in(openat(stage_fd_, StagedName(from).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!in.valid()) return Failed("open a received file");
  RETURN_IF_ERROR(Begin({index, content.size, content.executable}));
  std::string buffer(kCopyBytes, '\0');
  for (;;) {
    const ssize_t got = read(in.get(), buffer.data(), buffer.size());
    if (got < 0 && errno != EINTR) return Failed("read a received file");
    if (got == 0) return End();
    if (got > 0) {
      RETURN_IF_ERROR(Append(std::string_view(buffer).substr(0, static_cast<size_t>(got))));
    }
  }
}

void StageFiles::RemovePartial() {
  if (!file_.valid()) return;
  file_.reset();
  unlinkat(stage_fd_, StagedName(current_.index).c_str(), 0);
}

void StageFiles::RemoveAll() {
  RemovePartial();
  for (const StagedFile& file : staged_) unlinkat(stage_fd_, StagedName(file.index).c_str(), 0);
  staged_.clear();
  places_.clear();
}

}  // namespace hermes::sync
