#include "daemon/runtime/loop.h"

#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace hermes {
namespace {

TEST(LoopTest, PostNeverRunsInline) {
  Loop loop;
  std::vector<int> order;
  loop.Post([&] {
    loop.Post([&] { order.push_back(2); });
    order.push_back(1);
  });
  EXPECT_TRUE(order.empty());
  loop.RunReady();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(LoopTest, PostTakesMoveOnlyWork) {
  Loop loop;
  int seen = 0;
  loop.Post([value = std::make_unique<int>(7), &seen] { seen = *value; });
  loop.RunReady();
  EXPECT_EQ(seen, 7);
}

TEST(LoopTest, IdleRunWaitsForPostsOfOtherThreads) {
  Loop loop;
  int runs = 0;
  std::thread runner([&] { loop.Run(); });
  for (int i = 0; i < 1000; ++i) loop.Post([&] { ++runs; });
  loop.Post([&] { loop.Stop(); });
  runner.join();
  EXPECT_EQ(runs, 1000);
}

TEST(LoopTest, StopLeavesPendingHandlersForTheNextRun) {
  Loop loop;
  bool ran = false;
  loop.Post([&] {
    loop.Post([&] {
      ran = true;
      loop.Stop();
    });
    loop.Stop();
  });
  loop.Run();
  EXPECT_FALSE(ran);
  loop.Run();
  EXPECT_TRUE(ran);
}

TEST(LoopTest, StopBeforeRunEndsThatRun) {
  Loop loop;
  loop.Stop();
  loop.Run();
  loop.Post([&] { loop.Stop(); });
  loop.Run();
}

TEST(LoopTest, RunReadyReturnsWhenNothingIsReadyAndMayBeRepeated) {
  Loop loop;
  loop.RunReady();
  int runs = 0;
  loop.Post([&] { ++runs; });
  loop.RunReady();
  loop.Post([&] { ++runs; });
  loop.RunReady();
  EXPECT_EQ(runs, 2);
}

TEST(LoopTest, OnLoopIsTrueOnlyInsideHandlers) {
  Loop loop;
  EXPECT_FALSE(loop.OnLoop());
  bool inside = false;
  bool elsewhere = true;
  loop.Post([&] {
    inside = loop.OnLoop();
    std::thread([&] { elsewhere = loop.OnLoop(); }).join();
  });
  loop.RunReady();
  EXPECT_TRUE(inside);
  EXPECT_FALSE(elsewhere);
  EXPECT_FALSE(loop.OnLoop());
}

TEST(LoopTest, MaxLagIsHowLongAPostWaitedAndIsTakenOnce) {
  constexpr auto kBlocked = std::chrono::milliseconds(20);
  Loop loop;
  loop.Post([&] {
    const auto end = std::chrono::steady_clock::now() + kBlocked;
    while (std::chrono::steady_clock::now() < end) {
    }
  });
  loop.Post([] {});
  loop.RunReady();
  EXPECT_GE(loop.TakeMaxLag(), kBlocked);
  EXPECT_EQ(loop.TakeMaxLag().count(), 0);
}

TEST(LoopTest, WorkLeftBehindDiesWithTheLoop) {
  auto token = std::make_shared<int>(1);
  {
    Loop loop;
    loop.Post([token] { ADD_FAILURE(); });
  }
  EXPECT_EQ(token.use_count(), 1);
}

TEST(LoopDeathTest, RunInsideAHandlerIsABug) {
  Loop loop;
  loop.Post([&] { loop.RunReady(); });
  EXPECT_DEATH(loop.RunReady(), "CHECK failed");
}

}  // namespace
}  // namespace hermes
