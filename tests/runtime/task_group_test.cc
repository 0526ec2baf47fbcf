#include "daemon/runtime/task_group.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/runtime/run.h"

namespace hermes {
namespace {

Task<void> Note(std::vector<std::string>& notes, std::string text) {
  notes.push_back(std::move(text));
  co_return;
}

Task<void> WaitFor(Event& event, bool& open) {
  while (!open) co_await event.Wait();
}

Task<void> JoinInto(TaskGroup& group, bool& joined) {
  co_await group.Join();
  joined = true;
}

TEST(TaskGroupTest, SpawnStartsOnTheNextTurnInOrder) {
  Loop loop;
  TaskGroup group(loop);
  std::vector<std::string> notes;
  loop.Post([&] {
    group.Spawn("a", Note(notes, "a"));
    group.Spawn("b", Note(notes, "b"));
    EXPECT_TRUE(notes.empty());
  });
  loop.RunReady();
  EXPECT_EQ(notes, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(group.empty());
}

TEST(TaskGroupTest, NamesAreThoseOfLiveTasks) {
  Loop loop;
  TaskGroup group(loop);
  Event event(loop);
  bool open = false;
  std::vector<std::string> notes;
  group.Spawn("waits", WaitFor(event, open));
  group.Spawn("ends", Note(notes, ""));
  group.Spawn("waits", WaitFor(event, open));
  EXPECT_EQ(group.Names(), (std::vector<std::string>{"waits", "ends", "waits"}));
  loop.RunReady();
  EXPECT_EQ(group.Names(), (std::vector<std::string>{"waits", "waits"}));
  open = true;
  event.NotifyAll();
  loop.RunReady();
  EXPECT_TRUE(group.empty());
}

TEST(TaskGroupTest, JoinOfAnEmptyGroupReturns) {
  Loop loop;
  TaskGroup group(loop);
  RunTask(loop, group.Join());
}

Task<void> SpawnAnother(TaskGroup& group, Event& event, bool& first, bool& second) {
  while (!first) co_await event.Wait();
  group.Spawn("second", WaitFor(event, second));
}

TEST(TaskGroupTest, JoinWaitsForTasksSpawnedMeanwhile) {
  Loop loop;
  TaskGroup group(loop);
  Event event(loop);
  bool first = false, second = false, joined = false;
  group.Spawn("first", SpawnAnother(group, event, first, second));
  TaskGroup joiners(loop);
  joiners.Spawn("join", JoinInto(group, joined));
  loop.RunReady();
  first = true;
  event.NotifyAll();
  loop.RunReady();
  EXPECT_FALSE(joined);
  second = true;
  event.NotifyAll();
  loop.RunReady();
  EXPECT_TRUE(joined);
}

Task<void> JoinAndDestroy(std::unique_ptr<TaskGroup>& group) {
  co_await group->Join();
  group.reset();
}

TEST(TaskGroupTest, JoinerMayDestroyTheGroup) {
  Loop loop;
  auto group = std::make_unique<TaskGroup>(loop);
  TaskGroup joiners(loop);
  std::vector<std::string> notes;
  group->Spawn("only", Note(notes, "x"));
  joiners.Spawn("join", JoinAndDestroy(group));
  loop.RunReady();
  EXPECT_EQ(group, nullptr);
}

Task<void> Hold(std::shared_ptr<int> token) {
  EXPECT_EQ(token.use_count(), 2);
  co_return;
}

TEST(TaskGroupTest, EndedTaskReleasesItsParametersBeforeJoinReturns) {
  Loop loop;
  TaskGroup group(loop);
  auto token = std::make_shared<int>(1);
  group.Spawn("holds", Hold(token));
  RunTask(loop, group.Join());
  EXPECT_EQ(token.use_count(), 1);
}

Task<void> Throw() {
  throw std::runtime_error("the reason");
  co_return;
}

TEST(TaskGroupDeathTest, EscapedExceptionEndsTheProcessWithTheTasksName) {
  Loop loop;
  TaskGroup group(loop);
  EXPECT_DEATH(
      {
        group.Spawn("pump of s1", Throw());
        loop.RunReady();
      },
      "task pump of s1 let an exception escape: the reason");
}

TEST(TaskGroupDeathTest, DestroyingAGroupWithLiveTasksIsABug) {
  EXPECT_DEATH(
      {
        Loop loop;
        Event event(loop);
        bool open = false;
        TaskGroup group(loop);
        group.Spawn("lives", WaitFor(event, open));
      },
      "CHECK failed");
}

}  // namespace
}  // namespace hermes
