#include "backends/ssh/libssh2_stream.h"

#include <utility>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using Core = std::shared_ptr<Libssh2Core>;
using Channel = Libssh2Core::Channel;
using Phase = Libssh2Channel::Phase;

absl::Status Closed() { return Error(Reason::k_BACKEND_UNREACHABLE, "the stream was closed"); }

Task<absl::StatusOr<size_t>> ReadFrom(Core core, Channel channel, bool of_stderr,
                                      std::span<char> into) {
  ByteFifo& fifo = of_stderr ? channel->err : channel->out;
  for (;;) {
    if (channel->abandoned) co_return Closed();
    if (!fifo.empty()) {
      const size_t bytes = fifo.Take(into);
      core->Consumed(*channel, bytes);
      co_return bytes;
    }
    if (channel->at_eof) co_return 0;
    if (!core->alive()) co_return core->why();
    co_await channel->readable.Wait();
  }
}

// A write that does not come to its end leaves the library in the middle of a packet.
class WholeWrite {
 public:
  explicit WholeWrite(Channel channel) : channel_(std::move(channel)) {}
  ~WholeWrite() {
    if (!whole_) channel_->half_written = true;
  }
  WholeWrite(const WholeWrite&) = delete;
  WholeWrite& operator=(const WholeWrite&) = delete;
  void Done() { whole_ = true; }

 private:
  Channel channel_;
  bool whole_ = false;
};

Task<absl::Status> WriteTo(Core core, Channel channel, std::string_view data) {
  WholeWrite whole(channel);
  while (!data.empty()) {
    absl::StatusOr<size_t> wrote = core->Write(*channel, data);
    if (!wrote.ok()) co_return wrote.status();
    data.remove_prefix(*wrote);
    if (*wrote == 0) co_await channel->writable.Wait();
  }
  whole.Done();
  co_return absl::OkStatus();
}

Task<std::optional<Stream::End>> WaitEndOf(Core core, Channel channel) {
  while (!channel->ended && !channel->abandoned && core->alive()) {
    co_await channel->readable.Wait();
  }
  co_return channel->ended ? channel->end : std::nullopt;
}

class Libssh2Stream : public Stream {
 public:
  Libssh2Stream(Core core, Channel channel)
      : core_(std::move(core)), channel_(std::move(channel)) {}
  ~Libssh2Stream() override { Abort(); }

  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    return ReadFrom(core_, channel_, false, into);
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override {
    return ReadFrom(core_, channel_, true, into);
  }
  Task<absl::Status> Write(std::string_view data) override {
    return WriteTo(core_, channel_, data);
  }
  void CloseStdin() override { core_->CloseStdin(*channel_); }
  void Abort() override {
    if (!channel_->abandoned) core_->Abandon(channel_);
  }
  Task<std::optional<End>> WaitEnd() override { return WaitEndOf(core_, channel_); }

 private:
  Core core_;
  Channel channel_;
};

// Gives the channel up unless it was taken: a caller may be gone before the host has answered.
class Giver {
 public:
  Giver(Core core, Channel channel) : core_(std::move(core)), channel_(std::move(channel)) {}
  ~Giver() {
    if (channel_ != nullptr) core_->Abandon(std::move(channel_));
  }
  Giver(const Giver&) = delete;
  Giver& operator=(const Giver&) = delete;
  Libssh2Channel& channel() { return *channel_; }
  Channel Take() { return std::exchange(channel_, nullptr); }

 private:
  Core core_;
  Channel channel_;
};

}  // namespace

Task<absl::StatusOr<std::unique_ptr<Stream>>> RunProgramOver(std::shared_ptr<Libssh2Core> core,
                                                             std::string command) {
  if (command.size() > kMaxExec) {
    co_return BadField("command", "is longer than " + std::to_string(kMaxExec) +
                                      " bytes, which SSH servers do not take");
  }
  Giver giver(core, core->StartChannel(std::move(command)));
  while (giver.channel().phase < Phase::kRunning) co_await giver.channel().readable.Wait();
  if (!giver.channel().status.ok()) co_return giver.channel().status;
  co_return std::make_unique<Libssh2Stream>(core, giver.Take());
}

}  // namespace hermes
