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
constexpr int kMostRounds = 3 * kDeathsPerDaemon;  // in some there is no runner at that moment
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

  // Runs jobs with all clients, does `harm` at some moment, asks again for what was acknowledged in
  // the round before, and gives what became of the jobs.
  std::vector<Job> Round(const std::function<void(DaemonProcess&)>& harm) {
    std::vector<Job> jobs;
    for (int i = 0; i < kClients; ++i) jobs.push_back(NewJob());
    std::vector<std::thread> clients;
    for (Job& job : jobs) {
      clients.emplace_back([this, &job] { job.seen = ExecuteToEnd(daemon_, job.request); });
    }
    SomeMoment();
    harm(daemon_);
    for (const Job& job : acknowledged_) CheckSameAgain(job);
    for (std::thread& client : clients) client.join();
    acknowledged_ = jobs;
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

  // What a client was told stays true, whoever dies later.
  void CheckSameAgain(const Job& job) const {
    const size_t starts = Lines(job.mark);
    const Seen again = ExecuteToEnd(daemon_, job.request);
    EXPECT_EQ(again.finished, 1) << again.status.error_message();
    EXPECT_EQ(again.command.SerializeAsString(), job.seen.command.SerializeAsString())
        << again.command.ShortDebugString() << "\nwas told before as\n"
        << job.seen.command.ShortDebugString();
    EXPECT_TRUE(again.out == job.seen.out)
        << again.out.size() << " bytes for " << job.seen.out.size();
    EXPECT_EQ(Lines(job.mark), starts) << "run again";
  }

  std::mt19937 random_{std::random_device{}()};
  const std::string cookie_ = NewUuid();
  int made_ = 0;
  DaemonProcess daemon_;
  std::vector<Job> acknowledged_;
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
  const v1::Command& command = job.seen.command;
  switch (command.state()) {
    case v1::Command::EXITED:
      ASSERT_EQ(starts, 1u);
      ASSERT_EQ(command.exit().code(), job.code);
      ASSERT_EQ(job.seen.out.size(), whole.size());
      return;
    case v1::Command::UNKNOWN:
      ASSERT_EQ(command.exit().cause(), v1::Exit::RUNNER_DIED);
      ASSERT_EQ(command.exit().how_case(), v1::Exit::HOW_NOT_SET) << "an invented end";
      return;
    case v1::Command::KILLED:
      ASSERT_TRUE(command.exit().tree().verified()) << command.ShortDebugString();
      ASSERT_EQ(command.exit().tree().survivors(), 0u);
      return;
    default:
      FAIL() << command.ShortDebugString();
  }
}

void KillDaemon(DaemonProcess& daemon) {
  daemon.Kill(SIGKILL);
  daemon.Start();
}

// False: there was none at this moment.
bool KillRunner(const DaemonProcess& daemon) {
  const pid_t runner = daemon.RunnerPid();
  return runner != 0 && ::kill(runner, SIGKILL) == 0;
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

TEST(CrashTest, ACommandThatDiesWithItsReaderDoesSoAfterTheDaemonsDeath) {
  const std::string cookie = NewUuid();
  DaemonProcess daemon;
  daemon.Start();
  daemon.CreateSession("s");
  v1::ExecuteRequest request = Shell("s", "sleep 300");
  request.set_on_disconnect(v1::CANCEL);
  (*request.mutable_env())["CRASH_COOKIE"] = cookie;
  v1::CommandEvent event;
  {
    auto stub = v1::ExecService::NewStub(daemon.Connect());
    grpc::ClientContext context;
    auto lost = stub->Execute(&context, request);
    ASSERT_TRUE(lost->Read(&event));
    KillDaemon(daemon);
    EXPECT_EQ(lost->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  }
  v1::AttachRequest attach;
  attach.set_name(event.started().name());
  auto stub = v1::ExecService::NewStub(daemon.Connect());
  grpc::ClientContext context;
  auto reader = stub->Attach(&context, attach);
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_FALSE(ProcessesWithCookie("CRASH_COOKIE=" + cookie).empty()) << "it had no chance";
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(WaitUntilNoneHas("CRASH_COOKIE=" + cookie));
}

// Returns how many died.
int KillRunnersOfOneDaemon() {
  BusyDaemon busy;
  int deaths = 0;
  for (int round = 0; deaths < kDeathsPerDaemon && round < kMostRounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    const auto kill_one = [&deaths](const DaemonProcess& daemon) { deaths += KillRunner(daemon); };
    for (const Job& job : busy.Round(kill_one)) CheckAfterRunnerDeath(job);
    if (testing::Test::HasFailure()) return deaths;
  }
  EXPECT_TRUE(WaitUntilNoneHas(busy.cookie()));
  return deaths;
}

TEST(CrashTest, RunnerKilledAtRandomMomentsInventsNothingAndLeavesNoOrphan) {
  std::atomic<int> left = kRunnerDeaths / kDeathsPerDaemon;
  std::atomic<int> deaths = 0;
  std::vector<std::thread> daemons;
  for (int i = 0; i < kDaemonsAtATime; ++i) {
    daemons.emplace_back([&left, &deaths] {
      while (left.fetch_sub(1) > 0 && !testing::Test::HasFailure())
        deaths += KillRunnersOfOneDaemon();
    });
  }
  for (std::thread& daemon : daemons) daemon.join();
  EXPECT_EQ(deaths, kRunnerDeaths);
}

}  // namespace
}  // namespace hermes
