// The imitated network, with plain sockets on both sides.

#include "tests/hosts/delay_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/hosts/processes.h"

namespace hermes {
namespace {

using std::chrono::milliseconds;

constexpr int kLimitMs = 30'000;

// A TCP socket of 127.0.0.1, blocking, closed at the end.
class Socket {
 public:
  Socket() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { ::close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int Listen() {
    sockaddr_in address = Address(0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(fd_, 16), 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    return ntohs(address.sin_port);
  }
  int Accept() {
    EXPECT_TRUE(Readable(kLimitMs));
    return ::accept(fd_, nullptr, nullptr);
  }
  bool TryConnect(int port) {
    sockaddr_in address = Address(port);
    return ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  void Connect(int port) { EXPECT_TRUE(TryConnect(port)); }
  void Send(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      ssize_t wrote = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (wrote <= 0) return;
      sent += static_cast<size_t>(wrote);
    }
  }
  // Until so many bytes, the end, or the limit.
  std::string Receive(size_t count) {
    std::string bytes(count, '\0');
    size_t have = 0;
    while (have < count && Readable(kLimitMs)) {
      ssize_t got = ::recv(fd_, bytes.data() + have, count - have, 0);
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    bytes.resize(have);
    return bytes;
  }
  bool Ended() {
    char byte;
    return Readable(kLimitMs) && ::recv(fd_, &byte, 1, 0) <= 0;
  }
  bool Readable(int limit_ms) {
    pollfd wait{fd_, POLLIN, 0};
    return ::poll(&wait, 1, limit_ms) == 1;
  }
  void EndSending() { ::shutdown(fd_, SHUT_WR); }

 private:
  static sockaddr_in Address(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return address;
  }
  int fd_;
};

std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 + (i >> 9));
  return bytes;
}

class DelayProxyTest : public testing::Test {
 protected:
  DelayProxy& Start(milliseconds rtt, uint64_t bytes_per_second = 0) {
    proxy_ = std::make_unique<DelayProxy>(
        DelayProxyOptions{.target_port = port_, .rtt = rtt, .bytes_per_second = bytes_per_second});
    return *proxy_;
  }

  Socket listener_;
  int port_ = listener_.Listen();
  std::unique_ptr<DelayProxy> proxy_;
};

std::chrono::steady_clock::duration Since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::steady_clock::now() - begin;
}

TEST_F(DelayProxyTest, FirstByteTakesTwoRoundTripsAndOthersOne) {
  constexpr milliseconds kRtt(60);
  Start(kRtt);
  Socket client;
  auto begin = std::chrono::steady_clock::now();
  client.Connect(proxy_->port());
  Socket server(listener_.Accept());
  EXPECT_GE(Since(begin), kRtt * 3 / 2);
  server.Send("banner");
  EXPECT_EQ(client.Receive(6), "banner");
  EXPECT_GE(Since(begin), kRtt * 2);
  for (int i = 0; i < 3; ++i) {
    begin = std::chrono::steady_clock::now();
    client.Send("ping");
    EXPECT_EQ(server.Receive(4), "ping");
    EXPECT_GE(Since(begin), kRtt / 2);
    server.Send("pong");
    EXPECT_EQ(client.Receive(4), "pong");
    EXPECT_GE(Since(begin), kRtt);
  }
}

TEST_F(DelayProxyTest, BytesArriveUnchangedAndEndsArePassedOn) {
  Start(milliseconds(5));
  Socket client;
  client.Connect(proxy_->port());
  Socket server(listener_.Accept());
  const std::string up = Pattern(20'000'000), down = Pattern(7'000'001);
  std::thread sender([&] {
    client.Send(up);
    client.EndSending();
  });
  EXPECT_TRUE(server.Receive(up.size()) == up);
  EXPECT_TRUE(server.Ended());
  sender.join();
  std::thread answer([&] {  // the other direction is still open
    server.Send(down);
    server.EndSending();
  });
  EXPECT_TRUE(client.Receive(down.size()) == down);
  EXPECT_TRUE(client.Ended());
  answer.join();
  EXPECT_EQ(proxy_->upstream_bytes(), up.size());
  EXPECT_EQ(proxy_->downstream_bytes(), down.size());
}

TEST_F(DelayProxyTest, StopFreezesAndResumeContinues) {
  Start(milliseconds(2));
  Socket client;
  client.Connect(proxy_->port());
  Socket server(listener_.Accept());
  server.Send("a");
  EXPECT_EQ(client.Receive(1), "a");
  proxy_->Stop();
  server.Send("b");
  client.Send("c");
  Socket second;
  second.Connect(proxy_->port());  // by the kernel
  EXPECT_FALSE(client.Readable(100));
  EXPECT_FALSE(server.Readable(100));
  EXPECT_FALSE(listener_.Readable(100));
  EXPECT_EQ(proxy_->downstream_bytes(), 1u);
  EXPECT_EQ(proxy_->open_connections(), 1);
  proxy_->Resume();
  EXPECT_EQ(client.Receive(1), "b");
  EXPECT_EQ(server.Receive(1), "c");
  Socket second_server(listener_.Accept());
  EXPECT_EQ(proxy_->connections(), 2);
}

TEST_F(DelayProxyTest, CutEndsBothEndsAndNewConnectionsWork) {
  Start(milliseconds(0));
  Socket client;
  client.Connect(proxy_->port());
  Socket server(listener_.Accept());
  proxy_->Cut();
  EXPECT_TRUE(client.Ended());
  EXPECT_TRUE(server.Ended());
  EXPECT_EQ(proxy_->open_connections(), 0);
  Socket again;
  again.Connect(proxy_->port());
  Socket again_server(listener_.Accept());
  again_server.Send("x");
  EXPECT_EQ(again.Receive(1), "x");
}

TEST_F(DelayProxyTest, CutAfterCutsAtTheByteAndAgain) {
  Start(milliseconds(0));
  constexpr size_t kCutAt = 300'001;
  proxy_->CutAfter(kCutAt, /*times=*/2);
  const std::string bytes = Pattern(1'000'000);
  for (int round = 1; round <= 3; ++round) {
    Socket client;
    client.Connect(proxy_->port());
    Socket server(listener_.Accept());
    std::thread sender([&] { server.Send(bytes); });
    std::string got = client.Receive(bytes.size());
    sender.join();
    EXPECT_TRUE(bytes.compare(0, got.size(), got) == 0);
    if (round <= 2) {
      EXPECT_LE(got.size(), kCutAt);
      EXPECT_EQ(proxy_->cuts(), round);
      EXPECT_EQ(proxy_->downstream_bytes(), kCutAt * static_cast<size_t>(round));
    } else {
      EXPECT_EQ(got.size(), bytes.size());
    }
  }
  EXPECT_EQ(proxy_->cuts(), 2);
}

TEST_F(DelayProxyTest, RefusesAndServesAgain) {
  Start(milliseconds(0));
  proxy_->Refuse(true);
  Socket refused;
  // A reset may come before connect returns.
  EXPECT_TRUE(!refused.TryConnect(proxy_->port()) || refused.Ended());
  proxy_->Refuse(false);
  Socket client;
  client.Connect(proxy_->port());
  Socket server(listener_.Accept());
  EXPECT_EQ(proxy_->connections(), 1);
}

TEST_F(DelayProxyTest, NoServerResetsTheClient) {
  DelayProxy proxy({.target_port = 1});  // nobody listens there
  Socket client;
  EXPECT_TRUE(!client.TryConnect(proxy.port()) || client.Ended());
}

TEST_F(DelayProxyTest, BandwidthIsKept) {
  Start(milliseconds(0), /*bytes_per_second=*/2'000'000);
  Socket client;
  client.Connect(proxy_->port());
  Socket server(listener_.Accept());
  const std::string bytes = Pattern(400'000);
  auto begin = std::chrono::steady_clock::now();
  std::thread sender([&] { server.Send(bytes); });
  EXPECT_TRUE(client.Receive(bytes.size()) == bytes);
  EXPECT_GE(Since(begin), milliseconds(195));
  sender.join();
}

TEST_F(DelayProxyTest, ConnectionsTakeTurnsOnTheLink) {
  // So slow that what the bulk connection has waiting would take 25 s by itself.
  Start(milliseconds(0), /*bytes_per_second=*/10'000);
  Socket bulk;
  bulk.Connect(proxy_->port());
  Socket bulk_server(listener_.Accept());
  std::thread sender([&] { bulk_server.Send(Pattern(20'000'000)); });
  bulk.Receive(1);
  Socket client;
  client.Connect(proxy_->port());
  Socket server(listener_.Accept());
  server.Send("pong");
  EXPECT_EQ(client.Receive(4), "pong");
  EXPECT_LT(proxy_->downstream_bytes(), 150'000u);
  proxy_->Cut();
  sender.join();
}

}  // namespace
}  // namespace hermes
