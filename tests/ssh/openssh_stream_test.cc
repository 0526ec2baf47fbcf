// Programs over a real ssh and a real sshd: bytes, ends, slots, and what breaks.

#include <filesystem>

#include "backends/ssh/ssh_lane.h"
#include "tests/hosts/delay_proxy.h"
#include "tests/ssh/fast_clock.h"
#include "tests/ssh/openssh_stand.h"

namespace hermes {
namespace {

using OpenSshStreamTest = OpenSshStand;

std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  uint64_t state = 88172645463325252ull;
  for (char& c : bytes) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    c = static_cast<char>(state);
  }
  return bytes;
}

TEST_F(OpenSshStreamTest, RunsAProgramAndTellsItsEnd) {
  Serve();
  Connection connection = MustConnect(Target());
  EXPECT_TRUE(connection->alive());
  EXPECT_EQ(connection->why(), absl::OkStatus());
  const Finished done = Execute(connection, "id -un; cat; echo err >&2; exit 7", "in\n");
  EXPECT_EQ(done.opened, absl::OkStatus());
  EXPECT_EQ(done.out, account_->name() + "\nin\n");
  EXPECT_EQ(done.err, "err\n");
  EXPECT_EQ(done.out_end, absl::OkStatus());
  EXPECT_EQ(done.err_end, absl::OkStatus());
  ASSERT_TRUE(done.end.has_value());
  EXPECT_FALSE(done.end->signalled);
  EXPECT_EQ(done.end->value, 7);
}

TEST_F(OpenSshStreamTest, ExitCode255IsAnExitCode) {
  Serve();
  Connection connection = MustConnect(Target());
  const Finished done = Execute(connection, "exit 255");
  ASSERT_TRUE(done.end.has_value());
  EXPECT_EQ(done.end->value, 255);
  EXPECT_EQ(done.out_end, absl::OkStatus());
}

TEST_F(OpenSshStreamTest, AProgramEndedByASignalHasNoKnownEnd) {
  Serve();
  Connection connection = MustConnect(Target());
  for (int round = 0; round < 20; ++round) {
    const Finished done = Execute(connection, "echo out; kill -9 $$");
    EXPECT_EQ(done.out, "out\n");
    EXPECT_EQ(done.out_end, absl::OkStatus());  // the connection is fine
    EXPECT_EQ(done.err_end, absl::OkStatus());
    EXPECT_FALSE(done.end.has_value());
  }
  EXPECT_TRUE(connection->alive());
}

TEST_F(OpenSshStreamTest, NoByteIsLostWhenTheStatusOvertakesTheOutput) {
  Serve();
  Connection connection = MustConnect(Target());
  for (int round = 0; round < 30; ++round) {
    const Finished done = Execute(connection, "head -c 300000 /dev/zero; exit 3");
    ASSERT_EQ(done.out.size(), 300000u);
    ASSERT_TRUE(done.end.has_value());
    ASSERT_EQ(done.end->value, 3);
  }
}

TEST_F(OpenSshStreamTest, OutputThatEndsBeforeItsProgramIsAnEndOfFile) {
  Serve();
  Connection connection = MustConnect(Target());
  const Finished done = Execute(connection, "echo x; exec >&- 2>&-; cat; exit 9");
  EXPECT_EQ(done.out, "x\n");
  EXPECT_EQ(done.out_end, absl::OkStatus());
  ASSERT_TRUE(done.end.has_value());
  EXPECT_EQ(done.end->value, 9);
}

TEST_F(OpenSshStreamTest, BytesGoBothWaysUnchanged) {
  Serve();
  Connection connection = MustConnect(Target());
  const std::string bytes = Pattern(64 << 20);
  const Finished done = Execute(connection, "cat", bytes);
  EXPECT_EQ(done.written, absl::OkStatus());
  EXPECT_EQ(done.out_end, absl::OkStatus());
  EXPECT_TRUE(done.out == bytes) << done.out.size();
}

TEST_F(OpenSshStreamTest, BannerAndNoiseStayOutOfTheStreams) {
  std::ofstream(dir_.path() + "/banner") << "BANNER of the host\n";
  std::filesystem::permissions(dir_.path(), std::filesystem::perms(0755));
  Serve({"Banner " + dir_.path() + "/banner", "PrintMotd yes"});
  Connection connection = MustConnect(Target());
  const Finished done = Execute(connection, "echo x");
  EXPECT_EQ(done.out, "x\n");
  EXPECT_EQ(done.err, "");
}

TEST_F(OpenSshStreamTest, ManyStreamsOneAfterTheOtherTakeNothingAway) {
  Serve();
  Connection connection = MustConnect(Target());
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  EXPECT_EQ(Execute(connection, "echo x").out, "x\n");
  const auto before = descriptors();
  for (int round = 0; round < 100; ++round) {
    const Finished done = Execute(connection, "echo x");
    ASSERT_EQ(done.opened, absl::OkStatus()) << round;
    ASSERT_EQ(done.out, "x\n");
    ASSERT_TRUE(done.end.has_value());
  }
  EXPECT_LE(descriptors(), before + 4);  // the last stream's listener may still be at it
}

Task<void> RunInto(Loop& loop, SshConnection* connection, std::string command, Finished* done) {
  *done = co_await RunThere(loop, connection, std::move(command));
}

Task<void> Together(Loop& loop, SshConnection* connection, std::vector<Finished>* done) {
  TaskGroup group(loop);
  for (Finished& one : *done) {
    group.Spawn("run", RunInto(loop, connection, "cat /proc/self/stat | wc -l; exit 5", &one));
  }
  co_await group.Join();
}

TEST_F(OpenSshStreamTest, EightStreamsAtOnceAreIndependent) {
  Serve();
  Connection connection = MustConnect(Target());
  std::vector<Finished> done(8);
  RunTask(loop_, Together(loop_, connection.get(), &done));
  for (const Finished& one : done) {
    EXPECT_EQ(one.opened, absl::OkStatus());
    EXPECT_EQ(one.out, "1\n");
    ASSERT_TRUE(one.end.has_value());
    EXPECT_EQ(one.end->value, 5);
  }
}

// The host notices a while after a program's end that its slot is free again.
Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenPatiently(Clock& clock,
                                                            SshConnection* connection) {
  auto stream = co_await connection->Run("cat");
  for (int tries = 0; tries < 2000 && IsSlotBusy(stream.status()); ++tries) {
    co_await clock.SleepFor(std::chrono::milliseconds(10));
    stream = co_await connection->Run("cat");
  }
  co_return stream;
}

TEST_F(OpenSshStreamTest, ARefusedChannelIsABusySlotAndNotABrokenConnection) {
  Serve({"MaxSessions 2"});
  Connection connection = MustConnect(Target());
  auto first = RunTask(loop_, connection->Run("cat"));
  auto second = RunTask(loop_, connection->Run("cat"));
  ASSERT_TRUE(first.ok() && second.ok());
  for (int round = 0; round < 10; ++round) {
    auto third = RunTask(loop_, connection->Run("cat"));
    ASSERT_TRUE(IsSlotBusy(third.status())) << third.status();
  }
  EXPECT_TRUE(connection->alive());
  EXPECT_EQ(RunTask(loop_, Finish(loop_, first->get(), "x")).out, "x");
  first->reset();
  auto fourth = RunTask(loop_, OpenPatiently(clock_, connection.get()));
  ASSERT_TRUE(fourth.ok()) << fourth.status();
  EXPECT_EQ(RunTask(loop_, Finish(loop_, fourth->get(), "z")).out, "z");
  EXPECT_EQ(RunTask(loop_, Finish(loop_, second->get(), "y")).out, "y");
}

TEST_F(OpenSshStreamTest, ADroppedStreamGivesItsSlotBack) {
  Serve({"MaxSessions 1"});
  Connection connection = MustConnect(Target());
  for (int round = 0; round < 8; ++round) {
    auto stream = RunTask(loop_, OpenPatiently(clock_, connection.get()));
    ASSERT_TRUE(stream.ok()) << stream.status();
    stream->reset();  // its program sees the end of its input
  }
}

TEST_F(OpenSshStreamTest, AbortEndsPendingCalls) {
  Serve();
  Connection connection = MustConnect(Target());
  auto stream = RunTask(loop_, connection->Run("sleep 1000"));
  ASSERT_TRUE(stream.ok());
  auto alarm = clock_.At(clock_.Now(), [&] { (*stream)->Abort(); });
  const Finished done = RunTask(loop_, Finish(loop_, stream->get(), ""));
  EXPECT_EQ(ReasonOf(done.out_end), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_FALSE(done.end.has_value());
  EXPECT_TRUE(connection->alive());
}

TEST_F(OpenSshStreamTest, TheCommandIsOneWordForTheLoginShell) {
  Serve();
  Connection connection = MustConnect(Target());
  const std::string text(40'000, 'a');
  EXPECT_EQ(Execute(connection, "printf %s '" + text + "' \"$0\" | wc -c").out, "40004\n");
  const Finished refused = Execute(connection, std::string(100'000, 'a'));
  EXPECT_EQ(ReasonOf(refused.opened), Reason::k_BAD_FIELD);
}

// A reader that is blocked, then a broken connection: never a clean end.
Finished Break(Loop& loop, Clock& clock, const Connection& connection,
               absl::AnyInvocable<void()> how) {
  auto stream = RunTask(loop, connection->Run("echo out; sleep 1000"));
  EXPECT_TRUE(stream.ok()) << stream.status();
  char byte[4] = {};
  EXPECT_EQ(*RunTask(loop, (*stream)->ReadStdout(byte)), 4u);
  auto alarm = clock.At(clock.Now(), std::move(how));
  return RunTask(loop, Finish(loop, stream->get(), ""));
}

void ExpectLost(const Finished& done, const Connection& connection) {
  EXPECT_EQ(ReasonOf(done.out_end), Reason::k_BACKEND_UNREACHABLE) << done.out_end;
  EXPECT_EQ(ReasonOf(done.err_end), Reason::k_BACKEND_UNREACHABLE) << done.err_end;
  EXPECT_FALSE(done.end.has_value());
  EXPECT_FALSE(connection->alive());
  EXPECT_EQ(ReasonOf(connection->why()), Reason::k_BACKEND_UNREACHABLE);
}

TEST_F(OpenSshStreamTest, AKilledSessionOfTheServerIsALostConnection) {
  Serve();
  for (int round = 0; round < 5; ++round) {
    Connection connection = MustConnect(Target());
    const Finished done = Break(loop_, clock_, connection, [&] { server_->KillSessions(); });
    ExpectLost(done, connection);
    EXPECT_THAT(std::string(connection->why().message()), testing::HasSubstr("closed"));
    const Finished later = Execute(connection, "true");
    EXPECT_EQ(ReasonOf(later.opened), Reason::k_BACKEND_UNREACHABLE);
    account_->KillProcesses();
  }
}

TEST_F(OpenSshStreamTest, AKilledClientIsALostConnection) {
  Serve();
  for (int round = 0; round < 5; ++round) {
    Connection connection = MustConnect(Target());
    ASSERT_EQ(Clients().size(), 1u);
    const pid_t pid = Clients().front().pid;
    ExpectLost(Break(loop_, clock_, connection, [pid] { kill(pid, SIGKILL); }), connection);
    account_->KillProcesses();
  }
}

// The pipes of an ssh that ends look like those of a program that ends.
TEST_F(OpenSshStreamTest, OutputThatWasCutIsNeverAnEndOfFile) {
  constexpr size_t kAll = 8 << 20;
  Serve();
  for (int round = 0; round < 12; ++round) {
    Connection connection = MustConnect(Target());
    const pid_t pid = Clients().front().pid;
    auto stream = RunTask(
        loop_, connection->Run("head -c " + std::to_string(kAll) + " /dev/zero; echo all >&2"));
    ASSERT_TRUE(stream.ok()) << stream.status();
    const auto when = clock_.Now() + std::chrono::milliseconds(random_.Below(200));
    auto alarm = clock_.At(when, [&] {
      if (round % 3 == 0) kill(pid, SIGKILL);
      if (round % 3 == 1) kill(pid, SIGTERM);
      if (round % 3 == 2) server_->KillSessions();
    });
    const Finished done = RunTask(loop_, Finish(loop_, stream->get(), ""));
    if (done.out_end.ok()) EXPECT_EQ(done.out.size(), kAll);
    if (done.err_end.ok()) EXPECT_EQ(done.err, "all\n");
    account_->KillProcesses();
  }
}

TEST_F(OpenSshStreamTest, DroppingTheConnectionBreaksItsStreams) {
  Serve();
  Connection connection = MustConnect(Target());
  const Finished done = Break(loop_, clock_, connection, [&] { connection.reset(); });
  EXPECT_EQ(ReasonOf(done.out_end), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_FALSE(done.end.has_value());
  EXPECT_TRUE(std::filesystem::is_empty(sockets()));
}

// In time that runs fast: nothing of it is a network's.
class OpenSshFastTest : public OpenSshStand {
 protected:
  void SetUp() override {
    OpenSshStand::SetUp();
    transport_ = MakeOpenSshTransport(loop_, fast_, random_, {.runtime_dir = sockets()});
  }
  FastClock fast_{loop_, 4};
};

// The kernel goes on taking what is sent to it.
TEST_F(OpenSshFastTest, AStoppedClientIsLetGoAndTheLaneLogsInAnew) {
  Serve();
  const SshLane::Ptr lane = MakeLane(fast_);
  auto first = RunTask(loop_, SshLane::Run(lane, "cat", nullptr));
  ASSERT_TRUE(first.ok()) << first.status();
  const pid_t stopped = Clients().front().pid;
  kill(stopped, SIGSTOP);
  const SteadyTime start = fast_.Now();
  auto second = RunTask(loop_, SshLane::Run(lane, "cat", nullptr));
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_LT(fast_.Now() - start, kLoginLimit);
  EXPECT_EQ(RunTask(loop_, Finish(loop_, second->get(), "x")).out, "x");
  const Finished broken = RunTask(loop_, Finish(loop_, first->get(), ""));
  EXPECT_EQ(ReasonOf(broken.out_end), Reason::k_BACKEND_UNREACHABLE) << broken.out_end;
  ASSERT_EQ(Clients().size(), 1u);
  EXPECT_NE(Clients().front().pid, stopped);
  second->reset();
  first->reset();
  lane->Stop();
}

// For a machine that is busy, and less than one more question would take.
constexpr Duration kAliveSlack = std::chrono::seconds(2);

TEST_F(OpenSshStreamTest, ASilentNetworkIsNoticedInTime) {
  Serve();
  DelayProxy proxy({.target_port = server_->port()});
  Trust(server_->KnownHosts(proxy.port()));
  Connection connection = MustConnect(Target("", proxy.port()));
  const SteadyTime start = clock_.Now();
  const Finished done = Break(loop_, clock_, connection, [&] { proxy.Stop(); });
  ExpectLost(done, connection);
  EXPECT_LT(clock_.Now() - start, kAliveLimit + kAliveSlack);
  EXPECT_THAT(std::string(connection->why().message()), testing::HasSubstr("no longer answers"));
}

}  // namespace
}  // namespace hermes
