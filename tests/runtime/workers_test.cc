#include "daemon/runtime/workers.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "absl/status/statusor.h"
#include "daemon/runtime/task_group.h"
#include "tests/runtime/run.h"

namespace hermes {
namespace {

// Holds worker threads until it is opened.
class Gate {
 public:
  void Pass() {
    MutexLock lock(mutex_);
    ++waiting_;
    changed_.NotifyAll();
    while (!open_) changed_.Wait(mutex_);
  }
  void AwaitWaiting(int count) {
    MutexLock lock(mutex_);
    while (waiting_ < count) changed_.Wait(mutex_);
  }
  void Open() {
    MutexLock lock(mutex_);
    open_ = true;
    changed_.NotifyAll();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ GUARDED_BY(mutex_) = false;
  int waiting_ GUARDED_BY(mutex_) = 0;
};

TEST(WorkersTest, RunReturnsTheResultOfAnotherThread) {
  Loop loop;
  ThreadWorkers workers(loop, 2);
  const auto id = RunTask(loop, workers.Run([] { return std::this_thread::get_id(); }));
  EXPECT_NE(id, std::this_thread::get_id());
}

TEST(WorkersTest, MovesWorkAndResultThrough) {
  Loop loop;
  ThreadWorkers workers(loop, 1);
  auto result =
      RunTask(loop, workers.Run([text = std::make_unique<std::string>("moved")]() mutable {
        return absl::StatusOr<std::unique_ptr<std::string>>(std::move(text));
      }));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(**result, "moved");
}

Task<void> RunInto(Workers& workers, int number, std::vector<int>& started, Mutex& mutex,
                   std::vector<int>& results) {
  auto job = [number, &started, &mutex] {
    MutexLock lock(mutex);
    started.push_back(number);
    return number;
  };
  results.push_back(co_await workers.Run(job));
}

Task<void> HoldOne(Workers& workers, Gate& gate) {
  auto job = [&gate] {
    gate.Pass();
    return 0;
  };
  co_await workers.Run(job);
}

TEST(WorkersTest, QueuedJobsStartInOrderAndAllReturn) {
  constexpr int kJobs = 5000;
  Loop loop;
  ThreadWorkers workers(loop, 1);
  TaskGroup group(loop);
  Gate gate;
  Mutex mutex;
  std::vector<int> started, results, expected;
  group.Spawn("gate", HoldOne(workers, gate));
  for (int i = 0; i < kJobs; ++i) {
    group.Spawn("job", RunInto(workers, i, started, mutex, results));
    expected.push_back(i);
  }
  loop.RunReady();
  gate.AwaitWaiting(1);
  EXPECT_TRUE(results.empty());
  gate.Open();
  RunTask(loop, group.Join());
  EXPECT_EQ(started, expected);
  EXPECT_EQ(results, expected);
}

TEST(WorkersTest, ThreadsWorkAtTheSameTime) {
  Loop loop;
  ThreadWorkers workers(loop, 3);
  TaskGroup group(loop);
  Gate gate;
  for (int i = 0; i < 3; ++i) group.Spawn("held", HoldOne(workers, gate));
  loop.RunReady();
  gate.AwaitWaiting(3);
  gate.Open();
  RunTask(loop, group.Join());
}

TEST(WorkersTest, DestructorRunsWhatIsQueued) {
  Loop loop;
  TaskGroup group(loop);
  Gate gate;
  Mutex mutex;
  std::vector<int> started, results;
  std::thread opener;
  {
    ThreadWorkers workers(loop, 1);
    group.Spawn("gate", HoldOne(workers, gate));
    for (int i = 0; i < 3; ++i) {
      group.Spawn("job", RunInto(workers, i, started, mutex, results));
    }
    loop.RunReady();
    gate.AwaitWaiting(1);
    opener = std::thread([&gate] { gate.Open(); });
  }
  opener.join();
  EXPECT_EQ(started.size(), 3u);
  loop.RunReady();
  EXPECT_EQ(results.size(), 3u);
  EXPECT_TRUE(group.empty());
}

TEST(WorkersTest, InlineWorkersFinishWithinRunReady) {
  Loop loop;
  InlineWorkers workers(loop);
  TaskGroup group(loop);
  Mutex mutex;
  std::vector<int> started, results;
  group.Spawn("job", RunInto(workers, 3, started, mutex, results));
  loop.RunReady();
  EXPECT_EQ(results, (std::vector<int>{3}));
}

}  // namespace
}  // namespace hermes
