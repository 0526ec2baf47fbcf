// A lane whose callers give up, whose credentials are refused and corrected: over a transport that
// does what the test says, in time that the test moves.

#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/ssh/ssh_host.h"
#include "backends/ssh/ssh_lane.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"
#include "tests/ssh/far_transport.h"

namespace hermes {
namespace {

using Result = std::optional<absl::StatusOr<std::unique_ptr<Stream>>>;

class LaneTest : public testing::Test {
 protected:
  LaneTest() { WriteKey("first"); }
  ~LaneTest() override {
    lane_->Stop();
    clock_.Advance(Duration(0));
  }

  std::string KeyPath() const { return dir_.path() + "/key"; }
  std::string KnownHosts() const { return dir_.path() + "/known_hosts"; }
  // As an editor does: another file of the same name.
  void WriteKey(const std::string& text) {
    std::ofstream(KeyPath() + ".new") << text;
    ASSERT_EQ(std::rename((KeyPath() + ".new").c_str(), KeyPath().c_str()), 0);
  }

  std::shared_ptr<Result> Ask(WishPtr wish = nullptr, bool may_wait = true) {
    auto result = std::make_shared<Result>();
    asio::co_spawn(loop_.executor(), SshLane::Run(lane_, "true", std::move(wish), may_wait),
                   [result](std::exception_ptr, absl::StatusOr<std::unique_ptr<Stream>> stream) {
                     result->emplace(std::move(stream));
                   });
    clock_.Advance(Duration(0));
    return result;
  }
  absl::Status Error(const std::shared_ptr<Result>& result) {
    return result->has_value() ? (*result)->status() : absl::UnknownError("it has not ended");
  }

  // Asks as many lanes of one host; what it reckons for their logins, `each`, less the time that
  // passes, never comes to what it punishes.
  std::vector<std::shared_ptr<Result>> AskFromLanesAndCount(Duration each) {
    std::vector<SshLane::Ptr> lanes;
    std::vector<std::shared_ptr<Result>> asked;
    constexpr int kLanes = 12;
    for (int i = 0; i < kLanes; ++i) {
      lane_ = lanes.emplace_back(MakeLane());
      asked.push_back(Ask());
    }
    Duration penalty{0};
    constexpr Duration kStep = std::chrono::milliseconds(100);
    for (int seen = 0; seen < kLanes; clock_.Advance(kStep)) {
      penalty = std::max(Duration(0), penalty - kStep) + (far_.logins - seen) * each;
      EXPECT_LT(penalty, std::chrono::seconds(15)) << far_.logins;
      seen = far_.logins;
    }
    for (const auto& lane : lanes) lane->Stop();
    return asked;
  }

  TempDir dir_;
  Loop loop_;
  FakeClock clock_{loop_};
  SystemRandom random_;
  Far far_{loop_};
  FarTransport transport_{far_};
  int logins_at_once_ = 1;
  const std::shared_ptr<SshGate> gate_ = std::make_shared<SshGate>(loop_);
  SshLane::Ptr MakeLane(Duration idle_limit = Duration(0)) {
    return std::make_shared<SshLane>(SshLane::Deps{.loop = loop_,
                                                   .clock = clock_,
                                                   .random = random_,
                                                   .transport = transport_,
                                                   .target = {},
                                                   .gate = gate_,
                                                   .logins_at_once = logins_at_once_,
                                                   .idle_limit = idle_limit,
                                                   .credential_files = {KeyPath(), ""},
                                                   .known_hosts_files = {KnownHosts()}});
  }
  SshLane::Ptr lane_ = MakeLane();
};

TEST_F(LaneTest, WhoGivesUpLeavesTheQueueAndDelaysNobody) {
  far_.slots = 1;
  auto first = Ask();
  ASSERT_TRUE(Error(first).ok());
  std::vector<std::shared_ptr<Result>> waiting;
  auto wish = std::make_shared<Wish>();
  for (int i = 0; i < 100; ++i) waiting.push_back(Ask(wish));
  auto last = Ask();
  wish->Withdraw();
  clock_.Advance(Duration(0));
  for (const auto& one : waiting) {
    EXPECT_TRUE(one->has_value());
    EXPECT_FALSE(Error(one).ok());
  }
  EXPECT_FALSE(last->has_value());
  first->reset();
  clock_.Advance(kSlotRetryMost);
  EXPECT_TRUE(Error(last).ok()) << Error(last);
  EXPECT_EQ(far_.started, 2);
}

TEST_F(LaneTest, WhoGivesUpDoesNotWaitForTheHostsAnswerWhichStillTakesTheSlot) {
  far_.opens = false;
  auto wish = std::make_shared<Wish>();
  auto gone = Ask(wish), kept = Ask();
  wish->Withdraw();
  clock_.Advance(Duration(0));
  EXPECT_EQ(ReasonOf(Error(gone)), Reason::k_RECONNECTING) << Error(gone);
  EXPECT_FALSE(kept->has_value());
  far_.opens = true;
  far_.changed.NotifyAll();
  clock_.Advance(Duration(0));
  EXPECT_TRUE(Error(kept).ok()) << Error(kept);
  EXPECT_EQ(far_.started, 2);
  EXPECT_EQ(far_.running, 1u) << "nobody wants the program that came of it";
  far_.slots = 1;
  EXPECT_TRUE(IsSlotBusy(Error(Ask(nullptr, false))));
  kept->reset();
  EXPECT_TRUE(Error(Ask(nullptr, false)).ok()) << "the slot that was given up is still taken";
}

TEST_F(LaneTest, WhoMayNotWaitIsToldAtOnceThatEverySlotIsTaken) {
  far_.slots = 2;
  auto first = Ask(nullptr, false), second = Ask();
  ASSERT_TRUE(Error(first).ok() && Error(second).ok());
  EXPECT_TRUE(lane_->HasRoom()) << "nothing was refused yet";
  EXPECT_TRUE(IsSlotBusy(Error(Ask(nullptr, false))));
  EXPECT_FALSE(lane_->HasRoom()) << "that was learned";
  EXPECT_TRUE(IsSlotBusy(Error(Ask(nullptr, false))));
  auto waiting = Ask();
  clock_.Advance(kSlotProbe);  // it asks the host itself now and then
  EXPECT_TRUE(IsSlotBusy(Error(Ask(nullptr, false))));
  EXPECT_FALSE(waiting->has_value());
  first->reset();
  clock_.Advance(kSlotRetryMost);
  EXPECT_TRUE(Error(waiting).ok()) << Error(waiting);
}

TEST_F(LaneTest, ALimitThatWasLearnedTooLowIsFoundOut) {
  far_.slots = 1;
  auto held = Ask();
  auto refused = Ask();  // teaches the lane that there is one
  far_.slots = 3;
  clock_.Advance(kSlotRetryMost);
  ASSERT_TRUE(Error(refused).ok()) << Error(refused);
  auto third = Ask();
  EXPECT_FALSE(third->has_value());
  clock_.Advance(kSlotProbe);
  EXPECT_TRUE(Error(third).ok()) << Error(third);
  auto fourth = Ask();
  clock_.Advance(10 * kSlotProbe);
  EXPECT_FALSE(fourth->has_value());
  held->reset();
  clock_.Advance(kSlotRetryMost);
  EXPECT_TRUE(Error(fourth).ok()) << Error(fourth);
}

TEST_F(LaneTest, ALoginThatNobodyWaitsForEnds) {
  far_.answers = false;
  auto wish = std::make_shared<Wish>();
  auto one = Ask(wish), two = Ask(wish);
  EXPECT_EQ(far_.logins, 1);
  wish->Withdraw();
  clock_.Advance(Duration(0));
  EXPECT_EQ(ReasonOf(Error(one)), Reason::k_RECONNECTING) << Error(one);
  EXPECT_EQ(ReasonOf(Error(two)), Reason::k_RECONNECTING) << Error(two);
  EXPECT_EQ(far_.given_up, 1);
  far_.answers = true;
  EXPECT_TRUE(Error(Ask()).ok()) << "a login that was given up is no failure to pause after";
}

TEST_F(LaneTest, ALoginGoesOnForWhoStillWaits) {
  far_.answers = false;
  auto wish = std::make_shared<Wish>();
  auto gone = Ask(wish), kept = Ask();
  wish->Withdraw();
  clock_.Advance(Duration(0));
  EXPECT_FALSE(Error(gone).ok());
  EXPECT_FALSE(kept->has_value());
  far_.answers = true;
  far_.changed.NotifyAll();
  clock_.Advance(Duration(0));
  EXPECT_TRUE(Error(kept).ok()) << Error(kept);
  EXPECT_EQ(far_.logins, 1);
  EXPECT_EQ(far_.given_up, 0);
}

TEST_F(LaneTest, AnIdleConnectionIsClosedAndMadeAgainWhenItIsWanted) {
  constexpr Duration kLimit = std::chrono::seconds(60);
  lane_ = MakeLane(kLimit);
  auto one = Ask(), two = Ask();
  one->reset();
  clock_.Advance(2 * kLimit);
  EXPECT_TRUE(lane_->up()) << "somebody still uses it";
  two->reset();
  clock_.Advance(kLimit - std::chrono::seconds(1));
  EXPECT_TRUE(lane_->up());
  auto three = Ask();
  three->reset();
  clock_.Advance(kLimit - std::chrono::seconds(1));
  EXPECT_TRUE(lane_->up()) << "it was used in between";
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_FALSE(lane_->up());
  EXPECT_TRUE(Error(Ask()).ok());
  EXPECT_EQ(far_.logins, 2);
}

TEST_F(LaneTest, StopEndsALogin) {
  far_.answers = false;
  auto one = Ask();
  lane_->Stop();
  clock_.Advance(Duration(0));
  EXPECT_FALSE(Error(one).ok());
  EXPECT_EQ(far_.given_up, 1);
}

// Each pause is between what Backoff allows and twice the one before, up to the most; who asks
// meanwhile waits.
TEST_F(LaneTest, AHostThatCannotBeReachedIsTriedAfterPausesThatGrow) {
  far_.verdict = hermes::Error(Reason::k_BACKEND_UNREACHABLE, "no");
  static constexpr Duration kStep = std::chrono::milliseconds(5);
  std::vector<Duration> pauses;
  EXPECT_EQ(ReasonOf(Error(Ask())), Reason::k_BACKEND_UNREACHABLE);
  for (Duration most = kLoginPauseFirst; most < 4 * kLoginPauseMost; most *= 2) {
    const int before = far_.logins;
    const SteadyTime failed = clock_.Now();
    auto asked = Ask(), another = Ask();
    EXPECT_FALSE(asked->has_value()) << "tried again at once";
    while (far_.logins == before) clock_.Advance(kStep);
    EXPECT_EQ(ReasonOf(Error(asked)), Reason::k_BACKEND_UNREACHABLE);
    EXPECT_EQ(ReasonOf(Error(another)), Reason::k_BACKEND_UNREACHABLE);
    EXPECT_EQ(far_.logins, before + 1) << "they share what comes of one login";
    pauses.push_back(clock_.Now() - failed);
    EXPECT_GE(pauses.back(), std::min(most, kLoginPauseMost) / 2);
    EXPECT_LE(pauses.back(), std::min(most, kLoginPauseMost) + kStep);
  }
  // Of pauses of seconds, all within this of the most: one in millions.
  const auto is_jittered = [](Duration pause) { return pause < kLoginPauseMost - 10 * kStep; };
  EXPECT_TRUE(std::any_of(pauses.end() - 3, pauses.end(), is_jittered));
  far_.verdict = absl::OkStatus();
  auto asked = Ask();
  clock_.Advance(kLoginPauseMost);
  EXPECT_TRUE(Error(asked).ok()) << Error(asked);
}

TEST_F(LaneTest, OnlyOneLoginToAHostIsUnderWayOverAllItsLanes) {
  far_.answers = false;
  std::vector<SshLane::Ptr> lanes;
  std::vector<std::shared_ptr<Result>> asked;
  constexpr int kLanes = 5;
  for (int i = 0; i < kLanes; ++i) {
    lane_ = lanes.emplace_back(MakeLane());
    asked.push_back(Ask());
  }
  for (int i = 1; i <= kLanes; ++i) {
    EXPECT_EQ(far_.logins, i);
    far_.LetOneIn();
    clock_.Advance(Duration(0));
  }
  for (const auto& one : asked) EXPECT_TRUE(Error(one).ok()) << Error(one);
  EXPECT_EQ(far_.most_at_once, 1);
  for (const auto& lane : lanes) lane->Stop();
}

TEST_F(LaneTest, RefusedCredentialsAreNotTriedAgainSoon) {
  far_.verdict = hermes::Error(Reason::k_BACKEND_AUTH_FAILED, "no");
  EXPECT_EQ(ReasonOf(Error(Ask())), Reason::k_BACKEND_AUTH_FAILED);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(ReasonOf(Error(Ask())), Reason::k_BACKEND_AUTH_FAILED);
    clock_.Advance(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(far_.logins, 1);
  clock_.Advance(kAuthPauseMost);
  far_.verdict = absl::OkStatus();
  EXPECT_TRUE(Error(Ask()).ok());
}

// As many accounts and keys as there may be: the host counts our address.
TEST_F(LaneTest, WhatAHostCountsAgainstUsIsBoundedOverAllItsLanes) {
  far_.verdict = hermes::Error(Reason::k_BACKEND_AUTH_FAILED, "no");
  far_.counts.refused = 1;
  for (const auto& one : AskFromLanesAndCount(kRefusalPenalty))
    EXPECT_EQ(ReasonOf(Error(one)), Reason::k_BACKEND_AUTH_FAILED);
}

TEST_F(LaneTest, LoginsThatAreCutInMidWayAreBoundedToo) {
  far_.verdict = hermes::Error(Reason::k_BACKEND_UNREACHABLE, "cut");
  far_.counts.refused = 1;
  for (const auto& one : AskFromLanesAndCount(kRefusalPenalty))
    EXPECT_EQ(ReasonOf(Error(one)), Reason::k_BACKEND_UNREACHABLE);
}

// The pinned key was the third that the host showed.
TEST_F(LaneTest, WhatALoginCostsBeforeItSucceedsIsBoundedToo) {
  far_.counts.left = 2;
  for (const auto& one : AskFromLanesAndCount(2 * kLeftPenalty)) EXPECT_TRUE(Error(one).ok());
}

TEST_F(LaneTest, ALoginThatIsGivenUpInMidWayIsCountedToo) {
  far_.answers = false;
  far_.counts.refused = 1;
  for (int i = 0; i < 2; ++i) {
    auto wish = std::make_shared<Wish>();
    auto gone = Ask(wish);
    EXPECT_EQ(far_.given_up, i);
    wish->Withdraw();
    clock_.Advance(Duration(0));
    EXPECT_EQ(far_.given_up, i + 1);
  }
  far_.answers = true;
  auto third = Ask();
  EXPECT_FALSE(third->has_value()) << "the host counts two by now";
  clock_.Advance(kRefusalPenalty);
  EXPECT_TRUE(Error(third).ok()) << Error(third);
}

// A network that comes back is seen within what a dead one may take to be noticed.
TEST_F(LaneTest, OneThatWasCutInMidWayIsTriedAgainAtOnceAndThenInSeconds) {
  far_.verdict = hermes::Error(Reason::k_BACKEND_UNREACHABLE, "cut");
  far_.counts.refused = 1;
  SteadyTime last = clock_.Now();
  for (int cuts = 1; cuts < 10; ++cuts) {
    Ask();
    while (far_.logins < cuts) clock_.Advance(std::chrono::milliseconds(5));
    EXPECT_LE(clock_.Now() - last, cuts <= 2 ? kLoginPauseFirst : kLoginPauseMost + kLoginPauseMost)
        << cuts;
    last = clock_.Now();
  }
}

TEST_F(LaneTest, AHostKeyThatIsNotTheOneIsNotAskedForAgainSoon) {
  far_.verdict = hermes::Error(Reason::k_HOST_KEY_CHANGED, "another", {{"shown", "it"}});
  EXPECT_EQ(ReasonOf(Error(Ask())), Reason::k_HOST_KEY_CHANGED);
  clock_.Advance(kLoginPauseMost);
  EXPECT_EQ(ReasonOf(Error(Ask())), Reason::k_HOST_KEY_CHANGED);
  EXPECT_EQ(MetadataOf(Error(Ask())).at("shown"), "it");
  EXPECT_EQ(far_.logins, 1);
  WriteKey("does not matter");
  EXPECT_FALSE(Error(Ask()).ok());
  EXPECT_EQ(far_.logins, 1);
  std::ofstream(KnownHosts()) << "corrected";
  far_.verdict = absl::OkStatus();
  EXPECT_TRUE(Error(Ask()).ok());
}

TEST_F(LaneTest, WhoLeavesForTheHostsKeyIsCountedToo) {
  far_.counts.left = 1;
  far_.verdict = hermes::Error(Reason::k_HOST_KEY_UNKNOWN, "no");
  std::vector<SshLane::Ptr> lanes;
  constexpr int kLanes = 30;
  for (int i = 0; i < kLanes; ++i) {
    lane_ = lanes.emplace_back(MakeLane());
    Ask();
  }
  EXPECT_LE(far_.logins * kLeftPenalty, kMostPenalty);
  clock_.Advance(kLanes * kLeftPenalty);
  EXPECT_EQ(far_.logins, kLanes);
  for (const auto& lane : lanes) lane->Stop();
}

TEST_F(LaneTest, ThroughAJumpHostSomeLoginsGoOnAtOnce) {
  far_.answers = false;
  logins_at_once_ = kMostJumpLogins;
  std::vector<SshLane::Ptr> lanes;
  for (int i = 0; i < 2 * kMostJumpLogins; ++i) {
    lane_ = lanes.emplace_back(MakeLane());
    Ask();
  }
  EXPECT_EQ(far_.logins, kMostJumpLogins);
  far_.answers = true;
  far_.changed.NotifyAll();
  clock_.Advance(Duration(0));
  EXPECT_EQ(far_.logins, 2 * kMostJumpLogins);
  for (const auto& lane : lanes) lane->Stop();
}

TEST_F(LaneTest, TheGateIsOfTheHostThatSeesUs) {
  SshGates gates(loop_);
  const SshResolved direct{.host = "a", .user = "u", .port = 22, .sharing_key = "1"};
  SshResolved behind{.host = "b", .user = "u", .port = 22, .sharing_key = "2"};
  const auto gate = gates.For(direct);
  EXPECT_NE(gates.For(behind), gate);
  behind.first_hop = "a:22";
  EXPECT_EQ(gates.For(behind), gate);
}

TEST_F(LaneTest, CorrectedCredentialsAreTriedAtOnce) {
  far_.counts.refused = 1;
  far_.verdict = hermes::Error(Reason::k_BACKEND_AUTH_FAILED, "no");
  EXPECT_FALSE(Error(Ask()).ok());
  std::ofstream(KnownHosts()) << "a login may learn the key of the host that refuses it";
  EXPECT_FALSE(Error(Ask()).ok());
  EXPECT_EQ(far_.logins, 1);
  WriteKey("second");
  EXPECT_FALSE(Error(Ask()).ok());
  EXPECT_EQ(far_.logins, 2);
  EXPECT_FALSE(Error(Ask()).ok());
  EXPECT_EQ(far_.logins, 2) << "the second is paused, too";
  far_.verdict = absl::OkStatus();
  far_.counts = {};
  WriteKey("third");
  auto third = Ask();
  clock_.Advance(kRefusalPenalty);  // the host counts two refusals by now
  EXPECT_TRUE(Error(third).ok()) << Error(third);
  EXPECT_EQ(far_.logins, 3);
}

}  // namespace
}  // namespace hermes
