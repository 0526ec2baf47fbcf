#include "backends/ssh/mux_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include "backends/ssh/mux_socket.h"
#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kFullPipe = 64 << 10;     // a pipe that gave so much at once is a busy one
constexpr int kBusyPipeBytes = 512 << 10;  // and is made so large, where the kernel allows it
constexpr uint32_t kRequestId = 1;         // a connection carries one request

absl::Status Broken(const std::string& what) { return Error(Reason::k_BACKEND_UNREACHABLE, what); }

struct Pipe {
  Fd ours;
  Fd theirs;
};

// Our end does not block; what theirs does is ssh's business.
absl::StatusOr<Pipe> MakePipe(bool we_read) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return Broken(std::string(ErrnoStatus(errno, "make a pipe").message()));
  }
  Pipe pipe{Fd(ends[we_read ? 0 : 1]), Fd(ends[we_read ? 1 : 0])};
  fcntl(pipe.ours.get(), F_SETFL, fcntl(pipe.ours.get(), F_GETFL) | O_NONBLOCK);
  return pipe;
}

// What a stream and the coroutines under way share.
struct State {
  State(Loop& event_loop, std::shared_ptr<MuxMaster> of)
      : loop(event_loop),
        master(std::move(of)),
        in(loop.context()),
        out(loop.context()),
        err(loop.context()),
        changed(loop) {}

  using Descriptor = asio::posix::stream_descriptor;
  struct Source : Descriptor {
    using Descriptor::Descriptor;
    bool large = false;  // the pipe was asked to be
  };
  Loop& loop;
  std::shared_ptr<MuxMaster> master;
  std::shared_ptr<MuxSocket> control;
  Descriptor in;
  Source out;
  Source err;
  bool replied = false;  // to the request, or it broke
  std::unique_ptr<Clock::Alarm> patience;
  std::optional<int> exit_code;
  bool control_ended = false;
  bool aborted = false;
  Event changed;
};

void CloseDescriptor(State::Descriptor& descriptor) {
  asio::error_code ignored;
  descriptor.close(ignored);
}

void CloseAll(State& state) {
  state.aborted = true;
  CloseDescriptor(state.in);
  CloseDescriptor(state.out);
  CloseDescriptor(state.err);
  state.control->Close();
}

// ssh says here how the program ended and closes the connection when the channel is gone.
Task<void> Listen(std::shared_ptr<State> state) {
  while (true) {
    absl::StatusOr<mux::Message> message = co_await MuxSocket::Next(state->control);
    if (!message.ok()) break;
    if (message->type == mux::Type::kExit) state->exit_code = static_cast<int>(message->value);
    state->changed.NotifyAll();
  }
  state->control_ended = true;
  state->changed.NotifyAll();
}

Task<absl::StatusOr<size_t>> ReadSome(std::shared_ptr<State> state, State::Source* from,
                                      std::span<char> into) {
  asio::error_code error;
  const size_t bytes = co_await from->async_read_some(
      asio::buffer(into.data(), into.size()), asio::redirect_error(asio::use_awaitable, error));
  if (!error && bytes >= kFullPipe && !std::exchange(from->large, true)) {
    fcntl(from->native_handle(), F_SETPIPE_SZ, kBusyPipeBytes);  // refused: fine
  }
  if (!error) co_return bytes;
  if (!state->aborted && error == asio::error::eof) {
    CO_RETURN_IF_ERROR(co_await state->master->Check());
    if (!state->aborted) co_return 0;
  }
  co_return Broken(state->aborted ? "the stream was dropped" : "read: " + error.message());
}

Task<absl::Status> WriteAll(std::shared_ptr<State> state, std::string_view data) {
  asio::error_code error;
  co_await asio::async_write(state->in, asio::buffer(data.data(), data.size()),
                             asio::redirect_error(asio::use_awaitable, error));
  if (!error) co_return absl::OkStatus();
  co_return Broken(state->aborted ? "the stream was dropped" : "write: " + error.message());
}

Task<std::optional<Stream::End>> AwaitEnd(std::shared_ptr<State> state) {
  while (!state->exit_code.has_value() && !state->control_ended) co_await state->changed.Wait();
  if (!state->exit_code.has_value()) co_return std::nullopt;
  co_return Stream::End{.signalled = false, .value = *state->exit_code};
}

class MuxStream : public Stream {
 public:
  explicit MuxStream(std::shared_ptr<State> state) : state_(std::move(state)) {}
  ~MuxStream() override { Abort(); }

  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    return ReadSome(state_, &state_->out, into);
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override {
    return ReadSome(state_, &state_->err, into);
  }
  Task<absl::Status> Write(std::string_view data) override { return WriteAll(state_, data); }
  void CloseStdin() override { CloseDescriptor(state_->in); }
  void Abort() override { CloseAll(*state_); }
  Task<std::optional<End>> WaitEnd() override { return AwaitEnd(state_); }

 private:
  std::shared_ptr<State> state_;
};

// Nothing is awaited in here, see MuxSocket::SendDescriptor. Theirs are closed at the end: what was
// sent lives on in the socket.
absl::Status Request(State& state, const std::string& command) {
  ASSIGN_OR_RETURN(Pipe in, MakePipe(/*we_read=*/false));
  ASSIGN_OR_RETURN(Pipe out, MakePipe(/*we_read=*/true));
  ASSIGN_OR_RETURN(Pipe err, MakePipe(/*we_read=*/true));
  RETURN_IF_ERROR(
      state.control->Send(mux::EncodeHello() + mux::EncodeNewSession(kRequestId, command)));
  RETURN_IF_ERROR(state.control->SendDescriptor(in.theirs.get()));
  RETURN_IF_ERROR(state.control->SendDescriptor(out.theirs.get()));
  RETURN_IF_ERROR(state.control->SendDescriptor(err.theirs.get()));
  state.in.assign(in.ours.release());
  state.out.assign(out.ours.release());
  state.err.assign(err.ours.release());
  return absl::OkStatus();
}

void ArmPatience(const std::shared_ptr<State>& state, Clock& clock);

// The reply may take as long as the host and its network do, but not longer than ssh lives.
Task<void> AskMeanwhile(std::shared_ptr<State> state, Clock& clock) {
  const absl::Status at_work = co_await state->master->Check();
  if (state->replied) co_return;
  if (at_work.ok()) {
    ArmPatience(state, clock);
  } else {
    state->control->Close();
  }
}

void ArmPatience(const std::shared_ptr<State>& state, Clock& clock) {
  auto ask = [weak = std::weak_ptr(state), &clock] {
    if (auto self = weak.lock()) Detach(self->loop, AskMeanwhile(self, clock));
  };
  state->patience = clock.At(clock.Now() + kReplyPatience, std::move(ask));
}

Task<absl::Status> AwaitReply(std::shared_ptr<State> state) {
  while (true) {
    CO_ASSIGN_OR_RETURN(const mux::Message message, co_await MuxSocket::Next(state->control));
    const bool hello = message.type == mux::Type::kHello;
    if (hello && message.value == mux::kVersion) continue;
    if (hello || message.id == kRequestId) co_return StatusOfReply(message);
  }
}

}  // namespace

absl::Status StatusOfReply(const mux::Message& reply) {
  switch (reply.type) {
    case mux::Type::kOpened:
      return absl::OkStatus();
    case mux::Type::kHello:
      return Error(
          Reason::k_CAPABILITY_MISSING,
          "ssh speaks version " + std::to_string(reply.value) + " on its control socket, not 4");
    case mux::Type::kFailure:
      // The one text for every refusal of the host; the others are about the request itself.
      if (reply.text.find("refused") != std::string::npos) return SlotBusy(reply.text);
      return Broken("ssh could not open a channel: " + reply.text);
    case mux::Type::kPermissionDenied:
      return Broken("ssh would not open a channel: " + reply.text);
    default:
      return Broken("ssh answered a request for a channel with something else");
  }
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenMuxStream(Loop& loop, Clock& clock,
                                                            std::shared_ptr<MuxMaster> master,
                                                            std::string path, std::string command) {
  if (command.size() > kMaxMuxCommand || command.find('\0') != std::string::npos) {
    co_return BadField("command", "must be at most " + std::to_string(kMaxMuxCommand) +
                                      " bytes for ssh, without NUL");
  }
  auto state = std::make_shared<State>(loop, master);
  absl::StatusOr<std::shared_ptr<MuxSocket>> control =
      co_await MuxSocket::Connect(loop, clock, path);
  absl::Status opened = control.status();
  if (opened.ok()) {
    state->control = *std::move(control);
    opened = Request(*state, command);
    if (opened.ok()) {
      ArmPatience(state, clock);
      opened = co_await AwaitReply(state);
      state->replied = true;
      state->patience.reset();
    }
    if (opened.ok()) {
      Detach(loop, Listen(state));
      co_return std::make_unique<MuxStream>(std::move(state));
    }
    CloseAll(*state);
  }
  // A broken connection explains more than what it broke.
  if (ReasonOf(opened) == Reason::k_BACKEND_UNREACHABLE) {
    CO_RETURN_IF_ERROR(co_await master->Check());
  }
  co_return opened;
}

}  // namespace hermes
