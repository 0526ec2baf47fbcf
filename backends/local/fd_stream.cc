#include "backends/local/fd_stream.h"

#include <string>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

absl::Status Broken(const char* what, const asio::error_code& error) {
  return Error(Reason::k_BACKEND_UNREACHABLE, std::string(what) + ": " + error.message());
}

// `owner` keeps `from` alive while the read is under way.
template <typename Descriptor>
Task<absl::StatusOr<size_t>> ReadSome(std::shared_ptr<void> owner, Descriptor* from,
                                      std::span<char> into) {
  asio::error_code error;
  size_t bytes = co_await from->async_read_some(asio::buffer(into.data(), into.size()),
                                                asio::redirect_error(asio::use_awaitable, error));
  if (error == asio::error::eof) co_return 0;
  if (error) co_return Broken("read", error);
  co_return bytes;
}

template <typename Descriptor>
Task<absl::Status> WriteAll(std::shared_ptr<void> owner, Descriptor* to, std::string_view data) {
  asio::error_code error;
  co_await asio::async_write(*to, asio::buffer(data.data(), data.size()),
                             asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return Broken("write", error);
  co_return absl::OkStatus();
}

class SocketStream : public Stream {
 public:
  SocketStream(Loop& loop, int fd)
      : socket_(std::make_shared<Socket>(loop.context(), asio::local::stream_protocol(), fd)) {}
  ~SocketStream() override { Abort(); }

  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    return ReadSome(socket_, socket_.get(), into);
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override { co_return 0; }
  Task<absl::Status> Write(std::string_view data) override {
    return WriteAll(socket_, socket_.get(), data);
  }
  void CloseStdin() override {
    asio::error_code ignored;
    socket_->shutdown(Socket::shutdown_send, ignored);
  }
  void Abort() override {
    asio::error_code ignored;
    socket_->close(ignored);
  }
  Task<std::optional<End>> WaitEnd() override { co_return std::nullopt; }

 private:
  using Socket = asio::local::stream_protocol::socket;
  std::shared_ptr<Socket> socket_;
};

class ChildStream : public Stream {
 public:
  ChildStream(Loop& loop, std::unique_ptr<Child> child, Child::Pipes pipes)
      : state_(std::make_shared<State>(loop, std::move(child), pipes)) {}
  ~ChildStream() override {
    Abort();
    state_->child->SignalGroup(SIGKILL);
  }

  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    return ReadSome(state_, &state_->out, into);
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override {
    return ReadSome(state_, &state_->err, into);
  }
  Task<absl::Status> Write(std::string_view data) override {
    return WriteAll(state_, &state_->in, data);
  }
  void CloseStdin() override { Close(state_->in); }
  void Abort() override {
    Close(state_->in);
    Close(state_->out);
    Close(state_->err);
  }
  Task<std::optional<End>> WaitEnd() override { return WaitChild(state_); }

 private:
  using Pipe = asio::posix::stream_descriptor;
  struct State {
    State(Loop& loop, std::unique_ptr<Child> process, Child::Pipes pipes)
        : child(std::move(process)),
          in(loop.context(), pipes.stdin_fd),
          out(loop.context(), pipes.stdout_fd),
          err(loop.context(), pipes.stderr_fd) {}
    std::unique_ptr<Child> child;
    Pipe in;
    Pipe out;
    Pipe err;
  };

  static void Close(Pipe& pipe) {
    asio::error_code ignored;
    pipe.close(ignored);
  }
  static Task<std::optional<End>> WaitChild(std::shared_ptr<State> state) {
    Child::ExitStatus status = co_await state->child->Wait();
    co_return End{status.signalled, status.value};
  }

  std::shared_ptr<State> state_;
};

}  // namespace

std::unique_ptr<Stream> MakeSocketStream(Loop& loop, int fd) {
  return std::make_unique<SocketStream>(loop, fd);
}

std::unique_ptr<Stream> MakeChildStream(Loop& loop, std::unique_ptr<Child> child,
                                        Child::Pipes pipes) {
  return std::make_unique<ChildStream>(loop, std::move(child), pipes);
}

}  // namespace hermes
