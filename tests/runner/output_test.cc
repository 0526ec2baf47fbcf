#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

class OutputTest : public RunnerTest {
 protected:
  void SetUp() override {
    RunnerTest::SetUp();
    OpenSession();
  }
  // The same bytes again and again, so that a lost or doubled one shows.
  static std::string Pattern(size_t bytes) {
    std::string text;
    text.reserve(bytes + 16);
    for (size_t i = 0; text.size() < bytes; ++i) text += std::to_string(i) + "\n";
    text.resize(bytes);
    return text;
  }
};

TEST_F(OutputTest, CarriesAHundredMegabytesExactly) {
  constexpr size_t kBytes = 100'000'000;
  const Result& result = Run("seq 0 99999999 | head -c 100000000");
  ASSERT_EQ(result.out.size(), kBytes);
  EXPECT_TRUE(result.out == Pattern(kBytes));
  EXPECT_EQ(result.exit->out, kBytes);
}

TEST_F(OutputTest, StopsAtTheWindowUntilItIsAcknowledged) {
  constexpr uint64_t kBytes = 3 * frames::kOutputWindow;
  client->acknowledges = false;
  uint32_t command =
      client->Start(Shell("head -c " + std::to_string(kBytes) + " /dev/zero; echo end >&2"));
  auto reached = [](const Result& r) { return r.out.size() >= frames::kOutputWindow; };
  ASSERT_TRUE(client->Until(command, reached));
  // Nothing more comes: the answer to a ping does, and no byte before it.
  client->Send(Type::kPing, 0, [](frames::Writer& w) { w.U64(7); });
  while (auto message = client->Next()) {
    if (message->type == Type::kPong) break;
    client->Record(*message);
  }
  EXPECT_EQ(client->results[command].out.size(), frames::kOutputWindow);
  EXPECT_EQ(client->results[command].err, "");
  client->acknowledges = true;
  client->Ack(command, frames::kOutputWindow, 0);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out.size(), kBytes);
  EXPECT_EQ(client->results[command].err, "end\n");
}

// Nothing is acknowledged, as by a daemon that keeps no more.
TEST_F(OutputTest, AKillEndsACommandThatWaitsAtTheWindow) {
  client->acknowledges = false;
  uint32_t command = client->Start(Shell("seq 0 99999999"));
  auto reached = [](const Result& r) { return r.out.size() >= frames::kOutputWindow; };
  ASSERT_TRUE(client->Until(command, reached));
  client->Kill(command, 100);
  ASSERT_TRUE(client->UntilExit(command));
  const Result& result = client->results[command];
  EXPECT_EQ(result.exit->out, result.out.size()) << "told before its bytes";
  EXPECT_EQ(result.exit->residual, 0);
  EXPECT_TRUE(result.out == Pattern(result.out.size()));
}

TEST_F(OutputTest, ACommandThatEndsByItselfWithAFullWindowIsTold) {
  client->acknowledges = false;
  constexpr uint64_t kBytes = frames::kOutputWindow + 50'000;
  uint32_t command =
      client->Start(Shell("seq 0 99999999 | head -c " + std::to_string(kBytes) + "; exit 5"));
  ASSERT_TRUE(client->UntilExit(command));
  EXPECT_EQ(client->results[command].exit->value, 5);
  EXPECT_TRUE(client->results[command].out == Pattern(kBytes));
}

TEST_F(OutputTest, ReplaysFromAnOffsetAfterTheLinkIsLost) {
  client->acknowledges = false;
  uint32_t command = client->Start(Shell("seq 1 100000; exec sleep 1000"));
  std::string all;
  for (int i = 1; i <= 100000; ++i) all += std::to_string(i) + "\n";
  ASSERT_TRUE(client->Until(command, [&](const Result& r) { return r.out.size() == all.size(); }));
  client->Ack(command, 1000, 0);
  client->Close();
  Connect();
  auto listed = client->List();
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0].out, all.size());
  EXPECT_EQ(listed[0].exited, 0);
  client->Attach(command, 5000, 0);
  auto caught_up = [&](const Result& r) { return r.out.size() == all.size() - 5000; };
  ASSERT_TRUE(client->Until(command, caught_up));
  EXPECT_EQ(client->results[command].out, all.substr(5000));
  client->Kill(command, 0);
  ASSERT_TRUE(client->UntilDrained(command));
}

TEST_F(OutputTest, KeepsTheEndForADaemonThatComesBack) {
  std::string fifo = directory + "/fifo";
  uint32_t command = client->Start(
      Shell("mkfifo " + fifo + "; echo made; read x < " + fifo + "; echo got $x; exit 5"));
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.out == "made\n"; }));
  client->Close();
  std::ofstream(fifo) << "it\n";
  Connect();
  client->Attach(command, 0, 0);
  client->results[command].out_at = 5;  // what was acknowledged is gone
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, "got it\n");
  EXPECT_EQ(client->results[command].exit->value, 5);
}

TEST_F(OutputTest, SpoolsBeyondTheRingWhileNoDaemonIsThere) {
  client->acknowledges = false;
  std::string gate = directory + "/gate", done = directory + "/done";
  uint32_t command =
      client->Start(Shell("mkfifo " + gate + " " + done + "; echo go >&2; read x < " + gate +
                          "; seq 0 999999; echo > " + done));
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.err == "go\n"; }));
  client->Close();
  std::ofstream(gate) << "x\n";
  std::string line;
  std::ifstream finished(done);  // opens when the command has written all its output
  std::getline(finished, line);
  Connect();
  client->Attach(command, 0, 0);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_TRUE(client->results[command].out == Pattern(6'888'890));
}

TEST_F(OutputTest, ANewHelloClosesTheOldLink) {
  uint32_t command = client->Start(Shell("exec sleep 1000"));
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.started; }));
  Client newer(directory);
  auto welcome = newer.Hello();
  ASSERT_TRUE(welcome);
  EXPECT_EQ(welcome->start_token, start_token);
  EXPECT_FALSE(client->Next());  // closed
  // What the old link still sends is not heard.
  client->Kill(command, 0);
  auto listed = newer.List();
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0].exited, 0);
  newer.Kill(command, 0);
  newer.Attach(command, 0, 0);
  ASSERT_TRUE(newer.UntilDrained(command));
}

TEST_F(OutputTest, ALinkThatSpeaksNonsenseIsClosed) {
  Client other(directory);
  other.SendRaw("GET / HTTP/1.0\r\n\r\n");
  EXPECT_FALSE(other.Next());
  Client early(directory);
  early.Send(Type::kList, 0);  // before HELLO
  EXPECT_FALSE(early.Next());
  client->Send(Type::kStart, 1, [](frames::Writer& w) { w.Str("short"); });
  EXPECT_FALSE(client->Next());
  Connect();
  EXPECT_EQ(client->List().size(), 0u);
}

TEST_F(OutputTest, UnknownFramesAreSkipped) {
  client->Send(static_cast<Type>(63), 1, [](frames::Writer& w) { w.Str("of a newer daemon"); });
  EXPECT_EQ(Run("echo on").out, "on\n");
}

class BackgroundTest : public OutputTest {};

TEST_F(BackgroundTest, AHolderOfThePipeDoesNotDelayTheEnd) {
  for (std::string script : {"sleep 1000 & echo x", "setsid sleep 1000 & disown; echo x"}) {
    auto before = Clock::now();
    uint32_t command = client->Start(Shell(script));
    ASSERT_TRUE(client->UntilExit(command));
    EXPECT_LT(Clock::now() - before, std::chrono::seconds(20));
    EXPECT_EQ(client->results[command].out, "x\n");
    EXPECT_EQ(client->results[command].exit->value, 0);
    EXPECT_EQ(client->results[command].exit->residual, 1);
    EXPECT_FALSE(client->results[command].drained);
    client->Kill(command, 100);
    ASSERT_TRUE(client->UntilDrained(command));
    ASSERT_TRUE(client->results[command].killed);
    EXPECT_GE(client->results[command].killed->signalled, 1u);
    EXPECT_EQ(client->results[command].killed->survivors, 0u);
    EXPECT_EQ(client->results[command].killed->verified, 1);
  }
}

TEST_F(BackgroundTest, AHolderWithoutThePipeIsResidualToo) {
  uint32_t command = client->Start(Shell("sleep 1000 > /dev/null 2>&1 & echo x"));
  ASSERT_TRUE(client->UntilExit(command));
  EXPECT_EQ(client->results[command].exit->residual, 1);
  client->Kill(command, 100);
  ASSERT_TRUE(client->UntilDrained(command));
}

TEST_F(BackgroundTest, OutputAfterTheEndStillComes) {
  std::string fifo = directory + "/fifo";
  uint32_t command = client->Start(
      Shell("mkfifo " + fifo + "; (read x < " + fifo + "; echo late $x) & echo early"));
  ASSERT_TRUE(client->UntilExit(command));
  EXPECT_EQ(client->results[command].exit->out, 6u);
  std::ofstream(fifo) << "word\n";
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, "early\nlate word\n");
}

TEST_F(BackgroundTest, ProcessSubstitutionIsCompleteInTheLog) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Run("echo hi > >(cat)").out, "hi\n");
}

}  // namespace
}  // namespace hermes::test
