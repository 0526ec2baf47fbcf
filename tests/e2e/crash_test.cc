// kill -9 at random moments under load: nothing runs twice, nothing is lost, nothing is left
// behind.

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"

namespace hermes {
namespace {

constexpr int kDaemonDeaths = 200;
constexpr int kRunnerDeaths = 50;
constexpr int kClients = 4;

size_t Lines(const std::string& path) {
  std::ifstream file(path);
  return static_cast<size_t>(std::count(std::istreambuf_iterator<char>(file), {}, '\n'));
}

struct Job {
  v1::ExecuteRequest request;
  std::string mark;  // the command adds one line to this file when it starts
  int code = 0;
  int lines = 0;
  Seen seen;
};

class CrashTest : public testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    daemon_.CreateSession("s");
  }

  Job NewJob(int number) {
    Job job;
    job.mark = daemon_.dir() + "/mark" + std::to_string(number);
    job.code = static_cast<int>(random_() % 100);
    job.lines = static_cast<int>(random_() % 30000);
    job.request = Shell("s", "echo x >>" + job.mark + "; seq " + std::to_string(job.lines) +
                                 "; exit " + std::to_string(job.code));
    (*job.request.mutable_env())["CRASH_COOKIE"] = cookie_;
    return job;
  }

  static std::string Expected(int lines) {
    std::string text;
    for (int i = 1; i <= lines; ++i) text += std::to_string(i) + "\n";
    return text;
  }

  // A moment within the first 40 ms, without sleeping on the clock: spins.
  void SomeMoment() {
    auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(random_() % 40'000);
    while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
  }

  std::mt19937 random_{std::random_device{}()};
  std::string cookie_ = NewUuid();
  DaemonProcess daemon_;
};

TEST_F(CrashTest, DaemonKilledAtRandomMomentsRunsNothingTwiceAndLosesNothing) {
  for (int round = 0; round < kDaemonDeaths; ++round) {
    std::vector<Job> jobs;
    for (int i = 0; i < kClients; ++i) jobs.push_back(NewJob(round * kClients + i));
    std::vector<std::thread> clients;
    for (Job& job : jobs) {
      clients.emplace_back([this, &job] { job.seen = ExecuteToEnd(daemon_, job.request); });
    }
    SomeMoment();
    daemon_.Kill(SIGKILL);
    daemon_.Start();
    for (std::thread& client : clients) client.join();
    for (const Job& job : jobs) {
      size_t starts = Lines(job.mark);
      ASSERT_LE(starts, 1u) << "round " << round << ": run twice";
      ASSERT_EQ(job.seen.finished, 1)
          << "round " << round << ": " << job.seen.status.error_message();
      if (job.seen.command.state() == v1::Command::NEVER_STARTED) {
        ASSERT_EQ(starts, 0u) << "round " << round;
        continue;
      }
      ASSERT_EQ(job.seen.command.state(), v1::Command::EXITED) << "round " << round;
      ASSERT_EQ(starts, 1u) << "round " << round;
      ASSERT_EQ(job.seen.command.exit().code(), job.code) << "round " << round;
      ASSERT_EQ(job.seen.out, Expected(job.lines)) << "round " << round;
    }
  }
  EXPECT_TRUE(ProcessesWithCookie("CRASH_COOKIE=" + cookie_).empty());
}

TEST_F(CrashTest, RunnerKilledAtRandomMomentsInventsNothingAndLeavesNoOrphan) {
  for (int round = 0; round < kRunnerDeaths; ++round) {
    std::vector<Job> jobs;
    for (int i = 0; i < kClients; ++i) jobs.push_back(NewJob(round * kClients + i));
    std::vector<std::thread> clients;
    for (Job& job : jobs) {
      clients.emplace_back([this, &job] { job.seen = ExecuteToEnd(daemon_, job.request); });
    }
    SomeMoment();
    if (pid_t runner = daemon_.RunnerPid(); runner != 0) ::kill(runner, SIGKILL);
    for (std::thread& client : clients) client.join();
    for (const Job& job : jobs) {
      size_t starts = Lines(job.mark);
      ASSERT_LE(starts, 1u) << "round " << round << ": run twice";
      ASSERT_EQ(job.seen.finished, 1)
          << "round " << round << ": " << job.seen.status.error_message();
      std::string whole = Expected(job.lines);
      ASSERT_EQ(job.seen.out, whole.substr(0, job.seen.out.size())) << "round " << round;
      if (job.seen.command.state() == v1::Command::EXITED) {
        ASSERT_EQ(starts, 1u);
        ASSERT_EQ(job.seen.command.exit().code(), job.code);
        ASSERT_EQ(job.seen.out.size(), whole.size());
      }
    }
  }
  EXPECT_TRUE(WaitUntilNoneHas("CRASH_COOKIE=" + cookie_));
}

}  // namespace
}  // namespace hermes
