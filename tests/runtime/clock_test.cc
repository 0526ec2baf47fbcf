#include "daemon/runtime/clock.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>

#include "daemon/runtime/event.h"
#include "daemon/runtime/race.h"
#include "tests/fakes/fake_clock.h"
#include "tests/runtime/run.h"

namespace hermes {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

void Spawn(Loop& loop, Task<void> task) {
  asio::co_spawn(loop.executor(), std::move(task), asio::detached);
}

// What both clocks promise. Times are short: the real one waits for them.
class SystemTime {
 public:
  explicit SystemTime(Loop& loop) : loop_(loop), clock_(loop) {}
  Clock& clock() { return clock_; }
  void Pass(Duration duration) {
    asio::steady_timer end(loop_.context(), duration);
    end.async_wait([&](asio::error_code) { loop_.Stop(); });
    loop_.Run();
    loop_.RunReady();  // on a busy machine all timers come due at once: what they woke runs here
  }

 private:
  Loop& loop_;
  SystemClock clock_;
};

class FakeTime {
 public:
  explicit FakeTime(Loop& loop) : clock_(loop) {}
  Clock& clock() { return clock_; }
  void Pass(Duration duration) { clock_.Advance(duration); }

 private:
  FakeClock clock_;
};

template <typename Time>
class ClockTest : public testing::Test {
 protected:
  Loop loop_;
  Time time_{loop_};
  Clock& clock_ = time_.clock();
};

using Times = testing::Types<SystemTime, FakeTime>;
TYPED_TEST_SUITE(ClockTest, Times);

TYPED_TEST(ClockTest, AlarmsRunOnceInTimeOrderAndNotBefore) {
  std::vector<int> order;
  const SteadyTime start = this->clock_.Now();
  SteadyTime ran;
  auto late = this->clock_.At(start + milliseconds(4), [&] { order.push_back(2); });
  auto early = this->clock_.At(start + milliseconds(2), [&] {
    order.push_back(1);
    ran = this->clock_.Now();
  });
  EXPECT_TRUE(order.empty());
  this->time_.Pass(milliseconds(20));
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_GE(ran, start + milliseconds(2));
}

TYPED_TEST(ClockTest, DestroyedHandleNeverFires) {
  bool fired = false;
  auto alarm = this->clock_.At(this->clock_.Now() + milliseconds(1), [&] { fired = true; });
  alarm.reset();
  this->time_.Pass(milliseconds(5));
  EXPECT_FALSE(fired);
}

TYPED_TEST(ClockTest, HandleMayBeDestroyedByItsOwnCallback) {
  std::unique_ptr<Clock::Alarm> alarm;
  auto token = std::make_shared<int>(0);
  alarm = this->clock_.At(this->clock_.Now() + milliseconds(1), [&alarm, token] {
    alarm.reset();
    ++*token;
  });
  this->time_.Pass(milliseconds(5));
  EXPECT_EQ(*token, 1);
  EXPECT_EQ(token.use_count(), 1);
}

TYPED_TEST(ClockTest, HandleDestroyedByAnotherDueCallbackDoesNotFire) {
  bool fired = false;
  std::unique_ptr<Clock::Alarm> second;
  const SteadyTime now = this->clock_.Now();
  auto first = this->clock_.At(now, [&] { second.reset(); });
  second = this->clock_.At(now, [&] { fired = true; });
  this->time_.Pass(milliseconds(5));
  EXPECT_EQ(second, nullptr);
  EXPECT_FALSE(fired);
}

TYPED_TEST(ClockTest, AlarmInThePastRunsSoonButNotInline) {
  bool fired = false;
  auto alarm = this->clock_.At(this->clock_.Now() - seconds(1), [&] { fired = true; });
  EXPECT_FALSE(fired);
  this->time_.Pass(Duration::zero());
  EXPECT_TRUE(fired);
}

TYPED_TEST(ClockTest, CancelledAlarmReleasesItsCallback) {
  auto token = std::make_shared<int>(0);
  auto alarm = this->clock_.At(this->clock_.Now() + hours(1), [token] {});
  EXPECT_EQ(token.use_count(), 2);
  alarm.reset();
  EXPECT_EQ(token.use_count(), 1);
}

Task<void> SleepAndNote(Clock& clock, Duration duration, std::optional<SteadyTime>& woke) {
  co_await clock.SleepFor(duration);
  woke = clock.Now();
}

TYPED_TEST(ClockTest, SleepEndsAtItsTime) {
  const SteadyTime start = this->clock_.Now();
  std::optional<SteadyTime> woke;
  Spawn(this->loop_, SleepAndNote(this->clock_, milliseconds(200), woke));
  this->loop_.RunReady();
  EXPECT_FALSE(woke.has_value());
  this->time_.Pass(milliseconds(250));
  ASSERT_TRUE(woke.has_value());
  EXPECT_GE(*woke, start + milliseconds(200));
}

TYPED_TEST(ClockTest, CancellationEndsASleepEvenAnEndlessOne) {
  std::optional<SteadyTime> woke;
  asio::cancellation_signal cancel;
  asio::co_spawn(this->loop_.executor(), SleepAndNote(this->clock_, Duration::max(), woke),
                 asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  this->time_.Pass(milliseconds(2));
  EXPECT_FALSE(woke.has_value());
  cancel.emit(asio::cancellation_type::terminal);
  this->loop_.RunReady();
  EXPECT_TRUE(woke.has_value());
}

Task<int> FinishOn(Event& event, bool& stopped, int result) {
  while (!stopped) co_await event.Wait();
  co_return result;
}

Task<void> RaceInto(Clock& clock, Duration limit, Event& event, bool& stopped, int& stops,
                    std::string& outcome) {
  bool expired = true;
  const int result = co_await WithDeadline<int>(
      clock, clock.Now() + limit, FinishOn(event, stopped, 7),
      [&] {
        ++stops;
        stopped = true;
        event.NotifyAll();
      },
      &expired);
  outcome = std::to_string(result) + (expired ? " late" : " in time");
}

TEST(WithDeadlineTest, TaskInTimeIsNeverStopped) {
  Loop loop;
  FakeClock clock(loop);
  Event event(loop);
  bool done = false;
  int stops = 0;
  std::string outcome;
  Spawn(loop, RaceInto(clock, seconds(5), event, done, stops, outcome));
  clock.Advance(seconds(4));
  EXPECT_EQ(outcome, "");
  done = true;
  event.NotifyAll();
  loop.RunReady();
  EXPECT_EQ(outcome, "7 in time");
  EXPECT_EQ(clock.alarms(), 0u);
  clock.Advance(seconds(10));
  EXPECT_EQ(stops, 0);
}

TEST(WithDeadlineTest, LateTaskIsStoppedOnceAndAwaited) {
  Loop loop;
  FakeClock clock(loop);
  Event event(loop);
  bool done = false;
  int stops = 0;
  std::string outcome;
  Spawn(loop, RaceInto(clock, seconds(5), event, done, stops, outcome));
  clock.Advance(seconds(60));
  EXPECT_EQ(stops, 1);
  EXPECT_EQ(outcome, "7 late");
}

TEST(WithDeadlineTest, TaskThatReturnsInTheTurnOfItsDeadlineIsNotStoppedAfterwards) {
  Loop loop;
  FakeClock clock(loop);
  Event event(loop);
  bool done = false;
  int stops = 0;
  std::string outcome;
  // Armed first, so it is first at the deadline, too.
  auto finish = clock.At(clock.Now() + seconds(5), [&] {
    done = true;
    event.NotifyAll();
  });
  Spawn(loop, RaceInto(clock, seconds(5), event, done, stops, outcome));
  clock.Advance(seconds(5));
  EXPECT_EQ(outcome, "7 in time");
  EXPECT_EQ(stops, 0);
}

Task<void> StubbornTask(Event& event, int& left) {
  while (left > 0) co_await event.Wait();
}

Task<void> RaceStubborn(Clock& clock, Event& event, int& left, bool& returned) {
  co_await WithDeadline<void>(clock, clock.Now() + seconds(1), StubbornTask(event, left),
                              [&left] { --left; });
  returned = true;
}

TEST(WithDeadlineTest, DeadlineWaitsForATaskThatIgnoresStop) {
  Loop loop;
  FakeClock clock(loop);
  Event event(loop);
  int left = 2;
  bool returned = false;
  Spawn(loop, RaceStubborn(clock, event, left, returned));
  clock.Advance(hours(1));
  EXPECT_EQ(left, 1);
  EXPECT_FALSE(returned);
  left = 0;
  event.NotifyAll();
  loop.RunReady();
  EXPECT_TRUE(returned);
}

}  // namespace
}  // namespace hermes
