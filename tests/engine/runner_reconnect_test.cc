// What a link does when its connection breaks, and with what was there before it.

#include <string>
#include <vector>

#include "tests/engine/runner_link_fixture.h"

namespace hermes {
namespace {

using frames::Type;

Task<absl::Status> StdinTaken(Channel* channel) {
  co_await channel->StdinTaken();
  co_return absl::OkStatus();
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

TEST_F(RunnerLinkTest, SessionsAreToldWhenContactIsLostAndFoundAgain) {
  std::vector<bool> told;
  RunnerEngineOptions options;
  options.reachable = [&](bool reachable) { told.push_back(reachable); };
  OpenSession(std::move(options));
  Reconnect();
  EXPECT_EQ(told.back(), false);
  Greet("one");
  EXPECT_EQ(told.back(), true);
}

TEST_F(RunnerLinkTest, NumbersGoOnAfterTheHighestListedOne) {
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s"}));
  Greet("one", {{500, Listed("old")}});
  AnswerOpen(1);
  Settle();
  EXPECT_GT(StartCommand(), 500u);
}

TEST_F(RunnerLinkTest, AnAwaitedSessionIsOpenedInTheRoundTripOfTheGreeting) {
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s"}));
  peer().Expect(Type::kHello);
  peer().Expect(Type::kList);
  // No number that the list may name is taken before it is there.
  EXPECT_GT(peer().Expect(Type::kOpen).command, kMaxListedNumber);
}

TEST_F(RunnerLinkTest, WhatWasRefusedWithTheGreetingIsToldAndTheNextOneIsOpened) {
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s", .cwd = "/gone"}));
  Greet("one");
  Refuse(peer().Expect(Type::kOpen).command, "BAD_FIELD", "cwd is not a directory");
  Settle();
  ASSERT_TRUE(opened->has_value());
  EXPECT_EQ(ReasonOf((*opened)->status()), Reason::k_BAD_FIELD);
  EXPECT_FALSE(peer().Next());
  OpenSession();
}

TEST_F(RunnerLinkTest, WhatAnOlderRunnerOpenedIsOpenedAnewByTheOneThatReplacesIt) {
  version_ = frames::kVersion - 1;
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s"}));
  Greet("old");
  EXPECT_FALSE(peer().Expect(Type::kOpen).payload.empty());
  EXPECT_FALSE(peer().Next()) << "it would refuse to leave while it opens a session";
  AnswerOpened(kFirstEarlyTag, 1);
  peer().Expect(Type::kRetire);
  EXPECT_FALSE(opened->has_value());
  version_ = frames::kVersion;
  Reconnect();
  Greet("new");
  AnswerOpen(1);
  Settle();
  ASSERT_TRUE(opened->has_value() && (*opened)->ok());
  EXPECT_EQ((**opened)->incarnation, "new");
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

// Each answer is a while on its way, so the last one comes between two looks.
TEST_F(RunnerLinkTest, ARunnerFarAwayIsGivenUpFifteenSecondsAfterItsLastWord) {
  constexpr Duration kRtt = std::chrono::milliseconds(300);
  OpenSession();
  for (int i = 0; i < 3; ++i) {
    clock_.Advance(kPingInterval - (i == 0 ? Duration(0) : kRtt));
    const uint64_t ping = FirstU64(peer().Expect(Type::kPing));
    clock_.Advance(kRtt);
    peer().SendFrame(Type::kPong, 0, ping);
  }
  clock_.Advance(kSilenceLimit - std::chrono::milliseconds(1));
  EXPECT_FALSE(peer().closed());
  EXPECT_EQ(sandbox_->attempts, 1);
  clock_.Advance(std::chrono::milliseconds(1));
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

TEST_F(RunnerLinkTest, DataForAnEarlierChannelIsNoHoleOfAnAdoptedOne) {
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s"}));
  Greet("one", {{9, Listed("old", 0, 0)}});
  AnswerOpen(1);
  Settle();
  auto adopted = Go(engine_->Adopt("old", 50, 0));
  peer().Expect(Type::kAttach);
  const uint64_t ping = FirstU64(peer().Expect(Type::kPing));
  channel_ = *std::move(**adopted);
  EXPECT_EQ(std::get<StartedEvent>(ReadNow()).pid, 42);
  peer().SendData(Type::kOut, 9, 60, "was on its way when we attached");
  peer().SendData(Type::kOut, 9, 50, "again, from where we asked");
  EXPECT_EQ(ReadData(50), "again, from where we asked");
  peer().SendFrame(Type::kPong, 0, ping);
  peer().SendData(Type::kOut, 9, 90, "a true hole");
  const LostEvent lost = std::get<LostEvent>(ReadNow());
  EXPECT_EQ(lost.from, 76u);
  EXPECT_EQ(lost.to, 90u);
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

TEST_F(RunnerLinkTest, StdinThatAnEarlierDaemonHadSentIsTakenWhileOursIsOnItsWay) {
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s"}));
  Greet("one", {{8, Listed("reads")}});
  AnswerOpen(1);
  Settle();
  auto reads = Go(engine_->Adopt("reads", 0, 0));
  peer().Expect(Type::kAttach);
  peer().Expect(Type::kPing);
  channel_ = *std::move(**reads);
  peer().SendFrame(Type::kStdinAck, 8, uint64_t{3}, uint8_t{0});
  peer().SendFrame(Type::kStdinAck, 8, uint64_t{6}, uint8_t{0});
  EXPECT_FALSE(peer().closed()) << "it was sent before our time";
  auto written = Go(channel_->WriteStdin(0, "0123456789", true));
  ASSERT_TRUE(written->has_value());
  const SeenFrame rest = peer().Expect(Type::kStdin);
  EXPECT_EQ(FirstU64(rest), 6u);
  EXPECT_EQ(rest.payload.substr(8), "6789");
  EXPECT_EQ(FirstU64(peer().Expect(Type::kStdinEof)), 10u);
  auto taken = Go(StdinTaken(channel_.get()));
  EXPECT_FALSE(taken->has_value());
  peer().SendFrame(Type::kStdinAck, 8, uint64_t{10}, uint8_t{1});
  EXPECT_TRUE(taken->has_value());
  peer().SendFrame(Type::kStdinAck, 8, uint64_t{4} + frames::kStdinWindow, uint8_t{1});
  EXPECT_TRUE(peer().closed()) << "more than anybody can have sent";
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

// A runner drops an idle session whose lease has lapsed, and stays the same.
TEST_F(RunnerLinkTest, ASessionWithALeaseIsOpenedAgainBeforeAnythingIsAskedOfIt) {
  int changes = 0;
  RunnerEngineOptions options;
  options.lease = std::chrono::seconds(90);
  options.changed = [&](std::string, uint64_t) { ++changes; };
  OpenSession(std::move(options));
  peer().Expect(Type::kLease);
  const uint32_t number = StartCommand();
  Reconnect();
  auto next = Go(engine_->Start({.run_id = "run-2", .script = "true"}));
  Greet("one");
  EXPECT_FALSE(next->has_value()) << "nothing is started before the session is known to be open";
  peer().Expect(Type::kLease);  // what runs there counts on it
  EXPECT_EQ(AnswerOpen(1).resume, 1);
  EXPECT_EQ(peer().Expect(Type::kStart).command, number) << "it never arrived";
  peer().Expect(Type::kLease);
  EXPECT_EQ(frames::Decode<frames::Start>(peer().Expect(Type::kStart).payload)->run_id, "run-2");
  ASSERT_TRUE(next->has_value());
  EXPECT_TRUE((*next)->ok()) << (*next)->status();
  EXPECT_EQ(changes, 0) << "it is the same runner";
}

TEST_F(RunnerLinkTest, AnAttemptUnderWayEndsWithTheLinks) {
  sandbox_->hang = true;
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  auto opened = Go(engine_->Open({.session_id = "s"}));
  Settle();
  EXPECT_FALSE(opened->has_value());
  Running<absl::Status> stopped = Go(Stopped());
  Settle();
  EXPECT_TRUE(stopped->has_value());
  EXPECT_EQ(ReasonOf((*opened)->status()), Reason::k_DRAINING);
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

TEST_F(RunnerLinkTest, WhatTheStoreDoesNotKnowIsForgottenAtTakeUpAndEndedIfItStillRuns) {
  engine_ = MakeRunnerEngine(links_, {.sandbox = sandbox_});
  SessionSpec spec;
  spec.session_id = "s";
  spec.resume = true;
  spec.live_runs = {{"kept"}};
  auto opened = Go(engine_->Open(spec));
  frames::Listed ended = Listed("a-ended");
  ended.exited = 1;
  frames::Listed other = Listed("of-another-session");
  other.session = "t";
  Greet("one", {{1, Listed("kept")}, {2, ended}, {3, Listed("b-runs")}, {4, other}});
  AnswerOpen(1);
  EXPECT_EQ(frames::Reader(peer().Expect(Type::kForgetRun).payload).Str(), "a-ended");
  EXPECT_EQ(peer().Expect(Type::kKill).command, 3u);
  EXPECT_EQ(frames::Reader(peer().Expect(Type::kForgetRun).payload).Str(), "b-runs");
  EXPECT_FALSE(peer().Next().has_value());
  auto adopted = Go(engine_->Adopt("kept", 0, 0));
  ASSERT_TRUE(adopted->has_value());
  EXPECT_TRUE((*adopted)->ok());
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

}  // namespace
}  // namespace hermes
