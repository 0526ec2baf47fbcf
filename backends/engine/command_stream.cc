#include "backends/engine/command_stream.h"

#include <signal.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr int kWholeTree = 0;  // of Channel::Signal

absl::Status Broken(std::string_view what) { return Error(Reason::k_BACKEND_UNREACHABLE, what); }

class CommandStream : public Stream {
 public:
  explicit CommandStream(std::unique_ptr<Channel> channel) : channel_(std::move(channel)) {}
  ~CommandStream() override {
    if (!ended_ && !asked_) Abort();
    channel_->Forget();
  }

  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    if (std::exchange(end_due_, false)) {
      const absl::Status told = co_await channel_->WriteStdin(written_, "", true);
      if (!told.ok() && !IsClosed(told)) co_return Broken(std::string(told.message()));
    }
    while (at_ == unread_.size()) {
      if (aborted_) co_return Broken("the stream was broken");
      if (ended_) co_return 0u;
      const absl::StatusOr<ChannelEvent> event = co_await channel_->Read();
      if (!event.ok()) co_return Broken(std::string(event.status().message()));
      CO_RETURN_IF_ERROR(Take(*event));
    }
    const size_t bytes = unread_.copy(into.data(), into.size(), at_);
    at_ += bytes;
    read_ += bytes;
    channel_->Ack(read_, stderr_);
    co_return bytes;
  }

  // Nothing of ours says anything there.
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char>) override { co_return 0u; }

  Task<absl::Status> Write(std::string_view data) override {
    if (aborted_) co_return Broken("the stream was broken");
    const absl::Status status = co_await channel_->WriteStdin(written_, std::string(data), false);
    if (!status.ok()) co_return Broken(std::string(status.message()));
    written_ += data.size();
    co_return absl::OkStatus();
  }

  // The end goes out with the next read.
  void CloseStdin() override { end_due_ = !std::exchange(asked_, true); }

  // A place that cannot be told now ends the command by its deadline, or with its session.
  void Abort() override {
    if (std::exchange(aborted_, true)) return;
    if (!ended_) (void)channel_->Signal(SIGKILL, kWholeTree);
    channel_->Abandon();
  }

  Task<std::optional<End>> WaitEnd() override { co_return end_; }

 private:
  static bool IsClosed(const absl::Status& status) {
    return ReasonOf(status) == Reason::k_STDIN_CLOSED;
  }

  absl::Status Take(const ChannelEvent& event) {
    if (const auto* data = std::get_if<DataEvent>(&event)) {
      if (data->stream == OutputStream::kStderr) {
        stderr_ = data->offset + data->data.size();
        return absl::OkStatus();
      }
      unread_ = data->data;
      at_ = 0;
    }
    if (const auto* lost = std::get_if<LostEvent>(&event); lost && IsStdout(lost->stream))
      return Broken("the place has lost a part of the answer");
    if (const auto* ended = std::get_if<EndedEvent>(&event)) {
      ended_ = true;
      const Outcome& outcome = ended->outcome;
      if (outcome.state == CommandState::kUnknown || outcome.state == CommandState::kNeverStarted)
        return Broken("the file service was not to be had: " + outcome.state_reason);
      end_ = End{.signalled = outcome.signalled, .value = outcome.value};
    }
    return absl::OkStatus();
  }
  static bool IsStdout(OutputStream stream) { return stream == OutputStream::kStdout; }

  const std::unique_ptr<Channel> channel_;
  uint64_t written_ = 0;  // of stdin
  bool asked_ = false;    // stdin is closed
  bool end_due_ = false;  // which is still to be said
  std::string unread_;    // [at_, end)
  size_t at_ = 0;
  uint64_t read_ = 0;
  uint64_t stderr_ = 0;
  bool ended_ = false;
  bool aborted_ = false;
  std::optional<End> end_;
};

}  // namespace

std::unique_ptr<Stream> MakeCommandStream(std::unique_ptr<Channel> channel) {
  return std::make_unique<CommandStream>(std::move(channel));
}

}  // namespace hermes
