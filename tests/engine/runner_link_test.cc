// What a link and its commands do while a connection lives.

#include <string>
#include <vector>

#include "tests/engine/runner_link_fixture.h"

namespace hermes {
namespace {

using frames::Type;

TEST_F(RunnerLinkTest, StartCostsOneFrameAndItsEventsComeInOrder) {
  OpenSession();
  const uint32_t number = StartCommand();
  EXPECT_FALSE(peer().Next().has_value());
  peer().SendFrame(Type::kStarted, number, uint32_t{7}, uint8_t{0});
  peer().SendData(Type::kOut, number, 0, "ab");
  peer().SendData(Type::kErr, number, 0, "x");
  peer().SendData(Type::kOut, number, 2, "cd");
  peer().SendExit(number, 3);
  EXPECT_EQ(std::get<StartedEvent>(ReadNow()).pid, 7);
  EXPECT_EQ(ReadData(0), "abcd");
  EXPECT_EQ(ReadData(0), "x");
  const Outcome outcome = std::get<EndedEvent>(ReadNow()).outcome;
  EXPECT_EQ(outcome.state, CommandState::kExited);
  EXPECT_EQ(outcome.value, 3);
  EXPECT_TRUE(std::holds_alternative<DrainedEvent>(ReadNow()));
}

// As of a command that ended while no daemon was there: the rest of its output is in a spool.
TEST_F(RunnerLinkTest, AnEndThatIsToldBeforeTheOutputComesAfterIt) {
  OpenSession();
  const uint32_t number = StartCommand();
  frames::Exit exit;
  exit.out = 6;
  exit.value = 3;
  std::string out;
  frames::Encode(out, number, exit);
  peer().SendData(Type::kOut, number, 0, "abc");
  peer().Send(out);
  EXPECT_EQ(ReadData(0), "abc");
  EXPECT_TRUE(std::holds_alternative<OverEvent>(ReadNow()));
  peer().SendData(Type::kOut, number, 3, "def");
  EXPECT_EQ(ReadData(3), "def");
  EXPECT_EQ(std::get<EndedEvent>(ReadNow()).outcome.value, 3);
}

TEST_F(RunnerLinkTest, MalformedFramesBreakTheConnection) {
  const std::vector<std::pair<const char*, std::string>> cases = {
      {"length below the header", std::string("\x01\x00\x00\x00\x00\x00\x00\x00\x00", 9)},
      {"longer than anything sensible", std::string("\xff\xff\xff\x7f\x48\x00\x00\x00\x00", 9)},
      {"longer than a runner may send", std::string("\x00\x00\x05\x00\x48\x00\x00\x00\x00", 9)},
      {"PONG without token", std::string("\x05\x00\x00\x00\x4d\x00\x00\x00\x00", 9)},
  };
  OpenSession();
  for (const auto& [what, bytes] : cases) {
    peer().Send(bytes);
    EXPECT_TRUE(peer().closed()) << what;
    Reconnect();
    Greet("one");
  }
}

TEST_F(RunnerLinkTest, WhatACommandMayNotSendBreaksTheConnection) {
  OpenSession();
  const uint32_t number = StartCommand(true);
  std::vector<std::string> cases(6);
  frames::Writer(cases[0]).Begin(Type::kDrained, number);  // before its EXIT
  frames::Writer(cases[1]).Begin(Type::kExit, number);
  frames::Writer(cases[2]).Begin(Type::kStarted, number);
  frames::EncodeData(cases[3], number, Type::kOut, ~uint64_t{0}, "over the end of numbers");
  frames::EncodeData(cases[4], number, Type::kOut, 0, std::string(frames::kMaxDataBytes + 1, 'x'));
  frames::Writer ack(cases[5]);
  ack.Begin(Type::kStdinAck, number);
  ack.U64(1);  // nothing was sent
  ack.U8(0);
  ack.End();
  for (size_t i = 0; i < 3; ++i) cases[i].replace(0, 1, 1, '\x05');  // no payload
  for (const std::string& bytes : cases) {
    peer().Send(bytes);
    EXPECT_TRUE(peer().closed()) << "case " << &bytes - cases.data();
    Reconnect();
    Greet("one", {{number, Listed("run-1")}});
    while (peer().Next().has_value()) {
    }
  }
}

TEST_F(RunnerLinkTest, MoreThanTheWindowBreaksTheConnection) {
  OpenSession();
  const uint32_t number = StartCommand();
  const std::string piece(frames::kMaxDataBytes, 'x');
  uint64_t offset = 0;
  while (offset <= kMaxUnreadBytes && !peer().closed()) {
    peer().SendData(Type::kOut, number, offset, piece);
    offset += piece.size();
  }
  EXPECT_TRUE(peer().closed());
  EXPECT_GE(offset, 2 * frames::kOutputWindow) << "an honest runner must not get there";
}

TEST_F(RunnerLinkTest, UnknownFramesAndCommandsAreSkipped) {
  OpenSession();
  const uint32_t number = StartCommand();
  peer().SendFrame(static_cast<Type>(200), number, uint64_t{1});
  peer().SendData(Type::kOut, number + 1000, 0, "nobody's");
  peer().SendData(Type::kOut, number, 0, "mine");
  EXPECT_EQ(ReadData(0), "mine");
  EXPECT_FALSE(peer().closed());
}

TEST_F(RunnerLinkTest, GarbageNeverDoesMoreThanBreakTheConnection) {
  OpenSession();
  const uint32_t number = StartCommand(true);
  SeededRandom random(7);
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    for (uint64_t frames_left = 1 + random.Below(4); frames_left > 0; --frames_left) {
      std::string payload;
      for (uint64_t left = random.Below(24); left > 0; --left) {
        payload.push_back(static_cast<char>(random.Below(4) == 0 ? random.Next() : 0));
      }
      frames::Writer writer(bytes);
      writer.Begin(static_cast<Type>(60 + random.Below(24)), random.Below(2) ? number : 0);
      writer.Raw(payload);
      writer.End();
    }
    peer().Send(bytes);
    while (channel_ && !peer().closed() && peer().Next().has_value()) {
    }
    if (!peer().closed()) continue;
    Reconnect();
    Greet("one", {{number, Listed("run-1")}});
  }
}

TEST_F(RunnerLinkTest, StdinWaitsForTheWindowAndTakesARetryOnce) {
  OpenSession();
  const uint32_t number = StartCommand(true);
  const std::string much(frames::kStdinWindow + 10, 'x');
  auto written = Go(channel_->WriteStdin(0, much, false));
  EXPECT_FALSE(written->has_value()) << "nobody reads, so the writer must wait";
  peer().SendFrame(Type::kStdinAck, number, uint64_t{100}, uint8_t{0});
  ASSERT_TRUE(written->has_value());
  EXPECT_TRUE((*written)->ok());
  EXPECT_EQ(channel_->stdin_accepted(), much.size());
  auto retried = Go(channel_->WriteStdin(0, much, false));
  ASSERT_TRUE(retried->has_value());
  EXPECT_TRUE((*retried)->ok());
  auto gap = Go(channel_->WriteStdin(much.size() + 1, "x", false));
  EXPECT_EQ(ReasonOf(**gap), Reason::k_STDIN_OFFSET_MISMATCH);
  uint64_t sent = 0;
  while (std::optional<SeenFrame> frame = peer().Next()) sent += frame->payload.size() - 8;
  EXPECT_EQ(sent, much.size());
}

TEST_F(RunnerLinkTest, ClosedStdinIsAFailedPrecondition) {
  OpenSession();
  const uint32_t number = StartCommand(true);
  peer().SendFrame(Type::kStdinAck, number, uint64_t{0}, uint8_t{1});
  auto written = Go(channel_->WriteStdin(0, "x", false));
  EXPECT_EQ(ReasonOf(**written), Reason::k_STDIN_CLOSED);
}

TEST_F(RunnerLinkTest, ARefusedStartNeverStarted) {
  OpenSession();
  const uint32_t number = StartCommand();
  peer().SendFrame(Type::kRefused, number, std::string_view("BAD_FIELD"), std::string_view("no"));
  const Outcome outcome = std::get<EndedEvent>(ReadNow()).outcome;
  EXPECT_EQ(outcome.state, CommandState::kNeverStarted);
  EXPECT_EQ(outcome.cause, Cause::kLaunchFailed);
  EXPECT_TRUE(std::holds_alternative<DrainedEvent>(ReadNow()));
}

TEST_F(RunnerLinkTest, AcksAreBatchedUntilAQuarterMegabyteHalfTheWindowOrTheEnd) {
  OpenSession();
  const uint32_t number = StartCommand();
  const std::string piece(frames::kMaxDataBytes, 'x');
  for (uint64_t i = 0; i < 4; ++i) peer().SendData(Type::kOut, number, i * piece.size(), piece);
  channel_->Ack(kAckBytes - 1, 0);
  EXPECT_FALSE(peer().Next().has_value());
  channel_->Ack(kAckBytes, 0);
  EXPECT_EQ(FirstU64(peer().Expect(Type::kAck)), kAckBytes);
  channel_->Ack(kAckBytes + 1, 0);
  EXPECT_FALSE(peer().Next().has_value());
  const uint64_t half = frames::kOutputWindow / 2 / piece.size();
  for (uint64_t i = 4; i < half + 5; ++i)
    peer().SendData(Type::kOut, number, i * piece.size(), piece);
  EXPECT_EQ(FirstU64(peer().Expect(Type::kAck)), kAckBytes + 1) << "half the window is used";
  peer().SendExit(number, 0);
  channel_->Ack(kAckBytes + 2, 0);
  EXPECT_EQ(FirstU64(peer().Expect(Type::kAck)), kAckBytes + 2);
}

TEST_F(RunnerLinkTest, WhatThePlaceCannotDoIsRefusedBeforeAFrameIsSent) {
  OpenSession();  // with open stdin as the only capability
  CommandSpec spec;
  spec.run_id = "run-1";
  spec.pty = PtySize{};
  auto terminal = Go(engine_->Start(spec));
  EXPECT_EQ(ReasonOf((*terminal)->status()), Reason::k_CAPABILITY_MISSING);
  spec.pty.reset();
  spec.argv = {"true"};
  auto argv = Go(engine_->Start(spec));
  EXPECT_EQ(ReasonOf((*argv)->status()), Reason::k_CAPABILITY_MISSING);
  EXPECT_FALSE(peer().Next().has_value());
}

TEST_F(RunnerLinkTest, AnAbandonedReadIsCancelled) {
  OpenSession();
  StartCommand();
  auto read = Go(channel_->Read());
  EXPECT_FALSE(read->has_value());
  channel_->Abandon();
  Settle();
  ASSERT_TRUE(read->has_value());
  EXPECT_EQ((*read)->status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace hermes
