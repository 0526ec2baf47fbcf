// How a libssh2 connection lives and dies: servers that ask, hosts that fall silent, sessions that
// are killed, and what an idle connection costs.

#include <signal.h>

#include "backends/ssh/libssh2_core.h"
#include "tests/ssh/libssh2_fixture.h"

namespace hermes {
namespace {

class Libssh2AliveTest : public Libssh2Test {
 protected:
  void ExpectBroken(SshConnection& connection, Stream& stream) {
    std::vector<char> buffer(1000);
    EXPECT_FALSE(connection.alive());
    EXPECT_EQ(ReasonOf(connection.why()), Reason::k_BACKEND_UNREACHABLE) << connection.why();
    EXPECT_EQ(ReasonOf(RunTask(loop_, stream.ReadStdout(buffer)).status()),
              Reason::k_BACKEND_UNREACHABLE);
    EXPECT_EQ(ReasonOf(RunTask(loop_, stream.Write("x"))), Reason::k_BACKEND_UNREACHABLE);
    EXPECT_FALSE(RunTask(loop_, stream.WaitEnd()).has_value());
    EXPECT_EQ(ReasonOf(RunTask(loop_, connection.Run("true")).status()),
              Reason::k_BACKEND_UNREACHABLE);
  }
};

TEST_F(Libssh2AliveTest, AKilledSessionBreaksItsStreamsAndIsNoEnd) {
  Start();
  auto connection = MustConnect(Target());
  auto stream = MustRun(*connection, "echo here; sleep 1000");
  std::vector<char> buffer(1000);
  EXPECT_EQ(*RunTask(loop_, stream->ReadStdout(buffer)), 5U);
  server_->KillSessions();
  EXPECT_EQ(ReasonOf(RunTask(loop_, stream->ReadStdout(buffer)).status()),
            Reason::k_BACKEND_UNREACHABLE);
  ExpectBroken(*connection, *stream);
}

TEST_F(Libssh2AliveTest, StreamsBreakWithTheConnectionThatIsDropped) {
  Start();
  auto connection = MustConnect(Target());
  auto stream = MustRun(*connection, "sleep 1000");
  connection.reset();
  std::vector<char> buffer(1000);
  EXPECT_EQ(ReasonOf(RunTask(loop_, stream->ReadStdout(buffer)).status()),
            Reason::k_BACKEND_UNREACHABLE);
}

TEST_F(Libssh2AliveTest, ASilentHostIsNoticedInTime) {
  Start();
  DelayProxy proxy({.target_port = server_->port()});
  Know(server_->KnownHosts(proxy.port()));
  auto connection = MustConnect(Target(proxy.port()));
  auto stream = MustRun(*connection, "sleep 1000");
  proxy.Stop();
  const SteadyTime stopped = clock_->Now();
  std::vector<char> buffer(1000);
  EXPECT_EQ(ReasonOf(RunTask(loop_, stream->ReadStdout(buffer)).status()),
            Reason::k_BACKEND_UNREACHABLE);
  const Duration took = clock_->Now() - stopped;
  EXPECT_GE(took, 2 * kAliveInterval);  // the last sign of life is from before the stop
  // What is more is for a machine that is busy.
  EXPECT_LE(took, kAliveLimit + std::chrono::seconds(2));
  EXPECT_NE(connection->why().message().find("has not answered for"), std::string::npos);
  ExpectBroken(*connection, *stream);
}

// Its kernel goes on confirming what is sent, for as long as it has room.
TEST_F(Libssh2AliveTest, AFrozenServerIsNoticedWhileWeSend) {
  Start();
  RunClockFast(2);
  auto connection = MustConnect(Target());
  auto stream = MustRun(*connection, "cat >/dev/null");
  for (pid_t pid : server_->SessionPids()) ::kill(pid, SIGSTOP);
  const SteadyTime stopped = clock_->Now();
  const std::string much(16 << 20, 'x');
  EXPECT_EQ(ReasonOf(RunTask(loop_, stream->Write(much))), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_LE(clock_->Now() - stopped, kAliveLimit + std::chrono::seconds(4));
  EXPECT_NE(connection->why().message().find("has not answered for"), std::string::npos);
  ExpectBroken(*connection, *stream);
  server_->KillSessions();
}

// With and without a channel: both are read, and what the server asks is answered.
TEST_F(Libssh2AliveTest, AnIdleConnectionAnswersTheServer) {
  OpenSshOptions options = Serving();
  options.lines = {"ClientAliveInterval 1", "ClientAliveCountMax 2"};
  Start(options);
  DelayProxy proxy({.target_port = server_->port()});
  Know(server_->KnownHosts(proxy.port()));
  for (bool with_channel : {false, true}) {
    auto connection = MustConnect(Target(proxy.port()));
    auto stream = with_channel ? MustRun(*connection, "sleep 1000") : nullptr;
    // Each question of the server's is answered at once, so four of them make four answers.
    for (int question = 0; question < 4; ++question) {
      const uint64_t asked = proxy.downstream_bytes(), answered = proxy.upstream_bytes();
      ASSERT_TRUE(Until([&] {
        return !connection->alive() ||
               (proxy.downstream_bytes() > asked && proxy.upstream_bytes() > answered);
      }));
      ASSERT_TRUE(connection->alive()) << connection->why();
    }
    EXPECT_EQ(Execute(*connection, "echo on").out, "on\n");
  }
}

TEST_F(Libssh2AliveTest, AnIdleConnectionIsAskedAndStaysAlive) {
  Start();
  RunClockFast(20);
  DelayProxy proxy({.target_port = server_->port()});
  Know(server_->KnownHosts(proxy.port()));
  auto connection = MustConnect(Target(proxy.port()));
  const uint64_t before = proxy.downstream_bytes();
  const SteadyTime start = clock_->Now();
  ASSERT_TRUE(Until([&] { return clock_->Now() - start > 12 * kAliveInterval; }));
  EXPECT_GT(proxy.downstream_bytes(), before + 3 * 40);
  EXPECT_TRUE(connection->alive()) << connection->why();
  EXPECT_EQ(Execute(*connection, "echo on").out, "on\n");
}

TEST_F(Libssh2AliveTest, AChannelThatTheHostClosedIsNoEnd) {
  OpenSshOptions options = Serving();
  options.lines = {"ChannelTimeout session:*=1s"};
  if (OpenSshServer::Version() < 902) GTEST_SKIP() << "this sshd has no ChannelTimeout";
  Start(options);
  auto connection = MustConnect(Target());
  Ended ended = Execute(*connection, "sleep 1000");
  EXPECT_TRUE(ended.status.ok()) << ended.status;  // the channel is closed, the connection lives
  EXPECT_FALSE(ended.end.has_value());
  EXPECT_TRUE(connection->alive());
}

}  // namespace
}  // namespace hermes
