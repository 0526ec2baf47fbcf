// A command's channel as a byte stream, against a runner that the test plays.

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

#include "backends/engine/command_stream.h"
#include "backends/engine/files_pace.h"
#include "daemon/runtime/status.h"
#include "tests/engine/runner_link_fixture.h"

namespace hermes {
namespace {

using frames::Type;

class CommandStreamTest : public RunnerLinkTest {
 protected:
  // A stream over a command that was started with this number.
  uint32_t OpenStream(bool files = false) {
    OpenSession();
    CommandSpec spec;
    spec.run_id = "files";
    spec.files = files;
    spec.stdin_open = true;
    auto started = Go(engine_->Start(spec));
    stream_ = MakeCommandStream(*std::move(**started));
    return peer().Expect(Type::kStart).command;
  }
  Running<absl::StatusOr<size_t>> ReadSome() { return Go(stream_->ReadStdout(buffer_)); }
  std::string Bytes(const Running<absl::StatusOr<size_t>>& read) {
    EXPECT_TRUE(read->has_value() && (*read)->ok());
    return read->has_value() && (*read)->ok() ? std::string(buffer_.data(), ***read) : "";
  }

  // All of it that has come by now.
  uint64_t TakeStdin() {
    uint64_t bytes = 0;
    while (std::optional<SeenFrame> frame = peer().Next()) {
      EXPECT_EQ(frame->type, Type::kStdin);
      bytes += frame->payload.size() - 8;
      Settle();
    }
    return bytes;
  }

  static constexpr Duration kRoundTrip = std::chrono::milliseconds(50);
  std::unique_ptr<Stream> stream_;
  std::array<char, 64 << 10> buffer_{};
};

TEST_F(CommandStreamTest, CarriesStdinStdoutAndTheEnd) {
  const uint32_t number = OpenStream();
  EXPECT_TRUE((**Go(stream_->Write("question"))).ok());
  EXPECT_EQ(peer().Expect(Type::kStdin).payload.substr(8), "question");
  stream_->CloseStdin();
  auto read = ReadSome();
  EXPECT_EQ(FirstU64(peer().Expect(Type::kStdinEof)), 8u);
  peer().SendFrame(Type::kStarted, number, uint32_t{7}, uint8_t{0});
  peer().SendData(Type::kErr, number, 0, "noise");
  EXPECT_FALSE(read->has_value());
  peer().SendData(Type::kOut, number, 0, "answer");
  Settle();
  EXPECT_EQ(Bytes(read), "answer");
  read = ReadSome();
  peer().SendExit(number, 3);
  Settle();
  EXPECT_EQ(Bytes(read), "");
  EXPECT_EQ((**Go(stream_->WaitEnd()))->value, 3);
  stream_.reset();
  EXPECT_EQ(FirstU64(peer().Expect(Type::kAck)), 6u);
  EXPECT_EQ(peer().Expect(Type::kForget).command, number);
  EXPECT_FALSE(peer().Next());
}

TEST_F(CommandStreamTest, AcknowledgesWhatWasRead) {
  const uint32_t number = OpenStream();
  const std::string piece(frames::kMaxDataBytes, 'x');
  const uint64_t pieces = frames::kOutputWindow / piece.size();
  for (uint64_t i = 0; i < pieces; ++i)
    peer().SendData(Type::kOut, number, i * piece.size(), piece);
  EXPECT_FALSE(peer().Next()) << "acknowledged before it was read";
  uint64_t read = 0;
  while (read < frames::kOutputWindow) read += Bytes(ReadSome()).size();
  uint64_t acked = 0;
  while (std::optional<SeenFrame> seen = peer().Next()) {
    EXPECT_EQ(seen->type, Type::kAck);
    acked = FirstU64(*seen);
  }
  EXPECT_GE(acked, frames::kOutputWindow / 2);
}

// So much is on its way to a file service of which nothing is known yet.
TEST_F(CommandStreamTest, AQuestionToAFileServiceLeavesRoomForCommands) {
  const uint32_t number = OpenStream(true);
  const std::string question(frames::kFilesStdinWindow, 'q');
  auto written = Go(stream_->Write(question));
  EXPECT_EQ(TakeStdin(), kLeastFilesWindow);
  EXPECT_FALSE(written->has_value());
  stream_->Abort();
  Settle();
  EXPECT_EQ(peer().Expect(Type::kSignal).command, number);
}

// A round trip, and the way is known to be fast.
TEST_F(CommandStreamTest, TheRestOfAQuestionGoesOutAtOnceOnAFastWay) {
  const uint32_t number = OpenStream(true);
  const std::string question(frames::kFilesStdinWindow, 'q');
  auto written = Go(stream_->Write(question));
  uint64_t seen = TakeStdin();
  clock_.Advance(kRoundTrip);
  for (uint64_t taken = 64 << 10; taken <= kLeastFilesWindow; taken += 64 << 10) {
    peer().SendFrame(Type::kStdinAck, number, taken, uint8_t{0});
    clock_.Advance(std::chrono::milliseconds(1));
  }
  Settle();
  seen += TakeStdin();
  EXPECT_EQ(seen, question.size());
  EXPECT_TRUE(written->has_value());
}

// What is said beside it, as by another session, never waits for longer than the files may delay
// it; and the way is never without them.
TEST_F(CommandStreamTest, OnASlowWayNoMoreIsOnItThanItTakesInAMoment) {
  constexpr uint64_t kPerMs = 2500, kPiece = 64 << 10;
  const uint32_t number = OpenStream(true);
  const std::string question(frames::kFilesStdinWindow, 'q');
  auto written = Go(stream_->Write(question));
  uint64_t sent = TakeStdin(), arrived = 0;
  constexpr uint64_t kMost =
      kPerMs * static_cast<uint64_t>((kRoundTrip + kMostFilesDelay) / std::chrono::milliseconds(1));
  std::deque<std::pair<SteadyTime, uint64_t>> acks;
  for (uint64_t taken = 0; taken < question.size();) {
    clock_.Advance(std::chrono::milliseconds(1));
    const uint64_t before = arrived / kPiece;
    arrived = std::min(sent, arrived + kPerMs);
    if (arrived / kPiece > before) acks.emplace_back(clock_.Now() + kRoundTrip, arrived);
    if (acks.empty() || clock_.Now() < acks.front().first) continue;
    taken = acks.front().second / kPiece * kPiece;
    acks.pop_front();
    peer().SendFrame(Type::kStdinAck, number, taken, uint8_t{0});
    Settle();
    sent += TakeStdin();
    EXPECT_LE(sent - arrived, std::max(kLeastFilesWindow, kMost * 5 / 4)) << taken;
    if (taken > kLeastFilesWindow && sent < question.size()) EXPECT_GT(sent, arrived) << taken;
  }
  EXPECT_TRUE(written->has_value());
}

TEST_F(CommandStreamTest, AnAbortEndsWhatWaitsAndTheCommand) {
  const uint32_t number = OpenStream();
  const std::string question(frames::kStdinWindow + 1, 'q');
  auto written = Go(stream_->Write(question));
  auto read = ReadSome();
  while (peer().Next()) Settle();
  EXPECT_FALSE(written->has_value());
  stream_->Abort();
  Settle();
  EXPECT_EQ(ReasonOf(**written), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_EQ(ReasonOf((*read)->status()), Reason::k_BACKEND_UNREACHABLE);
  const SeenFrame killed = peer().Expect(Type::kSignal);
  EXPECT_EQ(killed.command, number);
  EXPECT_EQ(killed.payload[0], SIGKILL);
  stream_.reset();
  EXPECT_EQ(peer().Expect(Type::kForget).command, number);
}

TEST_F(CommandStreamTest, AStreamDroppedBeforeItsQuestionWasWholeEndsTheCommand) {
  const uint32_t number = OpenStream();
  EXPECT_TRUE((**Go(stream_->Write("half a"))).ok());
  peer().Expect(Type::kStdin);
  stream_.reset();
  EXPECT_EQ(peer().Expect(Type::kSignal).command, number);
  EXPECT_EQ(peer().Expect(Type::kForget).command, number);
}

TEST_F(CommandStreamTest, AStreamDroppedAfterItsAnswerLetsTheCommandEnd) {
  const uint32_t number = OpenStream();
  stream_->CloseStdin();
  auto read = ReadSome();
  peer().Expect(Type::kStdinEof);
  peer().SendData(Type::kOut, number, 0, "all of it");
  Settle();
  EXPECT_EQ(Bytes(read), "all of it");
  stream_.reset();
  EXPECT_EQ(peer().Expect(Type::kForget).command, number);
}

TEST_F(CommandStreamTest, ALostPartOfTheAnswerBreaksIt) {
  const uint32_t number = OpenStream();
  auto read = ReadSome();
  peer().SendData(Type::kOut, number, 5, "the rest");
  Settle();
  EXPECT_EQ(ReasonOf((*read)->status()), Reason::k_BACKEND_UNREACHABLE);
}

TEST_F(CommandStreamTest, GoesOnOverANewConnection) {
  const uint32_t number = OpenStream();
  EXPECT_TRUE((**Go(stream_->Write("question"))).ok());
  peer().Expect(Type::kStdin);
  auto read = ReadSome();
  Reconnect();
  Greet("one", {{number, Listed("files")}});
  peer().Expect(Type::kAttach);
  EXPECT_EQ(peer().Expect(Type::kStdin).payload.substr(8), "question");
  peer().SendData(Type::kOut, number, 0, "answer");
  Settle();
  EXPECT_EQ(Bytes(read), "answer");
}

TEST_F(CommandStreamTest, AnotherRunnerKnowsNothingOfIt) {
  const uint32_t number = OpenStream();
  auto read = ReadSome();
  Reconnect();
  Greet("two");
  AnswerOpen(1);
  Settle();
  EXPECT_EQ(ReasonOf((*read)->status()), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_NE(number, 0u);
}

}  // namespace
}  // namespace hermes
