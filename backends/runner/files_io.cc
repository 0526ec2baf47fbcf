#include "backends/runner/files_io.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>

#include "backends/runner/sys.h"

namespace hermes::runner {

std::string_view FilesInput::Next(uint64_t most) {
  if (at_ == buffer_.size()) {
    buffer_.resize(kPieceBytes);
    ssize_t n;
    do n = read(STDIN_FILENO, buffer_.data(), buffer_.size());
    while (n < 0 && errno == EINTR);
    buffer_.resize(n > 0 ? static_cast<size_t>(n) : 0);
    at_ = 0;
  }
  std::string_view piece = std::string_view(buffer_).substr(at_, most);
  at_ += piece.size();
  return piece;
}

std::string FilesInput::Read(uint64_t bytes) {
  std::string all;
  while (all.size() < bytes) {
    std::string_view piece = Next(bytes - all.size());
    if (piece.empty()) break;
    all.append(piece);
  }
  return all;
}

FilesAnswer& FilesAnswer::Put(std::string_view text) {
  buffer_.append(text);
  if (buffer_.size() >= kPieceBytes) Flush();
  return *this;
}

FilesAnswer& FilesAnswer::Put(uint64_t number) { return Put(Decimal(number)); }

FilesAnswer& FilesAnswer::Mark() { return Put(mark).Put(" "); }

void FilesAnswer::Trouble(std::string_view word, std::string_view what, int error) {
  Mark().Put("x ").Put(word).Put(" ").Put(what);
  if (error != 0) Put(", errno ").Put(static_cast<uint64_t>(error));
  Put("\n");
}

bool FilesAnswer::Flush() {
  broken_ = broken_ || !WriteAll(STDOUT_FILENO, buffer_);
  buffer_.clear();
  return !broken_;
}

}  // namespace hermes::runner
