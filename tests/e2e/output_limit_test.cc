// What a command's policy does at its output limit, with real engines, pipes and processes.

#include <signal.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"
#include "tests/e2e/flood.h"

namespace hermes {
namespace {

constexpr uint64_t kLimit = 1 << 20;
// Beyond the limit: the far side's window, and pipes.
constexpr uint64_t kOnTheWay = (4 << 20) + (1 << 20);
// What the runner keeps in a file while no daemon is there.
constexpr uint64_t kInSpool = 64 << 20;
constexpr int kLines = 50'000'000;  // 440 MB

class OutputLimitTest : public testing::TestWithParam<v1::RunnerPolicy> {
 protected:
  void SetUp() override {
    daemon_.Start();
    daemon_.CreateSession("s", GetParam());
  }

  v1::ExecuteRequest Flood(v1::OutputPolicy::Overflow overflow, int lines = kLines) {
    v1::ExecuteRequest request = Shell("s", "seq " + std::to_string(lines) + "; touch " + mark_);
    (*request.mutable_env())["FLOOD"] = cookie_;
    request.mutable_output()->set_limit_bytes(kLimit);
    request.mutable_output()->set_overflow(overflow);
    return request;
  }
  bool WentOn() const { return std::filesystem::exists(mark_); }
  bool Waits() const {
    return Eventually([this] { return AtLimit() && AllWait("FLOOD=" + cookie_); });
  }
  bool AtLimit() const {
    const std::string log = ReadWholeFile(daemon_.dir() + "/hermesd.log");
    return log.find("it is at its output limit") != std::string::npos;
  }
  void ExpectKilled(const Seen& seen, v1::Exit::Cause cause, uint64_t in_spool = 0) const {
    EXPECT_EQ(seen.command.state(), v1::Command::KILLED) << seen.status.error_message();
    EXPECT_EQ(seen.command.exit().cause(), cause);
    EXPECT_TRUE(seen.out == Numbers(kLimit)) << seen.out.size() << " bytes";
    EXPECT_TRUE(seen.gap) << "what was on its way is not told";
    // The plain engine takes in and forgets what is written while it kills.
    if (GetParam() != v1::RUNNER_NEVER) {
      EXPECT_LE(seen.command.produced().stdout_offset(), kLimit + kOnTheWay + in_spool)
          << "it did not wait";
    }
    EXPECT_FALSE(WentOn());
    EXPECT_TRUE(WaitUntilNoneHas("FLOOD=" + cookie_));
  }

  DaemonProcess daemon_;
  const std::string cookie_ = NewUuid();
  const std::string mark_ = daemon_.dir() + "/went-on";
};

class RunnerOutputLimitTest : public OutputLimitTest {
 protected:
  // hermesd is killed once the command waits; the next one comes when `met` has seen what it
  // awaits.
  Seen RunOverARestart(std::chrono::seconds timeout, const std::function<bool()>& met) {
    v1::ExecuteRequest request = Flood(v1::OutputPolicy::BLOCK_PROCESS);
    request.mutable_run_timeout()->set_seconds(timeout.count());
    Seen seen;
    std::thread client([&] { seen = ExecuteToEnd(daemon_, request); });
    EXPECT_TRUE(Waits());
    daemon_.Kill(SIGKILL);
    EXPECT_TRUE(met());
    daemon_.Start();
    client.join();
    return seen;
  }
};

TEST_P(OutputLimitTest, UnderBlockProcessTheCommandWaitsUntilItIsCancelled) {
  const v1::ExecuteRequest request = Flood(v1::OutputPolicy::BLOCK_PROCESS);
  Seen seen;
  std::thread client([&] { seen = ExecuteToEnd(daemon_, request); });
  EXPECT_TRUE(Waits());
  for (int i = 0; i < 20; ++i) {  // its session is not held
    EXPECT_EQ(ExecuteToEnd(daemon_, Shell("s", "echo on")).out, "on\n");
  }
  EXPECT_TRUE(Waits());
  CancelOrTerminate(daemon_);
  client.join();
  ExpectKilled(seen, v1::Exit::CANCELLED);
}

TEST_P(OutputLimitTest, UnderBlockProcessATimeoutEndsTheCommandThatWaits) {
  v1::ExecuteRequest request = Flood(v1::OutputPolicy::BLOCK_PROCESS);
  request.mutable_run_timeout()->set_seconds(1);
  ExpectKilled(ExecuteToEnd(daemon_, request, 1), v1::Exit::RUN_TIMEOUT);
}

TEST_P(OutputLimitTest, UnderKillTheTreeIsKilledAndTheFirstBytesAreKept) {
  ExpectKilled(ExecuteToEnd(daemon_, Flood(v1::OutputPolicy::KILL), 1), v1::Exit::OUTPUT_LIMIT);
}

// Where the command waits, its daemon dies: the next one keeps neither more nor less of it.
TEST_P(RunnerOutputLimitTest, UnderBlockProcessARestartOfTheDaemonChangesNothing) {
  const v1::ExecuteRequest request = Flood(v1::OutputPolicy::BLOCK_PROCESS);
  Seen seen;
  std::thread client([&] { seen = ExecuteToEnd(daemon_, request); });
  EXPECT_TRUE(Waits());
  daemon_.Kill(SIGKILL);
  daemon_.Start();
  v1::Command cancelled;
  EXPECT_TRUE(Eventually([&] { return Cancel(daemon_, &cancelled).ok(); }));
  client.join();
  EXPECT_EQ(seen.command.state(), v1::Command::KILLED);
  EXPECT_TRUE(seen.out == Numbers(kLimit)) << seen.out.size() << " bytes";
  EXPECT_FALSE(WentOn());
}

// It waits, its daemon dies, and its time is up meanwhile: the next daemon tells its end.
TEST_P(RunnerOutputLimitTest, UnderBlockProcessAnEndWithoutADaemonIsToldByTheNextOne) {
  const Seen seen = RunOverARestart(std::chrono::seconds(3),
                                    [this] { return WaitUntilNoneHas("FLOOD=" + cookie_); });
  ExpectKilled(seen, v1::Exit::RUN_TIMEOUT, kInSpool);
}

// As before, and it has filled the file, too, when the next daemon comes.
TEST_P(RunnerOutputLimitTest, UnderBlockProcessATimeoutAfterARestartEndsTheCommandThatWaits) {
  const Seen seen = RunOverARestart(std::chrono::seconds(5), [this] { return Waits(); });
  ExpectKilled(seen, v1::Exit::RUN_TIMEOUT, kInSpool);
}

// More than the runner's window takes, and less than window and pipe.
TEST_P(RunnerOutputLimitTest, UnderBlockProcessACommandWhoseRestIsOnItsWayEndsByItself) {
  const Seen seen = ExecuteToEnd(daemon_, Flood(v1::OutputPolicy::BLOCK_PROCESS, 770'000), 1);
  EXPECT_EQ(seen.command.state(), v1::Command::EXITED) << seen.status.error_message();
  EXPECT_TRUE(seen.out == Numbers(kLimit)) << seen.out.size() << " bytes";
  EXPECT_TRUE(seen.gap);
  EXPECT_TRUE(WentOn());
}

std::string EngineName(const testing::TestParamInfo<v1::RunnerPolicy>& engine) {
  return engine.param == v1::RUNNER_NEVER ? "Plain" : "Runner";
}

INSTANTIATE_TEST_SUITE_P(Engines, OutputLimitTest,
                         testing::Values(v1::RUNNER_REQUIRE, v1::RUNNER_NEVER), EngineName);
INSTANTIATE_TEST_SUITE_P(Engines, RunnerOutputLimitTest, testing::Values(v1::RUNNER_REQUIRE),
                         EngineName);

}  // namespace
}  // namespace hermes
