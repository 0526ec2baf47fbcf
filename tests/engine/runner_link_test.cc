#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/engine/runner_engine.h"
#include "tests/engine/runner_peer.h"
#include "tests/fakes/fake_clock.h"

namespace hermes {
namespace {

using frames::Type;

// A task under way: value() is empty until it has returned.
template <typename T>
using Running = std::shared_ptr<std::optional<T>>;

class RunnerLinkTest : public ::testing::Test {
 protected:
  ~RunnerLinkTest() override {
    channel_.reset();
    engine_.reset();
    Running<absl::Status> stopped = Go(Stopped());
    Settle();
    EXPECT_TRUE(stopped->has_value()) << "tasks of the link are left";
  }

  template <typename T>
  Running<T> Go(Task<T> task) {
    auto result = std::make_shared<std::optional<T>>();
    asio::co_spawn(loop_.executor(), std::move(task),
                   [result](std::exception_ptr, T value) { result->emplace(std::move(value)); });
    loop_.RunReady();
    return result;
  }
  void Settle() {
    for (int i = 0; i < 20; ++i) loop_.RunReady();
  }
  Task<absl::Status> Stopped() {
    co_await links_.Stop();
    co_return absl::OkStatus();
  }

  RunnerPeer& peer() { return *sandbox_->peers.back(); }

  // Answers HELLO and LIST of the newest connection.
  void Greet(std::string token, std::vector<std::pair<uint32_t, frames::Listed>> listed = {}) {
    peer().Expect(Type::kHello);
    peer().Expect(Type::kList);
    frames::Welcome welcome;
    welcome.version = frames::kVersion;
    welcome.start_token = std::move(token);
    std::string out;
    frames::Encode(out, welcome);
    for (const auto& [number, one] : listed) frames::Encode(out, number, one);
    peer().Send(out);
    peer().SendFrame(Type::kListEnd, 0);
  }

  // Answers an OPEN; returns what it said.
  frames::Open AnswerOpen(uint64_t generation) {
    SeenFrame seen = peer().Expect(Type::kOpen);
    std::string out;
    frames::Opened opened;
    opened.generation = generation;
    opened.cwd = "/home";
    opened.shell = 1;
    frames::Encode(out, seen.command, opened);
    peer().Send(out);
    return frames::Decode<frames::Open>(seen.payload).value_or(frames::Open{});
  }

  // A session that is open at a runner called "one".
  void OpenSession(RunnerEngineOptions options = {}) {
    options.sandbox = sandbox_;
    engine_ = MakeRunnerEngine(links_, std::move(options));
    SessionSpec spec;
    spec.session_id = "s";
    auto opened = Go(engine_->Open(spec));
    Greet("one");
    AnswerOpen(1);
    Settle();
    ASSERT_TRUE(opened->has_value());
    ASSERT_TRUE((*opened)->ok()) << (*opened)->status();
    EXPECT_EQ((**opened)->incarnation, "one");
  }

  // Starts a command and returns its number; it is channel_.
  uint32_t StartCommand(bool stdin_open = false) {
    CommandSpec spec;
    spec.run_id = "run-1";
    spec.script = "true";
    spec.stdin_open = stdin_open;
    auto started = Go(engine_->Start(spec));
    EXPECT_TRUE(started->has_value()) << "Start waited";
    if (!started->has_value() || !(*started)->ok()) return 0;
    channel_ = *std::move(**started);
    return peer().Expect(Type::kStart).command;
  }

  // A broken connection and the next one, not greeted yet.
  void Reconnect() {
    sandbox_->peers.clear();
    for (int i = 0; i < 10 && sandbox_->peers.empty(); ++i) {
      Settle();
      if (sandbox_->peers.empty()) clock_.AdvanceToNext();
    }
    ASSERT_FALSE(sandbox_->peers.empty());
  }

  // The next event, which must be there already.
  ChannelEvent ReadNow() {
    auto event = Go(channel_->Read());
    EXPECT_TRUE(event->has_value()) << "no event";
    if (!event->has_value()) {
      channel_->Abandon();
      Settle();
      return DrainedEvent{};
    }
    return ***event;
  }
  std::string ReadData(uint64_t offset) {
    ChannelEvent event = ReadNow();
    DataEvent* data = std::get_if<DataEvent>(&event);
    EXPECT_NE(data, nullptr);
    if (data == nullptr) return "";
    EXPECT_EQ(data->offset, offset);
    return data->data;
  }

  static frames::Listed Listed(std::string run_id, uint64_t out = 0, uint64_t out_first = 0) {
    frames::Listed listed;
    listed.session = "s";
    listed.run_id = std::move(run_id);
    listed.pid = 42;
    listed.out = out;
    listed.out_first = out_first;
    return listed;
  }

  Loop loop_;
  FakeClock clock_{loop_};
  SeededRandom random_{1};
  RunnerLinks links_{{loop_, clock_, random_, "d"}};
  std::shared_ptr<PeerSandbox> sandbox_ = std::make_shared<PeerSandbox>(loop_);
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Channel> channel_;
};

uint64_t FirstU64(const SeenFrame& frame) { return frames::Reader(frame.payload).U64(); }

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

TEST_F(RunnerLinkTest, TheSameRunnerIsAttachedAtExactOffsets) {
  OpenSession();
  const uint32_t number = StartCommand();
  peer().SendFrame(Type::kStarted, number, uint32_t{7}, uint8_t{0});
  peer().SendData(Type::kOut, number, 0, "0123456789");
  peer().SendData(Type::kErr, number, 0, "abc");
  ReadNow();  // StartedEvent
  EXPECT_EQ(ReadData(0), "0123456789");
  EXPECT_EQ(ReadData(0), "abc");
  Reconnect();
  Greet("one", {{number, Listed("run-1", 12)}});
  SeenFrame attach = peer().Expect(Type::kAttach);
  EXPECT_EQ(attach.command, number);
  frames::Reader reader(attach.payload);
  EXPECT_EQ(reader.U64(), 10u);
  EXPECT_EQ(reader.U64(), 3u);
  peer().SendData(Type::kOut, number, 8, "89AB");  // two bytes are known already
  EXPECT_EQ(ReadData(10), "AB");
}

TEST_F(RunnerLinkTest, BytesThatTheRunnerNoLongerHasAreToldAsLost) {
  OpenSession();
  const uint32_t number = StartCommand();
  peer().SendData(Type::kOut, number, 0, "0123");
  Reconnect();
  Greet("one", {{number, Listed("run-1", 200, 100)}});
  EXPECT_EQ(FirstU64(peer().Expect(Type::kAttach)), 100u);
  EXPECT_EQ(ReadData(0), "0123");
  EXPECT_EQ(std::get<StartedEvent>(ReadNow()).pid, 42);  // learnt from the list
  const LostEvent lost = std::get<LostEvent>(ReadNow());
  EXPECT_EQ(lost.from, 4u);
  EXPECT_EQ(lost.to, 100u);
}

TEST_F(RunnerLinkTest, AStartThatNeverArrivedIsSentAgainToTheSameRunner) {
  OpenSession();
  const uint32_t number = StartCommand();
  Reconnect();
  Greet("one");
  SeenFrame again = peer().Expect(Type::kStart);
  EXPECT_EQ(again.command, number);
  EXPECT_EQ(frames::Decode<frames::Start>(again.payload)->run_id, "run-1");
}

TEST_F(RunnerLinkTest, AStartedCommandIsNeverStartedAgain) {
  OpenSession();
  const uint32_t number = StartCommand();
  peer().SendFrame(Type::kStarted, number, uint32_t{7}, uint8_t{0});
  Reconnect();
  Greet("one");  // it does not list the command
  EXPECT_FALSE(peer().Next().has_value());
  ReadNow();
  EXPECT_EQ(std::get<EndedEvent>(ReadNow()).outcome.state, CommandState::kUnknown);
}

TEST_F(RunnerLinkTest, AnotherRunnerEndsCommandsUnknownAndGetsTheSessionAgain) {
  std::string incarnation;
  RunnerEngineOptions options;
  options.changed = [&](std::string token, uint64_t) { incarnation = std::move(token); };
  OpenSession(std::move(options));
  engine_->SetSudoPassword("sesame");
  peer().Expect(Type::kSecret);
  StartCommand();
  auto kill = Go(channel_->Kill(std::chrono::seconds(1), Cause::kCancelled));
  Reconnect();
  Greet("two", {{1, Listed("someone else's")}});
  EXPECT_EQ(AnswerOpen(5).resume, 1);
  peer().Expect(Type::kSecret);
  EXPECT_EQ(incarnation, "two");
  const Outcome outcome = std::get<EndedEvent>(ReadNow()).outcome;
  EXPECT_EQ(outcome.state, CommandState::kUnknown);
  EXPECT_EQ(outcome.cause, Cause::kRunnerDied);
  EXPECT_TRUE(std::holds_alternative<DrainedEvent>(ReadNow()));
  ASSERT_TRUE(kill->has_value());
  EXPECT_EQ(ReasonOf((*kill)->status()), Reason::k_INCARNATION_CHANGED);
  channel_->Forget();
  EXPECT_FALSE(peer().Next().has_value()) << "the new runner's command of that number was hit";
}

TEST_F(RunnerLinkTest, NumbersGoOnAfterTheHighestListedOne) {
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s"}));
  Greet("one", {{500, Listed("old")}});
  EXPECT_GT(peer().Expect(Type::kOpen).command, 500u);
}

TEST_F(RunnerLinkTest, UnacceptedStdinIsSentAgain) {
  OpenSession();
  const uint32_t number = StartCommand(true);
  auto written = Go(channel_->WriteStdin(0, "0123456789", true));
  ASSERT_TRUE(written->has_value());
  peer().Expect(Type::kStdin);
  peer().Expect(Type::kStdinEof);
  peer().SendFrame(Type::kStdinAck, number, uint64_t{4}, uint8_t{0});
  Reconnect();
  Greet("one", {{number, Listed("run-1")}});
  peer().Expect(Type::kAttach);
  SeenFrame rest = peer().Expect(Type::kStdin);
  frames::Reader reader(rest.payload);
  EXPECT_EQ(reader.U64(), 4u);
  EXPECT_EQ(reader.Rest(), "456789");
  EXPECT_EQ(FirstU64(peer().Expect(Type::kStdinEof)), 10u);
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

TEST_F(RunnerLinkTest, AKillInFlightIsSentAgain) {
  OpenSession();
  const uint32_t number = StartCommand();
  auto kill = Go(channel_->Kill(std::chrono::milliseconds(1500), Cause::kRunTimeout));
  peer().Expect(Type::kKill);
  Reconnect();
  Greet("one", {{number, Listed("run-1")}});
  peer().Expect(Type::kAttach);
  SeenFrame again = peer().Expect(Type::kKill);
  EXPECT_EQ(frames::Reader(again.payload).U32(), 1500u);
  EXPECT_FALSE(kill->has_value());
  std::string out;
  frames::TreeReport report;
  report.signalled = 3;
  report.verified = 1;
  frames::Encode(out, number, Type::kKilled, report);
  peer().Send(out);
  ASSERT_TRUE(kill->has_value());
  EXPECT_EQ((**kill)->signalled, 3u);
  EXPECT_EQ((**kill)->method, KillMethod::kSupervisor);
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

TEST_F(RunnerLinkTest, ASilentRunnerIsGivenUpAfterFifteenSeconds) {
  OpenSession();
  clock_.Advance(std::chrono::seconds(14));
  EXPECT_FALSE(peer().closed());
  EXPECT_EQ(FirstU64(peer().Expect(Type::kPing)), 1u);
  EXPECT_EQ(FirstU64(peer().Expect(Type::kPing)), 2u);
  clock_.Advance(std::chrono::seconds(2));
  EXPECT_TRUE(sandbox_->peers.front()->closed());
  EXPECT_EQ(sandbox_->attempts, 2);
}

TEST_F(RunnerLinkTest, AnAnsweringRunnerIsKept) {
  OpenSession();
  for (int i = 0; i < 20; ++i) {
    clock_.Advance(kPingInterval);
    peer().SendFrame(Type::kPong, 0, FirstU64(peer().Expect(Type::kPing)));
  }
  EXPECT_EQ(sandbox_->attempts, 1);
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
  for (uint64_t i = 4; i < 13; ++i) peer().SendData(Type::kOut, number, i * piece.size(), piece);
  EXPECT_EQ(FirstU64(peer().Expect(Type::kAck)), kAckBytes + 1) << "half the window is used";
  peer().SendExit(number, 0);
  channel_->Ack(kAckBytes + 2, 0);
  EXPECT_EQ(FirstU64(peer().Expect(Type::kAck)), kAckBytes + 2);
}

TEST_F(RunnerLinkTest, ForgetIsSaidAgainUntilAPongProvesThatItArrived) {
  OpenSession();
  const uint32_t number = StartCommand();
  peer().SendExit(number, 0);
  channel_->Forget();
  peer().Expect(Type::kForget);
  Reconnect();
  Greet("one", {{number, Listed("run-1")}});
  EXPECT_EQ(peer().Expect(Type::kForget).command, number);
  clock_.Advance(kPingInterval);
  peer().SendFrame(Type::kPong, 0, FirstU64(peer().Expect(Type::kPing)));
  Reconnect();
  Greet("one");
  EXPECT_FALSE(peer().Next().has_value());
}

TEST_F(RunnerLinkTest, AnUnreachablePlaceIsATypedErrorAndTheNextCallRecovers) {
  sandbox_->refuse = true;
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto failed = Go(engine_->Open({.session_id = "s"}));
  Settle();
  ASSERT_TRUE(failed->has_value());
  EXPECT_EQ(ReasonOf((*failed)->status()), Reason::k_BACKEND_UNREACHABLE);
  sandbox_->refuse = false;
  auto opened = Go(engine_->Open({.session_id = "s"}));
  for (int i = 0; i < 5 && sandbox_->peers.empty(); ++i) clock_.AdvanceToNext();
  Greet("one");
  AnswerOpen(1);
  Settle();
  ASSERT_TRUE(opened->has_value());
  EXPECT_TRUE((*opened)->ok());
}

TEST_F(RunnerLinkTest, AStartWhileThePlaceIsDownFailsAfterOneAttempt) {
  OpenSession();
  sandbox_->refuse = true;
  sandbox_->peers.clear();
  Settle();
  auto started = Go(engine_->Start({.run_id = "run-1", .script = "true"}));
  for (int i = 0; i < 5 && !started->has_value(); ++i) clock_.AdvanceToNext();
  ASSERT_TRUE(started->has_value());
  EXPECT_EQ(ReasonOf((*started)->status()), Reason::k_BACKEND_UNREACHABLE);
}

TEST_F(RunnerLinkTest, AdoptGoesOnAtTheAskedOffsets) {
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s"}));
  Greet("one", {{9, Listed("old", 100, 20)}});
  AnswerOpen(1);
  Settle();
  auto adopted = Go(engine_->Adopt("old", 50, 0));
  ASSERT_TRUE(adopted->has_value());
  ASSERT_TRUE((*adopted)->ok()) << (*adopted)->status();
  channel_ = *std::move(**adopted);
  SeenFrame attach = peer().Expect(Type::kAttach);
  EXPECT_EQ(attach.command, 9u);
  EXPECT_EQ(FirstU64(attach), 50u);
  peer().SendData(Type::kOut, 9, 50, "fifty");
  EXPECT_EQ(std::get<StartedEvent>(ReadNow()).pid, 42);
  EXPECT_EQ(ReadData(50), "fifty");
}

TEST_F(RunnerLinkTest, StdinOfAnAdoptedCommandGoesOnWhereTheRunnerSays) {
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s"}));
  Greet("one", {{8, Listed("reads")}, {9, Listed("read nothing yet")}});
  AnswerOpen(1);
  Settle();
  auto reads = Go(engine_->Adopt("reads", 0, 0));
  peer().Expect(Type::kAttach);
  peer().Expect(Type::kPing);
  channel_ = *std::move(**reads);
  auto written = Go(channel_->WriteStdin(0, "0123456789", false));
  EXPECT_FALSE(written->has_value()) << "it is not known yet how far stdin is";
  peer().SendFrame(Type::kStdinAck, 8, uint64_t{7}, uint8_t{0});
  ASSERT_TRUE(written->has_value());
  EXPECT_EQ(FirstU64(peer().Expect(Type::kStdin)), 7u);
  auto fresh = Go(engine_->Adopt("read nothing yet", 0, 0));
  peer().Expect(Type::kAttach);
  const uint64_t ping = FirstU64(peer().Expect(Type::kPing));
  channel_ = *std::move(**fresh);
  auto first = Go(channel_->WriteStdin(0, "x", false));
  EXPECT_FALSE(first->has_value());
  peer().SendFrame(Type::kPong, 0, ping);
  ASSERT_TRUE(first->has_value());
  EXPECT_EQ(FirstU64(peer().Expect(Type::kStdin)), 0u);
}

TEST_F(RunnerLinkTest, AdoptOfAnUnknownRunPoisonsIt) {
  OpenSession();
  auto adopted = Go(engine_->Adopt("never seen", 0, 0));
  peer().Expect(Type::kList);  // it asks again before it says so
  peer().SendFrame(Type::kListEnd, 0);
  ASSERT_TRUE(adopted->has_value());
  EXPECT_EQ(ReasonOf((*adopted)->status()), Reason::k_COMMAND_UNKNOWN);
  SeenFrame poison = peer().Expect(Type::kForgetRun);
  EXPECT_EQ(frames::Reader(poison.payload).Str(), "never seen");
}

TEST_F(RunnerLinkTest, LeasesAreRenewedEveryThird) {
  RunnerEngineOptions options;
  options.lease = std::chrono::seconds(9);
  OpenSession(std::move(options));
  peer().Expect(Type::kLease);
  int renewals = 0;
  for (int i = 0; i < 3; ++i) {
    clock_.Advance(std::chrono::seconds(3));
    while (std::optional<SeenFrame> frame = peer().Next()) {
      if (frame->type == Type::kLease) ++renewals;
      if (frame->type == Type::kPing) peer().SendFrame(Type::kPong, 0, FirstU64(*frame));
    }
  }
  EXPECT_EQ(renewals, 3);
}

TEST_F(RunnerLinkTest, CloseIsSaidAgainAfterABreak) {
  OpenSession();
  auto closed = Go(engine_->Close(std::chrono::seconds(1)));
  peer().Expect(Type::kClose);
  Reconnect();
  Greet("one");
  SeenFrame again = peer().Expect(Type::kClose);
  std::string out;
  frames::Encode(out, again.command, Type::kClosed, frames::TreeReport{});
  peer().Send(out);
  ASSERT_TRUE(closed->has_value());
  EXPECT_TRUE((*closed)->ok()) << (*closed)->status();
}

TEST_F(RunnerLinkTest, TheNextSessionConnectsAtOnceAfterTheLastOneWent) {
  OpenSession();
  engine_.reset();
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s2"}));
  Settle();
  ASSERT_EQ(sandbox_->peers.size(), 2u);
  Greet("one");
  AnswerOpen(1);
  Settle();
  ASSERT_TRUE(opened->has_value());
  EXPECT_TRUE((*opened)->ok()) << (*opened)->status();
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
