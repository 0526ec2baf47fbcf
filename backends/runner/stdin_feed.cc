#include "backends/runner/stdin_feed.h"

#include <errno.h>
#include <unistd.h>

#include <utility>

namespace hermes::runner {

void StdinFeed::Open(Fd fd, int eof_byte) {
  SetNonBlocking(fd.get());
  eof_byte_ = eof_byte;
  closed_ = false;
  source_.Open(std::move(fd), 0);  // 0: tells when the last reader is gone
  if (waiting() != 0 || ends_) Write();
}

bool StdinFeed::Add(uint64_t offset, std::string_view bytes) {
  if (offset > expected()) return false;
  if (closed_ || ends_) return true;
  uint64_t known = expected() - offset;
  if (known >= bytes.size()) return true;
  bytes.remove_prefix(static_cast<size_t>(known));
  if (waiting() + bytes.size() > window) return false;
  queue_.append(bytes);
  Write();
  return true;
}

bool StdinFeed::SetEnd(uint64_t offset) {
  if (closed_ || ends_ || offset == end_) return true;
  if (offset != expected()) return false;
  end_ = offset;
  ends_ = true;
  Write();
  return true;
}

void StdinFeed::Close() {
  source_.Close();
  queue_.clear();
  queue_.shrink_to_fit();
  head_ = 0;
  closed_ = true;
}

void StdinFeed::OnReady(Source&, uint32_t events) {
  if (events & EPOLLOUT) Write();
  if (closed_ || (events & (EPOLLERR | EPOLLHUP)) == 0) return;
  Close();
  owner_.OnStdin();
}

void StdinFeed::Write() {
  if (!source_.open() && !closed_) return;
  uint64_t before = accepted_;
  while (!closed_ && waiting() != 0) {
    ssize_t n = write(source_.fd(), queue_.data() + head_, waiting());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      Close();
      return owner_.OnStdin();
    }
    head_ += static_cast<size_t>(n);
    accepted_ += static_cast<uint64_t>(n);
  }
  if (waiting() == 0) {
    queue_.clear();
    head_ = 0;
    if (ends_) AtEnd();
  } else if (head_ > frames::kStdinWindow) {
    queue_.erase(0, head_);
    head_ = 0;
  }
  source_.Watch(waiting() != 0 || ends_ ? EPOLLOUT : 0U);
  if (accepted_ != before || closed_) owner_.OnStdin();
}

void StdinFeed::AtEnd() {
  if (eof_byte_ < 0) return Close();
  // A terminal stays open; its line discipline makes the end of file out of this byte.
  char byte = static_cast<char>(eof_byte_);
  ssize_t written = write(source_.fd(), &byte, 1);
  if (written == 1)
    ends_ = false;
  else if (errno != EAGAIN)
    Close();
}

}  // namespace hermes::runner
