// Programs over libssh2 on a real sshd: their bytes, their ends, and many at once.

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "backends/ssh/libssh2_core.h"
#include "backends/ssh/libssh2_stream.h"
#include "backends/ssh/libssh2_wire.h"
#include "daemon/runtime/task_group.h"
#include "tests/ssh/libssh2_fixture.h"

namespace hermes {
namespace {

constexpr size_t kMega = 1 << 20;

std::string RandomBytes(size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (size_t i = 0; i + 8 <= size; i += 8) {
    uint64_t word = random();
    bytes.replace(i, 8, reinterpret_cast<const char*>(&word), 8);
  }
  return bytes;
}

// Makes the kernel take little at a time of what this process sends to `port`.
int ShrinkSendBuffers(int port) {
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::atoi(entry.path().filename().c_str());
    sockaddr_in peer{};
    socklen_t size = sizeof(peer);
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) continue;
    if (peer.sin_family != AF_INET || ntohs(peer.sin_port) != port) continue;
    const int bytes = 4096;
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    ++found;
  }
  return found;
}

class Libssh2StreamTest : public Libssh2Test {
 protected:
  // Programs side by side; all have ended when RunAll returns.
  void Spawn(Task<void> task) { group_.Spawn("program", std::move(task)); }
  void RunAll() { RunTask(loop_, group_.Join()); }

  static Task<void> ExecuteInto(SshConnection* connection, std::string command, Ended* ended) {
    *ended = co_await Execute(connection, std::move(command));
  }

  static Task<void> FinishInto(Stream* stream, Ended* ended) { *ended = co_await Finish(stream); }

  // Sends `data` through `cat` and back, both ways at once.
  static Task<void> Echo(Loop* loop, SshConnection* connection, const std::string* data,
                         Ended* ended) {
    auto stream = co_await connection->Run("cat");
    ended->status = stream.status();
    if (!stream.ok()) co_return;
    absl::Status written;
    TaskGroup writing(*loop);
    writing.Spawn("writer", WriteAll(stream->get(), data, &written));
    *ended = co_await Finish(stream->get());
    co_await writing.Join();
    if (ended->status.ok()) ended->status = written;
  }
  static Task<void> WriteAll(Stream* stream, const std::string* data, absl::Status* status) {
    *status = co_await stream->Write(*data);
    stream->CloseStdin();
  }
  static Task<void> WriteForever(Stream* stream, absl::Status* status) {
    const std::string block(kMega, 'x');
    do {
      *status = co_await stream->Write(block);
    } while (status->ok());
  }

  void EchoSixTimes(SshConnection& connection, size_t size) {
    std::vector<std::string> data;
    std::vector<Ended> ended(6);
    for (unsigned i = 0; i < 6; ++i) data.push_back(RandomBytes(size, i));
    for (unsigned i = 0; i < 6; ++i) Spawn(Echo(&loop_, &connection, &data[i], &ended[i]));
    RunAll();
    for (unsigned i = 0; i < 6; ++i) {
      EXPECT_TRUE(ended[i].status.ok()) << ended[i].status;
      EXPECT_EQ(ended[i].out.size(), size);
      EXPECT_TRUE(ended[i].out == data[i]) << "channel " << i << " has other bytes";
    }
  }

  TaskGroup group_{loop_};
};

TEST_F(Libssh2StreamTest, RunsAProgramAndTellsItsOutputAndEnd) {
  Start();
  auto connection = MustConnect(Target());
  Ended ended = Execute(*connection, "id -un; pwd; echo err >&2; exit 7");
  EXPECT_TRUE(ended.status.ok()) << ended.status;
  EXPECT_EQ(ended.out, account_->name() + "\n" + account_->home() + "\n");
  EXPECT_EQ(ended.err, "err\n");
  ASSERT_TRUE(ended.end.has_value());
  EXPECT_FALSE(ended.end->signalled);
  EXPECT_EQ(ended.end->value, 7);
}

TEST_F(Libssh2StreamTest, TellsASignalAndDoesNotInventAZero) {
  Start();
  auto connection = MustConnect(Target());
  Ended killed = Execute(*connection, "kill -TERM $$");
  ASSERT_TRUE(killed.end.has_value());
  EXPECT_TRUE(killed.end->signalled);
  EXPECT_EQ(killed.end->value, 15);
  // The library has the same 0 for "status 0" and for "no status".
  EXPECT_FALSE(Execute(*connection, "true").end.has_value());
}

TEST_F(Libssh2StreamTest, CarriesBinaryBothWaysUnchanged) {
  Start();
  auto connection = MustConnect(Target());
  const std::string data = RandomBytes(64 * kMega, 7);
  Ended ended;
  Spawn(Echo(&loop_, connection.get(), &data, &ended));
  RunAll();
  EXPECT_TRUE(ended.status.ok()) << ended.status;
  EXPECT_EQ(Sha256Hex(ended.out), Sha256Hex(data));
}

TEST_F(Libssh2StreamTest, KeepsOutputAndErrorsApart) {
  Start();
  auto connection = MustConnect(Target());
  Ended ended = Execute(*connection,
                        "for i in 1 2 3 4 5 6 7 8 9; do head -c 300000 /dev/zero;"
                        " head -c 100000 /dev/zero | tr '\\0' e >&2; done");
  EXPECT_TRUE(ended.status.ok()) << ended.status;
  EXPECT_EQ(ended.out, std::string(2700000, '\0'));
  EXPECT_EQ(ended.err, std::string(900000, 'e'));
}

TEST_F(Libssh2StreamTest, AHundredProgramsOneAfterTheOther) {
  Start();
  auto connection = MustConnect(Target());
  for (int i = 0; i < 100; ++i) {
    Ended ended = Execute(*connection, "echo " + std::to_string(i) + "; exit 3");
    ASSERT_TRUE(ended.status.ok()) << i << ended.status;
    EXPECT_EQ(ended.out, std::to_string(i) + "\n");
    ASSERT_TRUE(ended.end.has_value());
  }
}

// sshd allows ten.
TEST_F(Libssh2StreamTest, EightProgramsAtOnce) {
  Start();
  auto connection = MustConnect(Target());
  std::vector<Ended> ended(8);
  for (int i = 0; i < 8; ++i) {
    Spawn(ExecuteInto(connection.get(), "sleep 0.2; echo " + std::to_string(i), &ended[i]));
  }
  RunAll();
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(ended[i].status.ok()) << ended[i].status;
    EXPECT_EQ(ended[i].out, std::to_string(i) + "\n");
  }
}

TEST_F(Libssh2StreamTest, ARefusedChannelIsASlotThatIsBusy) {
  OpenSshOptions options = Serving();
  options.lines = {"MaxSessions 2"};
  Start(options);
  auto connection = MustConnect(Target());
  auto one = MustRun(*connection, "cat");
  auto two = MustRun(*connection, "cat");
  auto three = RunTask(loop_, connection->Run("true"));
  EXPECT_TRUE(IsSlotBusy(three.status())) << three.status();
  EXPECT_TRUE(connection->alive());
  one->CloseStdin();
  EXPECT_TRUE(RunTask(loop_, Finish(one.get())).status.ok());
  one.reset();
  Ended ended;  // the host frees the slot a moment after it closed the channel
  for (int tries = 0; tries < 2000 && ended.out.empty(); ++tries) {
    ended = Execute(*connection, "echo free");
    ASSERT_TRUE(ended.status.ok() || IsSlotBusy(ended.status)) << ended.status;
  }
  EXPECT_EQ(ended.out, "free\n");
  EXPECT_TRUE(connection->alive());
}

TEST_F(Libssh2StreamTest, ALongCommandIsRefusedBeforeItIsSent) {
  Start();
  auto connection = MustConnect(Target());
  auto stream = RunTask(loop_, connection->Run("echo " + std::string(kMaxExec, 'x')));
  EXPECT_EQ(ReasonOf(stream.status()), Reason::k_BAD_FIELD);
  Ended ended = Execute(*connection, "echo " + std::string(30000, 'x'));
  EXPECT_EQ(ended.out.size(), 30001U) << ended.status;
}

TEST_F(Libssh2StreamTest, SixChannelsBothWaysThroughASmallBufferAndNewKeys) {
  OpenSshOptions options = Serving();
  options.lines = {"RekeyLimit 4M"};
  Start(options);
  const int rounds = std::getenv("HERMES_DEEP") ? 30 : 2;
  for (int round = 0; round < rounds && !HasFailure(); ++round) {
    auto connection = MustConnect(Target());
    ASSERT_NE(connection, nullptr);
    ASSERT_EQ(ShrinkSendBuffers(server_->port()), 1);
    EchoSixTimes(*connection, 5 * kMega);
    EXPECT_TRUE(connection->alive()) << connection->why();
  }
}

// What nobody reads costs its window and holds up no other channel.
TEST_F(Libssh2StreamTest, AStreamThatNobodyReadsHoldsUpNoOther) {
  Start();
  auto connection = MustConnect(Target());
  auto stuck = MustRun(*connection, "yes");
  Ended ended = Execute(*connection, "head -c 20000000 /dev/zero");
  EXPECT_EQ(ended.out.size(), 20000000U) << ended.status;
  std::vector<char> buffer(2 * kWindow);
  size_t total = 0;
  while (total < 3 * kWindow) {
    auto got = RunTask(loop_, stuck->ReadStdout(buffer));
    ASSERT_TRUE(got.ok()) << got.status();
    ASSERT_LE(*got, kWindow);
    for (size_t i = 0; i < *got; ++i) ASSERT_EQ(buffer[i], (total + i) % 2 == 0 ? 'y' : '\n');
    total += *got;
  }
}

TEST_F(Libssh2StreamTest, AWriterWaitsForAProgramThatDoesNotRead) {
  Start();
  auto connection = MustConnect(Target());
  auto stream = MustRun(*connection, "sleep 1000");
  absl::Status written;
  Spawn(WriteForever(stream.get(), &written));
  Ended other = Execute(*connection, "echo there");
  EXPECT_EQ(other.out, "there\n");
  EXPECT_TRUE(written.ok());
  stream->Abort();
  RunAll();
  EXPECT_EQ(ReasonOf(written), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_TRUE(connection->alive());
}

TEST_F(Libssh2StreamTest, AbortEndsCallsUnderWayAndTheConnectionLivesOn) {
  Start();
  auto connection = MustConnect(Target());
  auto stream = MustRun(*connection, "sleep 1000");
  Ended ended;
  Spawn(FinishInto(stream.get(), &ended));
  loop_.RunReady();
  stream->Abort();
  RunAll();
  EXPECT_EQ(ReasonOf(ended.status), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_FALSE(ended.end.has_value());
  EXPECT_EQ(Execute(*connection, "echo on").out, "on\n");
}

// Streams dropped in the middle of all they can be in the middle of.
TEST_F(Libssh2StreamTest, AbandonedStreamsLeaveNothingHalfDone) {
  OpenSshOptions options = Serving();
  options.lines = {"RekeyLimit 1M", "MaxSessions 100"};
  Start(options);
  auto connection = MustConnect(Target());
  for (size_t round = 0; round < 20; ++round) {
    auto reader = MustRun(*connection, "head -c 3000000 /dev/zero");
    auto writer = MustRun(*connection, "sleep 0.1");
    absl::Status written;
    Spawn(WriteForever(writer.get(), &written));
    std::vector<char> buffer(1000 * (round + 1));
    ASSERT_TRUE(RunTask(loop_, reader->ReadStdout(buffer)).ok());
    reader.reset();
    writer->Abort();
    RunAll();
    Ended ended = Execute(*connection, "head -c 100000 /dev/zero");
    ASSERT_EQ(ended.out.size(), 100000U) << ended.status;
  }
}

TEST_F(Libssh2StreamTest, WorksOverDropbear) {
  if (std::string why = DropbearServer::Unsupported(); !why.empty()) GTEST_SKIP() << why;
  account_->AuthorizeKey(key_.public_line);
  auto dropbear = DropbearServer::Start();
  Know(dropbear->KnownHosts());
  SshTarget target = Target(dropbear->port());
  auto connection = Connect(target);
  ASSERT_TRUE(connection.ok()) << connection.status() << dropbear->Log();
  Ended ended = Execute(**connection, "cat /etc/passwd; exit 4");
  EXPECT_EQ(ended.out, ReadWholeFile("/etc/passwd"));
  ASSERT_TRUE(ended.end.has_value());
  EXPECT_EQ(ended.end->value, 4);
  const std::string data = RandomBytes(2 * kMega, 3);
  Ended echoed;
  Spawn(Echo(&loop_, connection->get(), &data, &echoed));
  RunAll();
  EXPECT_TRUE(echoed.out == data) << echoed.status;
}

}  // namespace
}  // namespace hermes
