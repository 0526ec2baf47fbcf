#include "backends/engine/plain_scanner.h"

#include <algorithm>
#include <utility>

namespace hermes::plain {
namespace {

// How many bytes at the end of `text` could be the beginning of `mark`.
size_t Partial(std::string_view text, std::string_view mark) {
  for (size_t size = std::min(text.size(), mark.size() - 1); size > 0; --size) {
    if (mark.starts_with(text.substr(text.size() - size))) return size;
  }
  return 0;
}

}  // namespace

void Scanner::Feed(std::string_view bytes) {
  pending_.append(bytes);
  while (!pending_.empty()) {
    if (!(started_ ? TakeLine() : TakeStart())) return;
  }
}

// False: more bytes are needed.
bool Scanner::TakeStart() {
  const size_t at = pending_.find(start_mark_);
  if (at == std::string::npos) {
    TakeNoise(pending_.size() - Partial(pending_, start_mark_));
    return false;
  }
  TakeNoise(at);
  const size_t end = pending_.find('\n');
  if (end == std::string::npos && pending_.size() <= kMaxMarkedLine) return false;
  if (end == std::string::npos || end > kMaxMarkedLine) {
    TakeNoise(start_mark_.size());
    return true;
  }
  std::string line = pending_.substr(start_mark_.size(), end - start_mark_.size());
  pending_.erase(0, end + 1);
  started_ = true;
  noise_.clear();
  if (sink_.started) sink_.started(line);
  return true;
}

void Scanner::TakeNoise(size_t bytes) {
  noise_.append(pending_, 0, bytes);
  if (noise_.size() > kMaxNoise) noise_.erase(0, noise_.size() - kMaxNoise);
  pending_.erase(0, bytes);
}

bool Scanner::TakeLine() {
  const size_t at = pending_.find(end_mark_);
  if (at == std::string::npos) {
    Deliver(pending_.size() - Partial(pending_, end_mark_));
    return false;
  }
  Deliver(at);
  const size_t end = pending_.find('\n');
  if (end == std::string::npos && pending_.size() <= kMaxMarkedLine) return false;
  if (end == std::string::npos || end > kMaxMarkedLine) {
    Deliver(end_mark_.size());
    return true;
  }
  std::string line = pending_.substr(end_mark_.size(), end - end_mark_.size());
  pending_.erase(0, end + 1);
  if (sink_.line) sink_.line(line);
  return true;
}

void Scanner::Finish() {
  if (started_) Deliver(pending_.size());
}

void Scanner::Deliver(size_t bytes) {
  if (bytes == 0) return;
  if (sink_.data) sink_.data(std::string_view(pending_).substr(0, bytes));
  pending_.erase(0, bytes);
}

}  // namespace hermes::plain
