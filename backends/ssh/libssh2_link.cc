#include "backends/ssh/libssh2_link.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

absl::Status Broken(const std::string& what) { return Error(Reason::k_BACKEND_UNREACHABLE, what); }

}  // namespace

Libssh2Link::Libssh2Link(Clock& clock, asio::ip::tcp::socket socket)
    : clock_(clock), socket_(std::move(socket)), last_received_(clock.Now()) {
  asio::error_code ignored;
  socket_.native_non_blocking(true, ignored);
}

ssize_t Libssh2Link::Receive(void* into, size_t size) {
  if (!error_.ok()) return -ECONNABORTED;
  if (reads_left_ == 0 || bytes_left_ == 0) return -EAGAIN;
  --reads_left_;
  ssize_t got = 0;
  do {
    got = ::recv(fd(), into, std::min(size, bytes_left_), 0);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    received_ += static_cast<uint64_t>(got);
    bytes_left_ -= static_cast<size_t>(got);
    last_received_ = clock_.Now();
    return got;
  }
  if (got == 0) {
    Fail(Broken("the host closed the connection"));
    return 0;
  }
  const int error = errno;
  if (error == EAGAIN || error == EWOULDBLOCK) return -EAGAIN;
  Fail(Broken(std::string("the connection broke: ") + std::strerror(error)));
  return -error;
}

void Libssh2Link::Send(const void* data, size_t size) {
  accepted_ += size;
  if (error_.ok()) queue_.append(static_cast<const char*>(data), size);
}

void Libssh2Link::BeginReading() {
  reads_left_ = kTurnReads;
  bytes_left_ = kTurnBytes;
}

void Libssh2Link::Flush() {
  if (watching_ || queue_.empty()) return;
  while (error_.ok() && sent_ < queue_.size()) {
    ssize_t took = ::send(fd(), queue_.data() + sent_, queue_.size() - sent_, MSG_NOSIGNAL);
    if (took >= 0) {
      sent_ += static_cast<size_t>(took);
      flushed_ += static_cast<uint64_t>(took);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return WatchWritable();
    } else if (errno != EINTR) {
      Fail(Broken(std::string("the connection broke: ") + std::strerror(errno)));
    }
  }
  queue_ = {};  // with its memory: an idle connection needs none
  sent_ = 0;
  TellSent();
}

void Libssh2Link::TellSent() {
  if (when_sent_ && queued() <= kSendQueueHigh) when_sent_();
}

void Libssh2Link::WatchWritable() {
  if (sent_ > queue_.size() / 2) {
    queue_.erase(0, sent_);
    sent_ = 0;
  }
  TellSent();
  watching_ = true;
  socket_.async_wait(asio::ip::tcp::socket::wait_write,
                     [self = shared_from_this()](const asio::error_code& error) {
                       self->watching_ = false;
                       if (!error) self->Flush();
                     });
}

void Libssh2Link::WhenReadable(absl::AnyInvocable<void()> call) {
  socket_.async_wait(asio::ip::tcp::socket::wait_read,
                     [call = std::move(call)](const asio::error_code&) mutable { call(); });
}

Task<void> Libssh2Link::WaitReadable() {
  asio::error_code ignored;
  co_await socket_.async_wait(asio::ip::tcp::socket::wait_read,
                              asio::redirect_error(asio::use_awaitable, ignored));
}

uint64_t Libssh2Link::Confirmed() {
  int waiting = 0;
  if (!socket_.is_open() || ::ioctl(fd(), SIOCOUTQ, &waiting) != 0) return 0;
  return flushed_ - static_cast<uint64_t>(waiting);
}

void Libssh2Link::Fail(absl::Status why) {
  if (error_.ok()) error_ = std::move(why);
}

void Libssh2Link::Kill(absl::Status why) {
  Fail(std::move(why));
  asio::error_code ignored;
  socket_.close(ignored);
  queue_ = {};
  sent_ = 0;
}

}  // namespace hermes
