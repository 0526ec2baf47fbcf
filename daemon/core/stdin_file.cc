#include "daemon/core/stdin_file.h"

#include <unistd.h>

#include <algorithm>
#include <string_view>

#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kPiece = 256 << 10;  // written in one turn of the loop, as much as of output

}  // namespace

StdinFile::StdinFile(const std::string& path_prefix, const std::string& tag)
    : path_(path_prefix + kStdinSuffix), tag_(tag.substr(0, OutputFile::kTagBytes)) {}

// The mark comes last: a file without one is of a command that was never handed over.
Task<absl::Status> StdinFile::Keep(Loop& loop, std::string data) {
  CO_RETURN_IF_ERROR(file_.Create(path_));
  for (size_t at = 0; at < data.size(); at += kPiece) {
    if (at > 0) co_await asio::post(loop.executor(), asio::use_awaitable);
    CO_RETURN_IF_ERROR(file_.Write(at, std::string_view(data).substr(at, kPiece)));
  }
  const absl::Status marked = file_.WriteMark({tag_, data.size(), data.size(), data.size(), {}});
  file_.Close();
  co_return marked;
}

absl::Status StdinFile::Open() {
  absl::StatusOr<OutputFile::Mark> mark = file_.Open(path_);
  file_.Close();
  RETURN_IF_ERROR(mark.status());
  if (mark->tag != tag_) return absl::NotFoundError(path_);
  size_ = mark->end;
  return absl::OkStatus();
}

absl::StatusOr<std::string> StdinFile::Read(uint64_t offset, size_t most) const {
  std::string piece(std::min<uint64_t>(most, size_ - std::min(size_, offset)), '\0');
  RETURN_IF_ERROR(file_.Read(offset, piece));
  return piece;
}

void StdinFile::Remove(const std::string& path_prefix) {
  unlink((path_prefix + kStdinSuffix).c_str());
}

}  // namespace hermes
