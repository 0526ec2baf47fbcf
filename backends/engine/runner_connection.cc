#include "backends/engine/runner_connection.h"

#include <cstring>
#include <utility>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// One read takes up to this much; the rest of the buffer holds the front of an unfinished frame.
constexpr size_t kReadBytes = 256 << 10;
constexpr size_t kBufferBytes = kReadBytes + kMaxIncomingFrame;

absl::Status Unreachable(std::string_view what) {
  return Error(Reason::k_BACKEND_UNREACHABLE, what);
}

}  // namespace

RunnerConnection::RunnerConnection(Loop& loop, Clock& clock, std::unique_ptr<Stream> stream)
    : clock_(clock),
      stream_(std::move(stream)),
      wake_(loop),
      room_(loop),
      heard_(clock.Now()),
      buffer_(std::make_unique_for_overwrite<char[]>(kBufferBytes)) {}

Task<absl::Status> RunnerConnection::ReadLoop(std::shared_ptr<RunnerConnection> self,
                                              OnFrame on_frame) {
  while (!self->broken()) {
    if (kBufferBytes - self->end_ < kReadBytes) {
      std::memmove(self->buffer_.get(), self->buffer_.get() + self->begin_,
                   self->end_ - self->begin_);
      self->end_ -= self->begin_;
      self->begin_ = 0;
    }
    std::span<char> into(self->buffer_.get() + self->end_, kReadBytes);
    absl::StatusOr<size_t> bytes = co_await self->stream_->ReadStdout(into);
    if (self->broken()) break;
    if (!bytes.ok()) {
      self->Break(bytes.status());
    } else if (*bytes == 0) {
      self->Break(Unreachable("the runner closed the connection"));
    } else {
      self->end_ += *bytes;
      self->heard_ = self->clock_.Now();
      absl::Status taken = self->TakeFrames(on_frame);
      if (!taken.ok()) self->Break(std::move(taken));
    }
  }
  co_return self->why_;
}

absl::Status RunnerConnection::TakeFrames(OnFrame& on_frame) {
  while (true) {
    std::string_view rest(buffer_.get() + begin_, end_ - begin_);
    if (rest.size() >= 4 && frames::Reader(rest).U32() > kMaxIncomingFrame - 4) {
      return Unreachable("the runner sent an overlong frame");
    }
    frames::Frame frame;
    size_t consumed = 0;
    switch (frames::ParseFrame(rest, &frame, &consumed)) {
      case frames::Parse::kBroken:
        return Unreachable("the runner sent a malformed frame");
      case frames::Parse::kNeedMore:
        if (begin_ == end_) begin_ = end_ = 0;
        return absl::OkStatus();
      case frames::Parse::kFrame:
        RETURN_IF_ERROR(on_frame(frame));
        if (broken()) return why_;
        begin_ += consumed;
    }
  }
}

Task<void> RunnerConnection::WriteLoop(std::shared_ptr<RunnerConnection> self) {
  while (!self->broken()) {
    if (self->queue_.empty()) {
      co_await self->wake_.Wait();
      continue;
    }
    self->writing_.clear();
    std::swap(self->writing_, self->queue_);
    absl::Status written = co_await self->stream_->Write(self->writing_);
    if (!written.ok()) self->Break(std::move(written));
    self->writing_.clear();
    // A large frame must not leave a large buffer behind.
    if (self->writing_.capacity() > kMaxQueuedBytes) std::string().swap(self->writing_);
    self->room_.NotifyAll();
  }
}

Task<void> RunnerConnection::Room(std::shared_ptr<RunnerConnection> self) {
  while (!self->broken() && self->queued() > kMaxQueuedBytes) co_await self->room_.Wait();
}

void RunnerConnection::Break(absl::Status why) {
  if (broken()) return;
  why_ = std::move(why);
  stream_->Abort();
  wake_.NotifyAll();
  room_.NotifyAll();
}

}  // namespace hermes
