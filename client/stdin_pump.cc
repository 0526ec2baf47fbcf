#include "client/stdin_pump.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "client/error.h"
#include "client/terminal.h"

namespace hermes::client {
namespace {

using std::chrono::milliseconds;

constexpr size_t kChunkBytes = 64 << 10;
// Between two tries when the command's stdin is full and the daemon did not wait for us.
constexpr milliseconds kShortestWait(2);
constexpr milliseconds kLongestWait(200);

}  // namespace

StdinPump::StdinPump(Connection& connection, Follower& follower, bool fresh)
    : connection_(connection),
      follower_(follower),
      fresh_(fresh),
      stop_fd_(eventfd(0, EFD_CLOEXEC)),
      thread_([this] { Run(); }) {}

StdinPump::~StdinPump() {
  eventfd_write(stop_fd_, 1);
  thread_.join();
  close(stop_fd_);
}

// False: stop. A regular file or a closed pipe counts as readable: read then says the end.
bool StdinPump::WaitReadable() const {
  pollfd ready[2] = {{STDIN_FILENO, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  while (poll(ready, 2, -1) < 0 && errno == EINTR) {
  }
  return ready[1].revents == 0;
}

bool StdinPump::Send(v1::WriteStdinRequest& request) {
  v1::StdinChunk& chunk = *request.mutable_chunk();
  const uint64_t end = chunk.offset() + chunk.data().size();
  for (milliseconds wait = kShortestWait;;) {
    absl::StatusOr<v1::WriteStdinResponse> answer = connection_.WriteStdin(request);
    if (!answer.ok()) {
      // A command that ended while we wrote is no failure of ours; its end is reported elsewhere.
      bool ended = absl::IsFailedPrecondition(answer.status()) ||
                   absl::IsNotFound(answer.status()) || absl::IsCancelled(answer.status());
      if (!ended) SayText(Describe(answer.status()));
      return false;
    }
    uint64_t accepted = std::min(answer->accepted_offset(), end);
    bool progress = accepted > chunk.offset();
    if (progress) {
      chunk.mutable_data()->erase(0, accepted - chunk.offset());
      chunk.set_offset(accepted);
      wait = kShortestWait;
    }
    if (answer->closed()) return false;
    if (accepted >= end) return true;
    if (!progress && !connection_.Pause(wait)) return false;
    wait = std::min(wait * 2, kLongestWait);
  }
}

void StdinPump::Run() {
  v1::WriteStdinRequest request;
  request.set_name(follower_.WaitForName());
  if (request.name().empty()) return;
  v1::StdinChunk& chunk = *request.mutable_chunk();
  if (!fresh_) {
    // An empty chunk at the start changes nothing and tells how much was taken.
    absl::StatusOr<v1::WriteStdinResponse> answer = connection_.WriteStdin(request);
    if (!answer.ok()) {
      SayText(Describe(answer.status()));
      return;
    }
    chunk.set_offset(answer->accepted_offset());
  }
  std::array<char, kChunkBytes> buffer;
  while (WaitReadable()) {
    ssize_t count = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    chunk.set_data(buffer.data(), count > 0 ? static_cast<size_t>(count) : 0);
    chunk.set_eof(count <= 0);
    if (!Send(request) || count <= 0) return;
  }
}

}  // namespace hermes::client
