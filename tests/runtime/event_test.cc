#include "daemon/runtime/event.h"

#include <memory>
#include <vector>

#include <gtest/gtest.h>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>

#include "daemon/runtime/pending.h"
#include "tests/runtime/run.h"

namespace hermes {
namespace {

Task<void> WaitAndCount(Event& event, int& count) {
  co_await event.Wait();
  ++count;
}

void Spawn(Loop& loop, Task<void> task) {
  asio::co_spawn(loop.executor(), std::move(task), asio::detached);
}

TEST(EventTest, IdleEventIsTiny) { EXPECT_LE(sizeof(Event), 32u); }

TEST(EventTest, NotifyAllWakesEveryWaiterOnce) {
  Loop loop;
  Event event(loop);
  int woken = 0;
  for (int i = 0; i < 3; ++i) Spawn(loop, WaitAndCount(event, woken));
  loop.RunReady();
  EXPECT_TRUE(event.has_waiters());
  EXPECT_EQ(woken, 0);
  event.NotifyAll();
  event.NotifyAll();
  EXPECT_FALSE(event.has_waiters());
  loop.RunReady();
  EXPECT_EQ(woken, 3);
}

TEST(EventTest, WakeIsNeverInline) {
  Loop loop;
  Event event(loop);
  int woken = 0;
  Spawn(loop, WaitAndCount(event, woken));
  loop.RunReady();
  loop.Post([&] {
    event.NotifyAll();
    EXPECT_EQ(woken, 0);
  });
  loop.RunReady();
  EXPECT_EQ(woken, 1);
}

TEST(EventTest, NotificationBeforeTheWaitIsNotRemembered) {
  Loop loop;
  Event event(loop);
  int woken = 0;
  event.NotifyAll();
  Spawn(loop, WaitAndCount(event, woken));
  loop.RunReady();
  EXPECT_EQ(woken, 0);
  event.NotifyAll();
  loop.RunReady();
  EXPECT_EQ(woken, 1);
}

Task<void> WaitRepeatedly(Event& event, int rounds, int& seen) {
  while (seen < rounds) {
    co_await event.Wait();
    ++seen;
  }
}

TEST(EventTest, WaiterThatWaitsAgainNeedsAnotherNotification) {
  Loop loop;
  Event event(loop);
  int seen = 0;
  Spawn(loop, WaitRepeatedly(event, 100, seen));
  for (int round = 1; round <= 100; ++round) {
    loop.RunReady();
    event.NotifyAll();
    event.NotifyAll();
    loop.RunReady();
    EXPECT_EQ(seen, round);
  }
  EXPECT_FALSE(event.has_waiters());
}

Task<void> WaitAndDestroy(std::unique_ptr<Event>& event, bool& done) {
  co_await event->Wait();
  event.reset();
  done = true;
}

TEST(EventTest, ResumedWaiterMayDestroyTheEventBeforeTheOthersResume) {
  Loop loop;
  auto event = std::make_unique<Event>(loop);
  bool done = false;
  int woken = 0;
  Spawn(loop, WaitAndDestroy(event, done));
  Spawn(loop, WaitAndCount(*event, woken));
  loop.RunReady();
  event->NotifyAll();
  loop.RunReady();
  EXPECT_TRUE(done);
  EXPECT_EQ(woken, 1);
}

TEST(EventTest, NotifierMayDestroyTheEventAtOnce) {
  Loop loop;
  auto event = std::make_unique<Event>(loop);
  int woken = 0;
  Spawn(loop, WaitAndCount(*event, woken));
  loop.RunReady();
  event->NotifyAll();
  event.reset();
  loop.RunReady();
  EXPECT_EQ(woken, 1);
}

TEST(EventTest, CancellationEndsTheWaitAndLeavesNoWaiter) {
  Loop loop;
  Event event(loop);
  asio::cancellation_signal cancel;
  int woken = 0;
  asio::co_spawn(loop.executor(), WaitAndCount(event, woken),
                 asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  loop.RunReady();
  EXPECT_TRUE(event.has_waiters());
  cancel.emit(asio::cancellation_type::terminal);
  loop.RunReady();
  EXPECT_EQ(woken, 1);
  EXPECT_FALSE(event.has_waiters());
}

TEST(EventTest, CancellationAfterTheNotificationWakesOnce) {
  Loop loop;
  auto event = std::make_unique<Event>(loop);
  asio::cancellation_signal cancel;
  int woken = 0;
  asio::co_spawn(loop.executor(), WaitAndCount(*event, woken),
                 asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  loop.RunReady();
  event->NotifyAll();
  event.reset();
  cancel.emit(asio::cancellation_type::terminal);
  loop.RunReady();
  EXPECT_EQ(woken, 1);
}

struct Owner {
  explicit Owner(Loop& loop) : event(loop) {}
  Event event;
};

Task<void> WaitHolding(std::shared_ptr<Owner> owner) { co_await owner->event.Wait(); }

TEST(EventTest, WaiterThatDiesWithTheLoopUnlinksItself) {
  std::weak_ptr<Owner> watch;
  {
    Loop loop;
    auto owner = std::make_shared<Owner>(loop);
    watch = owner;
    Spawn(loop, WaitHolding(std::move(owner)));
    loop.RunReady();
    EXPECT_FALSE(watch.expired());
  }
  EXPECT_TRUE(watch.expired());
}

TEST(EventTest, TenThousandWaitersWakeInTheirOrder) {
  constexpr int kWaiters = 10000;
  struct InOrder {
    static Task<void> Wait(Event& event, std::vector<int>& order, int number) {
      co_await event.Wait();
      order.push_back(number);
    }
  };
  Loop loop;
  Event event(loop);
  std::vector<int> order;
  for (int i = 0; i < kWaiters; ++i) Spawn(loop, InOrder::Wait(event, order, i));
  loop.RunReady();
  event.NotifyAll();
  loop.RunReady();
  ASSERT_EQ(order.size(), static_cast<size_t>(kWaiters));
  for (int i = 0; i < kWaiters; ++i) ASSERT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(EventDeathTest, DestroyingAnEventWithWaitersIsABug) {
  Loop loop;
  auto event = std::make_unique<Event>(loop);
  int woken = 0;
  Spawn(loop, WaitAndCount(*event, woken));
  loop.RunReady();
  EXPECT_DEATH(event.reset(), "CHECK failed");
  event->NotifyAll();
  loop.RunReady();
}

TEST(PendingTest, TakesWhatAnotherThreadSets) {
  Loop loop;
  Pending<std::unique_ptr<int>> pending(loop);
  std::thread setter([pending] { pending.Set(std::make_unique<int>(5)); });
  std::unique_ptr<int> taken = RunTask(loop, pending.Take());
  setter.join();
  EXPECT_EQ(*taken, 5);
}

TEST(PendingTest, TakesWhatWasSetBefore) {
  Loop loop;
  Pending<int> pending(loop);
  pending.Set(5);
  EXPECT_EQ(RunTask(loop, pending.Take()), 5);
}

Task<void> TakeInto(Pending<int> pending, int& taken) { taken = co_await pending.Take(); }

TEST(PendingTest, CancellationDoesNotEndTake) {
  Loop loop;
  Pending<int> pending(loop);
  asio::cancellation_signal cancel;
  int taken = 0;
  asio::co_spawn(loop.executor(), TakeInto(pending, taken),
                 asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  loop.RunReady();
  for (int i = 0; i < 3; ++i) {
    cancel.emit(asio::cancellation_type::terminal);
    loop.RunReady();
    EXPECT_EQ(taken, 0);
  }
  pending.Set(5);
  loop.RunReady();
  EXPECT_EQ(taken, 5);
}

TEST(PendingTest, ValueNobodyTookIsReleased) {
  auto value = std::make_shared<int>(1);
  Loop loop;
  {
    Pending<std::shared_ptr<int>> pending(loop);
    pending.Set(value);
    loop.RunReady();
    EXPECT_EQ(value.use_count(), 2);
  }
  EXPECT_EQ(value.use_count(), 1);
}

TEST(PendingDeathTest, SettingTwiceIsABug) {
  Loop loop;
  Pending<int> pending(loop);
  pending.Set(1);
  pending.Set(2);
  EXPECT_DEATH(loop.RunReady(), "CHECK failed");
}

}  // namespace
}  // namespace hermes
