#pragma once

// For tests of the link: the far end of its connections, played by the test frame by frame over
// real sockets, and a sandbox that leads there. Everything on the test's thread.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "backends/backend.h"
#include "backends/engine/frames.h"
#include "backends/local/fd_stream.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/status.h"

namespace hermes {

struct SeenFrame {
  frames::Type type{};
  uint32_t command = 0;
  std::string payload;
};

// One accepted connection.
class RunnerPeer {
 public:
  RunnerPeer(Loop& loop, int fd) : loop_(loop), fd_(fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  }

  // The next frame, nullopt when the link has nothing more to say for now.
  std::optional<SeenFrame> Next() {
    Pull();
    frames::Frame frame;
    size_t consumed = 0;
    if (frames::ParseFrame(in_, &frame, &consumed) != frames::Parse::kFrame) return std::nullopt;
    SeenFrame seen{frame.type, frame.command, std::string(frame.payload)};
    in_.erase(0, consumed);
    return seen;
  }

  // The next frame, which must be of this type.
  SeenFrame Expect(frames::Type type) {
    std::optional<SeenFrame> seen = Next();
    EXPECT_TRUE(seen.has_value()) << "no frame of type " << static_cast<int>(type);
    if (!seen) return {};
    EXPECT_EQ(static_cast<int>(seen->type), static_cast<int>(type));
    return *seen;
  }

  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent > 0) bytes.remove_prefix(static_cast<size_t>(sent));
      if (sent < 0 && errno != EAGAIN) break;
      loop_.RunReady();
    }
    loop_.RunReady();
  }

  template <typename... Args>
  void SendFrame(frames::Type type, uint32_t command, Args... scalars) {
    std::string out;
    frames::Writer writer(out);
    writer.Begin(type, command);
    (Put(writer, scalars), ...);
    writer.End();
    Send(out);
  }
  void SendData(frames::Type type, uint32_t command, uint64_t offset, std::string_view data) {
    std::string out;
    frames::EncodeData(out, command, type, offset, data);
    Send(out);
  }
  void SendExit(uint32_t command, int value) {
    std::string out;
    frames::Exit exit;
    exit.value = value;
    frames::Encode(out, command, exit);
    Send(out);
    SendFrame(frames::Type::kDrained, command);
  }

  // True once the link has closed its end.
  bool closed() {
    Pull();
    return closed_;
  }

 private:
  void Pull() {
    loop_.RunReady();
    char buffer[64 << 10];
    while (true) {
      const ssize_t bytes = recv(fd_.get(), buffer, sizeof(buffer), 0);
      if (bytes > 0) in_.append(buffer, static_cast<size_t>(bytes));
      if (bytes == 0 || (bytes < 0 && errno == ECONNRESET)) closed_ = true;
      if (bytes <= 0) return;
      loop_.RunReady();
    }
  }
  static void Put(frames::Writer& writer, uint8_t v) { writer.U8(v); }
  static void Put(frames::Writer& writer, uint32_t v) { writer.U32(v); }
  static void Put(frames::Writer& writer, uint64_t v) { writer.U64(v); }
  static void Put(frames::Writer& writer, std::string_view v) { writer.Str(v); }

  Loop& loop_;
  Fd fd_;
  std::string in_;
  bool closed_ = false;
};

class PeerSandbox : public Sandbox {
 public:
  explicit PeerSandbox(Loop& loop) : loop_(loop) {}

  bool refuse = false;
  bool hang = false;  // as a login that gets no answer
  int attempts = 0;
  std::deque<std::unique_ptr<RunnerPeer>> peers;  // connections in the order they were made

  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string, Lane, WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "only a runner is here");
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr wish) override {
    ++attempts;
    Event given_up(loop_);
    const Wish::Ear ear(wish, [&given_up] { given_up.NotifyAll(); });
    while (hang && !IsWithdrawn(wish)) co_await given_up.Wait();
    if (IsWithdrawn(wish)) co_return Error(Reason::k_RECONNECTING, "nobody waits for it any more");
    if (refuse) co_return Error(Reason::k_BACKEND_UNREACHABLE, "the place is down");
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    peers.push_back(std::make_unique<RunnerPeer>(loop_, ends[1]));
    co_return MakeSocketStream(loop_, ends[0]);
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane, WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "only a runner is here");
  }
  std::string place_key() const override { return "peer"; }
  std::string handle() const override { return "peer"; }
  Task<absl::Status> Close(bool) override { co_return absl::OkStatus(); }

 private:
  Loop& loop_;
};

}  // namespace hermes
