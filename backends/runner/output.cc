#include "backends/runner/output.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace hermes::runner {
namespace {
constexpr size_t kReadPerTurn = 1 << 20;  // then the others have their turn
constexpr size_t kSpoolPiece = 64 << 10;
constexpr size_t kFullPipe = 64 << 10;     // a pipe that gave so much at once is a busy one
constexpr int kBusyPipeBytes = 512 << 10;  // and is made so large, where the kernel allows it
constexpr size_t kMostPipe = 1 << 20;      // the most that a command may make of its pipe
}  // namespace

Output::Output(Loop& loop, Owner& owner, uint32_t command, frames::Type type)
    : owner_(owner),
      command_(command),
      type_(type),
      source_(loop, *this),
      ring_(frames::kOutputWindow, kMostPipe) {}

Output::~Output() {
  if (sink_ != nullptr) sink_->Detach(*this);
}

void Output::Open(Fd fd) {
  eof_ = false;
  SetNonBlocking(fd.get());
  source_.Open(std::move(fd), EPOLLIN);
}

void Output::OnReady(Source&, uint32_t) { Read(); }

void Output::Read() {
  uint64_t before = end();
  while (!eof_ && !blocked() && end() - before < kReadPerTurn)
    if (!(spool_.size() == 0 && ring_.room() != 0 ? ReadIntoRing() : ReadIntoSpool())) break;
  AdjustInterest();
  if (end() == before && !eof_) return;
  if (sink_ != nullptr && Sendable() != 0) sink_->HasBytes(*this);
  owner_.OnOutput(*this);
}

size_t Output::Pending() {
  int waiting = 0;
  if (eof_ || ioctl(source_.fd(), FIONREAD, &waiting) != 0) return 0;
  return static_cast<size_t>(waiting);
}

void Output::TakeRest() {
  if (std::exchange(rest_, true) || eof_) return;
  ring_.OpenReserve();
  Read();
}

// The readers return false when there is nothing more to read now.
bool Output::ReadIntoRing() {
  iovec pieces[2];
  int count = ring_.Space(ring_.room(), pieces);
  if (count == 0) return false;
  ssize_t n = readv(source_.fd(), pieces, count);
  if (n < 0 && errno == EINTR) return true;
  if (n < 0 && errno == EAGAIN) return false;
  if (n <= 0) {  // a terminal reports its end as EIO
    AtEof();
    return false;
  }
  ring_.Commit(static_cast<size_t>(n));
  if (static_cast<size_t>(n) >= kFullPipe && !busy_) {
    busy_ = true;
    fcntl(source_.fd(), F_SETPIPE_SZ, kBusyPipeBytes);
  }
  return true;
}

bool Output::ReadIntoSpool() {
  static char piece[kSpoolPiece];
  ssize_t n = read(source_.fd(), piece, sizeof piece);
  if (n < 0 && errno == EINTR) return true;
  if (n < 0 && errno == EAGAIN) return false;
  if (n <= 0) {
    AtEof();
    return false;
  }
  spool_.Append(*spool_directory_, std::string_view(piece, static_cast<size_t>(n)));
  return true;
}

void Output::AtEof() {
  eof_ = true;
  source_.Close();
}

bool Output::blocked() const {
  bool may_spool = rest_ || (sink_ == nullptr && !spool_.full());
  if (eof_ || (may_spool && spool_directory_ != nullptr)) return false;
  return spool_.size() != 0 || ring_.room() == 0;
}

void Output::AdjustInterest() {
  if (eof_) return;
  // A hang-up is reported whatever the interest is, so a blocked pipe is not watched at all.
  if (blocked())
    source_.Pause();
  else
    source_.Watch(EPOLLIN);
}

void Output::SetSink(OutputSink* sink, const std::string* spool_directory) {
  if (sink_ != nullptr) sink_->Detach(*this);
  sink_ = sink;
  sending_ = false;
  spool_directory_ = spool_directory;
  AdjustInterest();
}

void Output::SendFrom(uint64_t offset) {
  sent_ = std::clamp(offset, ring_.first(), ring_.end());
  sending_ = true;
  if (sink_ != nullptr && Sendable() != 0) sink_->HasBytes(*this);
}

void Output::Ack(uint64_t offset) {
  ring_.DropBefore(offset);
  sent_ = std::max(sent_, ring_.first());
  Refill();
  if (eof_) ring_.Free();
  AdjustInterest();
}

void Output::Refill() {
  iovec pieces[2];
  while (spool_.size() != 0 && ring_.Space(ring_.room(), pieces) != 0) {
    size_t n = spool_.Take(static_cast<char*>(pieces[0].iov_base), pieces[0].iov_len);
    if (n == 0) break;
    ring_.Commit(n);
  }
  if (sink_ != nullptr && Sendable() != 0) sink_->HasBytes(*this);
}

size_t Output::Sendable() const { return sending_ ? static_cast<size_t>(ring_.end() - sent_) : 0; }

void Output::Sent(size_t bytes) {
  sent_ += bytes;
  owner_.OnSent(*this);
}

}  // namespace hermes::runner
