#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

class StdinTest : public RunnerTest {
 protected:
  void SetUp() override {
    RunnerTest::SetUp();
    OpenSession();
  }
  static frames::Start Reading(const std::string& script) {
    frames::Start start = Shell(script);
    start.stdin_kind = frames::StdinKind::kOpen;
    return start;
  }
  // Sends everything within the window.
  void Feed(uint32_t command, std::string_view bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      size_t piece = std::min(bytes.size() - sent, frames::kMaxDataBytes);
      ASSERT_TRUE(client->Until(command, [&](const Result& r) {
        return sent + piece <= r.stdin_accepted + frames::kStdinWindow;
      }));
      client->Stdin(command, sent, bytes.substr(sent, piece));
      sent += piece;
    }
    client->StdinEof(command, sent);
  }
};

TEST_F(StdinTest, CarriesThreeMegabytesWithEveryByte) {
  std::string bytes;
  for (size_t i = 0; bytes.size() < 3'000'000; ++i) bytes += static_cast<char>(i * 7 + i / 256);
  bytes += "\r\nno newline at the end";
  uint32_t command = client->Start(Reading("cat"));
  Feed(command, bytes);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_TRUE(client->results[command].out == bytes);
  EXPECT_EQ(client->results[command].stdin_accepted, bytes.size());
}

TEST_F(StdinTest, AcknowledgesOnlyWhatTheCommandTook) {
  std::string fifo = directory + "/fifo";
  uint32_t command = client->Start(Reading("mkfifo " + fifo + "; read x < " + fifo + "; wc -c"));
  std::string window(frames::kStdinWindow, 'x');
  for (size_t at = 0; at < window.size(); at += frames::kMaxDataBytes)
    client->Stdin(command, at, window.substr(at, frames::kMaxDataBytes));
  client->Send(Type::kPing, 0, [](frames::Writer& w) { w.U64(1); });
  while (auto message = client->Next()) {
    if (message->type == Type::kPong) break;
    client->Record(*message);
  }
  EXPECT_LT(client->results[command].stdin_accepted, window.size());
  client->StdinEof(command, window.size());
  std::ofstream(fifo) << "go\n";
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, std::to_string(window.size()) + "\n");
}

TEST_F(StdinTest, SkipsWhatItHasAndRefusesAGap) {
  uint32_t command = client->Start(Reading("cat"));
  client->Stdin(command, 0, "abc");
  client->Stdin(command, 1, "bcd");
  client->StdinEof(command, 4);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, "abcd");
  uint32_t gap = client->Start(Reading("cat"));
  client->Stdin(gap, 10, "abc");
  ASSERT_TRUE(client->Until(gap, [](const Result& r) { return !r.refused.empty(); }));
  EXPECT_EQ(client->results[gap].refused, "STDIN_OFFSET_MISMATCH");
  client->Kill(gap, 0);
}

TEST_F(StdinTest, TellsThatACommandReadsNoMore) {
  uint32_t command = client->Start(Reading("exec <&-; exec sleep 1000"));
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.stdin_closed; }));
  client->Kill(command, 0);
  ASSERT_TRUE(client->UntilDrained(command));
}

}  // namespace
}  // namespace hermes::test
