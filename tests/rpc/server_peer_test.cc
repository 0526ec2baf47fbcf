// Peers that no client library would be: what they say is written by hand.

#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <string>

#include <gtest/gtest.h>

#include "tests/rpc/stand.h"

namespace hermes {
namespace {

using namespace std::chrono_literals;

// The beginning of a connection of HTTP/2, with settings that are all defaults.
const std::string kHello("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
const std::string kPing(
    "\0\0\x08\6\0\0\0\0\0"
    "12345678",
    17);

// All that comes until the other side closes the connection.
std::string TakeAll(const Fd& peer) {
  std::string taken;
  while (true) {
    pollfd readable{.fd = peer.get(), .events = POLLIN, .revents = 0};
    if (poll(&readable, 1, 30'000) != 1) return taken + "[still connected]";
    char bytes[4096];
    const ssize_t got = recv(peer.get(), bytes, sizeof bytes, 0);
    if (got <= 0) return taken;
    taken.append(bytes, static_cast<size_t>(got));
  }
}

void Say(const Fd& peer, const std::string& bytes) {
  ASSERT_EQ(send(peer.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

// A stopped client, or one whose host went away behind a forwarded socket.
TEST(ServerPeerTest, OneThatAnswersNoPingIsLetGo) {
  Stand stand({}, [](RpcOptions& options) {
    options.keepalive = 200ms;
    options.keepalive_timeout = 200ms;
  });
  const Fd peer = ConnectUnix(stand.socket());
  Say(peer, kHello);
  const auto begun = std::chrono::steady_clock::now();
  const std::string taken = TakeAll(peer);
  EXPECT_EQ(taken.find("[still connected]"), std::string::npos);
  EXPECT_GE(std::chrono::steady_clock::now() - begun, 400ms) << "it was not asked first";
}

TEST(ServerPeerTest, OneThatDoesNothingButPingIsSentAway) {
  Stand stand;
  const Fd peer = ConnectUnix(stand.socket());
  Say(peer, kHello + kPing + kPing + kPing + kPing);
  const std::string taken = TakeAll(peer);
  EXPECT_NE(taken.find("too_many_pings"), std::string::npos);
  EXPECT_EQ(taken.find("[still connected]"), std::string::npos);
}

}  // namespace
}  // namespace hermes
