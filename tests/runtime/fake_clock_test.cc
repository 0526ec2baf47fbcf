#include "tests/fakes/fake_clock.h"

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

namespace hermes {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

class FakeClockTest : public testing::Test {
 protected:
  // Notes when it ran, in seconds since the start.
  absl::AnyInvocable<void()> Note() {
    return [this] { notes_.push_back(Passed()); };
  }
  int64_t Passed() const {
    return std::chrono::duration_cast<seconds>(clock_.Now() - start_).count();
  }

  Loop loop_;
  FakeClock clock_{loop_};
  const SteadyTime start_ = clock_.Now();
  std::vector<int64_t> notes_;
};

TEST_F(FakeClockTest, TimeStandsStillUntilAdvanced) {
  const WallTime wall = clock_.NowWall();
  auto alarm = clock_.At(start_ + seconds(1), Note());
  loop_.RunReady();
  EXPECT_EQ(clock_.Now(), start_);
  EXPECT_TRUE(notes_.empty());
  clock_.Advance(seconds(90));
  EXPECT_EQ(clock_.Now(), start_ + seconds(90));
  EXPECT_EQ(clock_.NowWall(), wall + seconds(90));
}

TEST_F(FakeClockTest, AlarmsRunAtTheirOwnTimeWithinOneAdvance) {
  auto b = clock_.At(start_ + seconds(20), Note());
  auto a = clock_.At(start_ + seconds(10), Note());
  auto c = clock_.At(start_ + seconds(31), Note());
  clock_.Advance(seconds(30));
  EXPECT_EQ(notes_, (std::vector<int64_t>{10, 20}));
  EXPECT_EQ(clock_.alarms(), 1u);
}

TEST_F(FakeClockTest, AlarmsArmedByAlarmsRunWithinTheSameAdvance) {
  std::unique_ptr<Clock::Alarm> alarm;
  std::function<void()> again = [&] {
    notes_.push_back(Passed());
    alarm = clock_.At(clock_.Now() + seconds(10), again);
  };
  alarm = clock_.At(start_ + seconds(10), again);
  clock_.Advance(seconds(35));
  EXPECT_EQ(notes_, (std::vector<int64_t>{10, 20, 30}));
}

TEST_F(FakeClockTest, ReadyWorkRunsBeforeTimePasses) {
  std::unique_ptr<Clock::Alarm> alarm;
  loop_.Post([&] { alarm = clock_.At(clock_.Now() + seconds(1), Note()); });
  clock_.Advance(seconds(5));
  EXPECT_EQ(notes_, (std::vector<int64_t>{1}));
}

TEST_F(FakeClockTest, TiesRunInTheOrderOfArming) {
  std::vector<int> order;
  std::vector<std::unique_ptr<Clock::Alarm>> alarms;
  for (int i = 0; i < 5; ++i) {
    alarms.push_back(clock_.At(start_ + seconds(1), [&order, i] { order.push_back(i); }));
  }
  clock_.Advance(seconds(1));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST_F(FakeClockTest, AdvanceToNextJumpsFromAlarmToAlarm) {
  auto a = clock_.At(start_ + seconds(7), Note());
  auto b = clock_.At(start_ + hours(1), Note());
  EXPECT_TRUE(clock_.AdvanceToNext());
  EXPECT_EQ(Passed(), 7);
  EXPECT_TRUE(clock_.AdvanceToNext());
  EXPECT_EQ(Passed(), 3600);
  EXPECT_FALSE(clock_.AdvanceToNext());
  EXPECT_EQ(Passed(), 3600);
  EXPECT_EQ(notes_, (std::vector<int64_t>{7, 3600}));
}

TEST_F(FakeClockTest, PastAlarmsDoNotTurnTimeBack) {
  auto alarm = clock_.At(start_ - seconds(5), Note());
  clock_.AdvanceToNext();
  EXPECT_EQ(clock_.Now(), start_);
  EXPECT_EQ(notes_, (std::vector<int64_t>{0}));
}

TEST(FakeClockLifeTest, HandleMayOutliveTheClock) {
  Loop loop;
  std::unique_ptr<Clock::Alarm> alarm;
  bool fired = false;
  {
    FakeClock clock(loop);
    alarm = clock.At(clock.Now(), [&] { fired = true; });
  }
  loop.RunReady();
  alarm.reset();
  EXPECT_FALSE(fired);
}

}  // namespace
}  // namespace hermes
