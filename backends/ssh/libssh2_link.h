#pragma once

// The socket below a libssh2 session, and the two things the library lacks: a send queue that takes
// everything at once (a packet half sent is what breaks the library under load), and an allowance
// for reading, so that one call neither takes the loop's time nor drains a fast host into memory.
// Owned by the login, then by the connection (shared with operations under way). Loop thread.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <asio/ip/tcp.hpp>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"

namespace hermes {

// Writers wait while more than this is queued. What the library itself sends (window updates,
// answers) goes on top: some kilobytes.
inline constexpr size_t kSendQueueHigh = 256 << 10;  // bytes
// What one turn of the loop reads at most, then others have theirs.
inline constexpr size_t kTurnBytes = 256 << 10;
inline constexpr int kTurnReads = 256;

class Libssh2Link : public std::enable_shared_from_this<Libssh2Link> {
 public:
  // Takes over a connected socket and makes it non-blocking.
  Libssh2Link(Clock& clock, asio::ip::tcp::socket socket);

  int fd() { return socket_.native_handle(); }

  // For the library: bytes, 0 at end of file, or -errno; -EAGAIN too without an allowance.
  ssize_t Receive(void* into, size_t size);
  // For the library: takes all of it, always.
  void Send(const void* data, size_t size);

  // Between the two the library may read.
  void BeginReading();
  void EndReading() { reads_left_ = 0; }

  // Hands the kernel what it takes; the rest follows by itself.
  void Flush();
  size_t queued() const { return queue_.size() - sent_; }
  // Called whenever the queue has room again.
  void WhenSent(absl::AnyInvocable<void()> call) { when_sent_ = std::move(call); }

  // Calls once when there is something to read, or at Kill. The caller keeps the link.
  void WhenReadable(absl::AnyInvocable<void()> call);
  Task<void> WaitReadable();

  uint64_t received() const { return received_; }
  SteadyTime last_received() const { return last_received_; }
  // Bytes of ours: taken from the library, and confirmed by the other end's kernel.
  uint64_t accepted() const { return accepted_; }
  uint64_t Confirmed();

  // OK until the socket failed, ended or was killed; then the first reason.
  const absl::Status& error() const { return error_; }
  void Fail(absl::Status why);  // notes the reason
  void Kill(absl::Status why);  // and closes the socket: waits return, sends go nowhere

 private:
  void WatchWritable();
  void TellSent();

  Clock& clock_;
  asio::ip::tcp::socket socket_;
  absl::AnyInvocable<void()> when_sent_;
  std::string queue_;
  size_t sent_ = 0;  // of queue_
  bool watching_ = false;
  uint64_t accepted_ = 0;
  uint64_t flushed_ = 0;
  uint64_t received_ = 0;
  SteadyTime last_received_;
  int reads_left_ = 0;
  size_t bytes_left_ = 0;
  absl::Status error_;
};

}  // namespace hermes
