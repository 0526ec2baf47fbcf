// kill -9 at random moments under load: nothing runs twice, nothing is lost, nothing is left
// behind.

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
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
// A runner that dies again and again is started later and later. So its deaths are spread: a few
// for each daemon, and some daemons at a time.
constexpr int kDeathsPerDaemon = 5;
constexpr int kDaemonsAtATime = 5;

size_t Lines(const std::string& path) {
  std::ifstream file(path);
  return static_cast<size_t>(std::count(std::istreambuf_iterator<char>(file), {}, '\n'));
}

std::string Expected(int lines) {
  std::string text;
  for (int i = 1; i <= lines; ++i) text += std::to_string(i) + "\n";
  return text;
}

struct Job {
  v1::ExecuteRequest request;
  std::string mark;  // the command adds one line to this file when it starts
  int code = 0;
  int lines = 0;
  Seen seen;
};

// A daemon with one session and clients that keep it busy. One thread each.
class BusyDaemon {
 public:
  BusyDaemon() {
    daemon_.Start();
    daemon_.CreateSession("s");
  }

  // Runs jobs with all clients, does `harm` at some moment, and gives what became of the jobs.
  std::vector<Job> Round(const std::function<void(DaemonProcess&)>& harm) {
    std::vector<Job> jobs;
    for (int i = 0; i < kClients; ++i) jobs.push_back(NewJob());
    std::vector<std::thread> clients;
    for (Job& job : jobs) {
      clients.emplace_back([this, &job] { job.seen = ExecuteToEnd(daemon_, job.request); });
    }
    SomeMoment();
    harm(daemon_);
    for (std::thread& client : clients) client.join();
    return jobs;
  }

  std::string cookie() const { return "CRASH_COOKIE=" + cookie_; }

 private:
  Job NewJob() {
    Job job;
    job.mark = daemon_.dir() + "/mark" + std::to_string(++made_);
    job.code = static_cast<int>(random_() % 100);
    job.lines = static_cast<int>(random_() % 30000);
    job.request = Shell("s", "echo x >>" + job.mark + "; seq " + std::to_string(job.lines) +
                                 "; exit " + std::to_string(job.code));
    (*job.request.mutable_env())["CRASH_COOKIE"] = cookie_;
    return job;
  }

  // A moment within the first 40 ms, without sleeping on the clock: spins.
  void SomeMoment() {
    auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(random_() % 40'000);
    while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
  }

  std::mt19937 random_{std::random_device{}()};
  const std::string cookie_ = NewUuid();
  int made_ = 0;
  DaemonProcess daemon_;
};

void CheckAfterDaemonDeath(const Job& job) {
  const size_t starts = Lines(job.mark);
  ASSERT_LE(starts, 1u) << "run twice";
  ASSERT_EQ(job.seen.finished, 1) << job.seen.status.error_message();
  if (job.seen.command.state() == v1::Command::NEVER_STARTED) {
    ASSERT_EQ(starts, 0u);
    return;
  }
  ASSERT_EQ(job.seen.command.state(), v1::Command::EXITED);
  ASSERT_EQ(starts, 1u);
  ASSERT_EQ(job.seen.command.exit().code(), job.code);
  ASSERT_EQ(job.seen.out, Expected(job.lines));
}

void CheckAfterRunnerDeath(const Job& job) {
  const size_t starts = Lines(job.mark);
  ASSERT_LE(starts, 1u) << "run twice";
  ASSERT_EQ(job.seen.finished, 1) << job.seen.status.error_message();
  const std::string whole = Expected(job.lines);
  ASSERT_EQ(job.seen.out, whole.substr(0, job.seen.out.size()));
  if (job.seen.command.state() == v1::Command::EXITED) {
    ASSERT_EQ(starts, 1u);
    ASSERT_EQ(job.seen.command.exit().code(), job.code);
    ASSERT_EQ(job.seen.out.size(), whole.size());
  }
}

void KillDaemon(DaemonProcess& daemon) {
  daemon.Kill(SIGKILL);
  daemon.Start();
}

void KillRunner(DaemonProcess& daemon) {
  if (pid_t runner = daemon.RunnerPid(); runner != 0) ::kill(runner, SIGKILL);
}

TEST(CrashTest, DaemonKilledAtRandomMomentsRunsNothingTwiceAndLosesNothing) {
  BusyDaemon busy;
  for (int round = 0; round < kDaemonDeaths; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    for (const Job& job : busy.Round(KillDaemon)) CheckAfterDaemonDeath(job);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_TRUE(ProcessesWithCookie(busy.cookie()).empty());
}

void KillRunnersOfOneDaemon() {
  BusyDaemon busy;
  for (int round = 0; round < kDeathsPerDaemon; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    for (const Job& job : busy.Round(KillRunner)) CheckAfterRunnerDeath(job);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_TRUE(WaitUntilNoneHas(busy.cookie()));
}

TEST(CrashTest, RunnerKilledAtRandomMomentsInventsNothingAndLeavesNoOrphan) {
  std::atomic<int> left = kRunnerDeaths / kDeathsPerDaemon;
  std::vector<std::thread> daemons;
  for (int i = 0; i < kDaemonsAtATime; ++i) {
    daemons.emplace_back([&left] {
      while (left.fetch_sub(1) > 0 && !testing::Test::HasFailure()) KillRunnersOfOneDaemon();
    });
  }
  for (std::thread& daemon : daemons) daemon.join();
}

}  // namespace
}  // namespace hermes
