#include "backends/runner/link.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace hermes::runner {
namespace {
constexpr size_t kMaxControlBytes = 1 << 20;
constexpr size_t kReadBytes = 64 << 10;
constexpr int kReadsPerTurn = 8;
constexpr int kSocketBuffer = 1 << 20;
constexpr size_t kKeepInput = 256 << 10;  // a larger input buffer is given back when it is empty
constexpr size_t kDataHeader = frames::kHeaderBytes + 8;  // and the offset
}  // namespace

struct Link::Burst {
  static constexpr int kFrames = 24;
  struct Frame {
    Output* output;
    uint64_t offset;
    size_t bytes;
  };
  Frame frames[kFrames];
  std::string headers[kFrames];  // short strings: no allocation
  int count = 0;
  iovec pieces[1 + 3 * kFrames];
  int piece_count = 0;
  size_t total = 0;

  void Add(const void* data, size_t bytes) {
    pieces[piece_count++] = {const_cast<void*>(data), bytes};
    total += bytes;
  }
};

Link::Link(Loop& loop, Owner& owner, Fd socket) : owner_(owner), source_(loop, *this) {
  SetNonBlocking(socket.get());
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBuffer, sizeof kSocketBuffer);
  source_.Open(std::move(socket), EPOLLIN);
}

Link::~Link() {
  for (Output* output : ready_) output->queued = false;
}

void Link::Close() {
  if (closed()) return;
  source_.Close();
  for (Output* output : ready_) output->queued = false;
  ready_.clear();
  owner_.OnLinkClosed(*this);
}

void Link::HasBytes(Output& output) {
  if (output.queued || closed()) return;
  output.queued = true;
  ready_.push_back(&output);
}

void Link::Detach(Output& output) {
  if (!output.queued) return;
  output.queued = false;
  ready_.erase(std::find(ready_.begin(), ready_.end(), &output));
}

void Link::OnReady(Source&, uint32_t events) {
  if (events & EPOLLOUT) stuck_ = false;
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) ReadFrames();
  if (!closed()) AdjustInterest();
}

void Link::ReadFrames() {
  static char chunk[kReadBytes];
  for (int turn = 0; turn < kReadsPerTurn && control_.size() < kMaxControlBytes; ++turn) {
    ssize_t n = read(source_.fd(), chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return Close();
    input_.append(chunk, static_cast<size_t>(n));
    ParseFrames();
    if (closed() || static_cast<size_t>(n) < sizeof chunk) return;
  }
}

void Link::ParseFrames() {
  size_t at = 0;
  while (!closed()) {
    frames::Frame frame;
    size_t consumed = 0;
    auto rest = std::string_view(input_).substr(at);
    frames::Parse parse = frames::ParseFrame(rest, &frame, &consumed);
    if (parse == frames::Parse::kBroken) return Close();
    if (parse == frames::Parse::kNeedMore) break;
    at += consumed;
    owner_.OnFrame(*this, frame);
  }
  input_.erase(0, at);
  if (input_.empty() && input_.capacity() > kKeepInput) input_.shrink_to_fit();
}

void Link::Flush() {
  while (!closed() && !stuck_) {
    Burst burst;
    Gather(burst);
    if (burst.total == 0) break;
    ssize_t n = writev(source_.fd(), burst.pieces, burst.piece_count);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return Close();
    size_t written = n < 0 ? 0 : static_cast<size_t>(n);
    stuck_ = written < burst.total;
    Written(burst, written);
  }
  if (!closed()) AdjustInterest();
}

void Link::Gather(Burst& burst) {
  if (left_ != 0) leaving_.erase(0, left_);
  left_ = 0;
  leaving_.append(control_);
  control_.clear();
  if (!leaving_.empty()) burst.Add(leaving_.data(), leaving_.size());
  // Round robin: who got its share goes to the back.
  for (size_t turn = ready_.size(); turn > 0 && burst.count < Burst::kFrames; --turn) {
    Output* output = ready_.front();
    ready_.erase(ready_.begin());
    ready_.push_back(output);
    GatherOutput(*output, burst);
  }
}

void Link::GatherOutput(Output& output, Burst& burst) {
  constexpr int kFramesPerTurn = 16;
  uint64_t from = output.sent();
  size_t left = output.Sendable();
  for (int i = 0; i < kFramesPerTurn && left != 0 && burst.count < Burst::kFrames; ++i) {
    size_t bytes = std::min(left, frames::kMaxDataBytes);
    std::string& header = burst.headers[burst.count];
    frames::Writer writer(header);
    writer.U32(static_cast<uint32_t>(kDataHeader - 4 + bytes));
    writer.U8(static_cast<uint8_t>(output.type()));
    writer.U32(output.command());
    writer.U64(from);
    burst.Add(header.data(), header.size());
    iovec slices[2];
    int count = output.ring().Slice(from, bytes, slices);
    for (int k = 0; k < count; ++k) burst.Add(slices[k].iov_base, slices[k].iov_len);
    burst.frames[burst.count++] = {.output = &output, .offset = from, .bytes = bytes};
    from += bytes;
    left -= bytes;
  }
}

void Link::Written(Burst& burst, size_t bytes) {
  left_ = std::min(bytes, leaving_.size());
  bytes -= left_;
  if (left_ == leaving_.size()) {
    leaving_.clear();
    left_ = 0;
  }
  for (int i = 0; i < burst.count; ++i) {
    const Burst::Frame& frame = burst.frames[i];
    size_t whole = kDataHeader + frame.bytes;
    if (bytes == 0) break;
    if (bytes < whole) {
      // Cut in the middle: the rest of this frame is copied, so that its ring may move on.
      std::string rest = burst.headers[i];
      iovec slices[2];
      int count = frame.output->ring().Slice(frame.offset, frame.bytes, slices);
      for (int k = 0; k < count; ++k)
        rest.append(static_cast<char*>(slices[k].iov_base), slices[k].iov_len);
      leaving_.append(rest, bytes);
    }
    bytes -= std::min(bytes, whole);
    frame.output->Sent(frame.bytes);
  }
  auto empty = [](Output* output) {
    if (output->Sendable() != 0) return false;
    output->queued = false;
    return true;
  };
  ready_.erase(std::remove_if(ready_.begin(), ready_.end(), empty), ready_.end());
}

void Link::AdjustInterest() {
  bool full = control_.size() + leaving_.size() - left_ >= kMaxControlBytes;
  source_.Watch((full ? 0U : EPOLLIN) | (stuck_ ? EPOLLOUT : 0U));
}

}  // namespace hermes::runner
