#include "backends/ssh/mux_socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// A full queue of waiting connections (64) gives no sign when it has room again.
constexpr Duration kAcceptPause = std::chrono::milliseconds(2);
constexpr int kAcceptTries = 1000;  // then the connection counts as broken

absl::Status Gone(std::string_view what, int err) {
  return Error(Reason::k_BACKEND_UNREACHABLE,
               "the control socket of ssh: " + std::string(what) + ": " + strerror(err));
}

absl::StatusOr<sockaddr_un> Address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return Gone("its path", ENAMETOOLONG);
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// The errno of one attempt; 0: connected.
int TryConnect(const Fd& fd, const sockaddr_un& address) {
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  return connect(fd.get(), generic, sizeof(address)) == 0 ? 0 : errno;
}

}  // namespace

void Detach(Loop& loop, Task<void> task) {
  asio::co_spawn(loop.executor(), std::move(task), [](std::exception_ptr escaped) {
    if (escaped) std::rethrow_exception(escaped);
  });
}

Task<absl::StatusOr<std::shared_ptr<MuxSocket>>> MuxSocket::Connect(Loop& loop, Clock& clock,
                                                                    std::string path) {
  CO_ASSIGN_OR_RETURN(const sockaddr_un address, Address(path));
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) co_return Gone("make a socket", errno);
  int err = TryConnect(fd, address);
  for (int tries = 1; err == EAGAIN && tries < kAcceptTries; ++tries) {
    co_await clock.SleepFor(kAcceptPause);
    err = TryConnect(fd, address);
  }
  if (err != 0) co_return Gone("connect", err);

  auto self = std::make_shared<MuxSocket>(loop);
  asio::error_code failed;
  self->socket_.assign(asio::local::stream_protocol(), fd.get(), failed);
  if (failed) co_return Gone("watch", failed.value());
  static_cast<void>(fd.release());
  co_return self;
}

absl::Status MuxSocket::Send(std::string_view bytes) {
  const ssize_t sent =
      send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent == static_cast<ssize_t>(bytes.size())) return absl::OkStatus();
  return Gone("write", sent < 0 ? errno : EMSGSIZE);
}

absl::Status MuxSocket::SendDescriptor(int fd) {
  char byte = 0;
  iovec data{.iov_base = &byte, .iov_len = 1};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof(space);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof(int));
  const ssize_t sent = sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent == 1 ? absl::OkStatus() : Gone("hand a descriptor over", errno);
}

Task<absl::StatusOr<mux::Message>> MuxSocket::Next(std::shared_ptr<MuxSocket> self) {
  while (true) {
    CO_ASSIGN_OR_RETURN(std::optional<mux::Message> message, self->decoder_.Next());
    if (message.has_value()) co_return *std::move(message);
    asio::error_code error;
    const size_t bytes = co_await self->socket_.async_read_some(
        asio::buffer(self->buffer_), asio::redirect_error(asio::use_awaitable, error));
    if (error) {
      co_return Error(Reason::k_BACKEND_UNREACHABLE,
                      "the control socket of ssh: read: " + error.message());
    }
    self->decoder_.Append(std::string_view(self->buffer_.data(), bytes));
  }
}

pid_t MuxSocket::Peer() {
  ucred peer{};
  socklen_t size = sizeof(peer);
  const int got = getsockopt(socket_.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size);
  return got == 0 ? peer.pid : 0;
}

void MuxSocket::Close() {
  asio::error_code ignored;
  socket_.close(ignored);
}

}  // namespace hermes
