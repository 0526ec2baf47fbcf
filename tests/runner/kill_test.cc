#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

class KillTest : public RunnerTest {
 protected:
  void SetUp() override {
    RunnerTest::SetUp();
    cookie = "HERMES_TEST_COOKIE=" + std::to_string(getpid()) + NewRunId();
    frames::Open open{.session = "s", .cwd = "/tmp", .env = {}, .resume = 0};
    open.env.emplace_back(cookie.substr(0, 18), cookie.substr(19));
    ASSERT_TRUE(client->Open(open));
  }
  // A command that said that it is ready.
  uint32_t StartReady(frames::Start start) {
    uint32_t command = client->Start(start);
    EXPECT_TRUE(client->Until(
        command, [](const Result& r) { return r.out.find("ready\n") != std::string::npos; }));
    return command;
  }
  // A process that starts a program has no environment for a moment, so counting may take another
  // look.
  void ExpectAtLeast(size_t processes) {
    const auto deadline = Clock::now() + std::chrono::seconds(20);
    size_t found = 0;
    while ((found = WithCookie(cookie).size()) < processes && Clock::now() < deadline) {
    }
    EXPECT_GE(found, processes);
  }
  void ExpectAllGone() {
    // A tree that is being ended may still start a process or two during the grace.
    constexpr int kRounds = 20;
    std::vector<pid_t> left = WithCookie(cookie);
    for (int round = 0; round < kRounds && !left.empty() && !HasFailure(); ++round) {
      for (pid_t pid : left) WaitForEnd(pid);
      left = WithCookie(cookie);
    }
    EXPECT_TRUE(left.empty());
  }
  pid_t SupervisorOf(uint32_t command) {
    std::ifstream stat("/proc/" + std::to_string(client->results[command].pid) + "/stat");
    std::string line;
    std::getline(stat, line);
    return std::atoi(line.substr(line.rfind(") ") + 4).c_str());
  }
  std::string cookie;
};

TEST_F(KillTest, TermIsEnoughForMost) {
  uint32_t command = StartReady(Shell("sleep 1000 & echo ready; wait"));
  client->Kill(command, 20'000);
  auto before = Clock::now();
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_LT(Clock::now() - before, std::chrono::seconds(10));
  const Result& result = client->results[command];
  EXPECT_EQ(result.exit->cause, frames::Cause::kCancelled);
  EXPECT_EQ(result.exit->signalled, 1);
  EXPECT_EQ(result.exit->value, SIGTERM);
  EXPECT_EQ(result.exit->state_reason, "cancelled");
  ASSERT_TRUE(result.exit->has_tree);
  EXPECT_EQ(result.exit->tree.verified, 1);
  ASSERT_TRUE(result.killed);
  EXPECT_EQ(result.killed->signalled, 2u);
  ExpectAllGone();
}

TEST_F(KillTest, WhoIgnoresTermIsKilledAfterTheGrace) {
  uint32_t command =
      StartReady(Shell("trap '' TERM; setsid bash -c 'trap \"\" TERM; while :; do sleep 1; done' & "
                       "echo ready; while :; do sleep 1; done"));
  client->Kill(command, 300);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].exit->value, SIGKILL);
  EXPECT_EQ(client->results[command].killed->survivors, 0u);
  ExpectAllGone();
}

TEST_F(KillTest, AnEscapeeWithoutEnvironmentIsFound) {
  uint32_t command =
      StartReady(Shell("setsid env -i sh -c 'echo $$; echo ready; exec sleep 1000' & sleep 1000"));
  pid_t escapee = std::atoi(client->results[command].out.c_str());
  ASSERT_TRUE(IsAlive(escapee));
  client->Kill(command, 100);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_FALSE(IsAlive(escapee));
}

TEST_F(KillTest, AStoppedProcessIsEndedToo) {
  uint32_t command = StartReady(Shell("sleep 1000 & kill -STOP $!; echo ready; wait"));
  client->Kill(command, 20'000);
  ASSERT_TRUE(client->UntilDrained(command));
  ExpectAllGone();
}

TEST_F(KillTest, FiveHundredProcessesAreGoneAtOnce) {
  uint32_t command = StartReady(
      Shell("trap '' TERM; for i in $(seq 1 500); do sleep 1000 & done; echo ready; wait"));
  client->Kill(command, 0);
  auto before = Clock::now();
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.killed.has_value(); }));
  EXPECT_LT(Clock::now() - before, std::chrono::seconds(20));
  EXPECT_GE(client->results[command].killed->signalled, 501u);
  EXPECT_EQ(client->results[command].killed->survivors, 0u);
  EXPECT_EQ(client->results[command].killed->verified, 1);
  ASSERT_TRUE(client->UntilDrained(command));
  ExpectAllGone();
}

TEST_F(KillTest, AForkingTreeCannotOutrunTheWalk) {
  uint32_t command =
      StartReady(Shell("f() { trap '' TERM; while :; do (sleep 0.01 &) ; sleep 0.01; done; }; "
                       "for i in 1 2 3 4; do f & done; echo ready; wait"));
  client->Kill(command, 0);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].killed->survivors, 0u);
  ExpectAllGone();
}

TEST_F(KillTest, TheDeadlineHoldsWithoutADaemon) {
  frames::Start start = Shell("echo s; echo ready; sleep 1000");
  start.deadline_ms = 1000;
  start.grace_ms = 100;
  uint32_t command = StartReady(start);
  pid_t leader = static_cast<pid_t>(client->results[command].pid);
  client->Close();
  WaitForEnd(leader);
  ExpectAllGone();
  Connect();
  client->Attach(command, 8, 0);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].exit->cause, frames::Cause::kRunTimeout);
  EXPECT_EQ(client->results[command].exit->state_reason, "timeout");
  EXPECT_EQ(client->results[command].exit->out, 8u);
}

TEST_F(KillTest, ALapsedLeaseEndsTheSessionsCommands) {
  uint32_t command = StartReady(Shell("echo ready; sleep 1000"));
  client->Send(Type::kLease, 0, [](frames::Writer& w) {
    w.Str("s");
    w.U32(1);
  });
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].exit->cause, frames::Cause::kLeaseExpired);
  ExpectAllGone();
}

TEST_F(KillTest, SignalsReachTheLeaderAndTheTree) {
  uint32_t command =
      StartReady(Shell("trap 'echo usr; exit 3' USR1; sleep 1000 & echo ready; wait"));
  client->Send(Type::kSignal, command, [](frames::Writer& w) {
    w.U8(SIGUSR1);
    w.U8(static_cast<uint8_t>(frames::Scope::kLeader));
  });
  ASSERT_TRUE(client->UntilExit(command));
  EXPECT_EQ(client->results[command].exit->value, 3);
  EXPECT_EQ(client->results[command].exit->cause, frames::Cause::kNatural);
  client->Send(Type::kSignal, command, [](frames::Writer& w) {
    w.U8(SIGKILL);
    w.U8(static_cast<uint8_t>(frames::Scope::kTree));
  });
  ASSERT_TRUE(client->UntilDrained(command));
  ExpectAllGone();
}

TEST_F(KillTest, ClosingASessionEndsEverythingInIt) {
  uint32_t running = StartReady(Shell("echo ready; sleep 1000"));
  uint32_t residual = StartReady(Shell("setsid sleep 1000 & echo ready"));
  ASSERT_TRUE(client->UntilExit(residual));
  auto report = client->CloseSession("s", 200);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->survivors, 0u);
  EXPECT_EQ(report->verified, 1);
  EXPECT_GE(report->signalled, 3u);
  EXPECT_TRUE(client->results[running].drained);
  EXPECT_TRUE(client->results[residual].drained);
  ExpectAllGone();
  EXPECT_TRUE(client->List().empty());
  EXPECT_EQ(client->Finish(Shell("true")).refused, "SESSION_UNKNOWN");
  EXPECT_FALSE(std::filesystem::exists(directory + "/state/s"));
  EXPECT_TRUE(client->CloseSession("s", 0));  // again: nothing to do
}

TEST_F(KillTest, AnOpenBehindACloseGetsAFreshSession) {
  Run("export OLD=1");
  ASSERT_TRUE(client->CloseSession("s", 0));
  // All in one piece: a CLOSE of what is gone already, an OPEN, a START.
  std::string bytes;
  frames::Writer writer(bytes);
  writer.Begin(Type::kClose, 1000);
  writer.Str("s");
  writer.U32(0);
  writer.End();
  frames::Encode(bytes, 1001, frames::Open{.session = "s", .cwd = "/", .env = {}, .resume = 0});
  uint32_t command = ++client->next_command;
  frames::Encode(bytes, command, Shell("echo \"[$OLD]\"; pwd"));
  client->SendRaw(bytes);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, "[]\n/\n");
}

class DeathTest : public KillTest {};

TEST_F(DeathTest, ADeadSupervisorTakesItsTreeAlong) {
  uint32_t other = StartReady(Shell("echo ready; sleep 1000"));
  uint32_t command = StartReady(Shell("setsid env -i sleep 1000 & sleep 1000 & echo ready; wait"));
  kill(SupervisorOf(command), SIGKILL);
  ASSERT_TRUE(client->UntilDrained(command));
  const Result& result = client->results[command];
  EXPECT_EQ(result.exit->cause, frames::Cause::kSupervisorDied);
  EXPECT_EQ(result.exit->signalled, 1);
  EXPECT_EQ(result.exit->value, SIGKILL);
  ASSERT_TRUE(result.exit->has_tree);
  EXPECT_GE(result.exit->tree.signalled, 3u);
  EXPECT_EQ(result.exit->tree.survivors, 0u);
  // The other command lives.
  EXPECT_TRUE(IsAlive(static_cast<pid_t>(client->results[other].pid)));
  EXPECT_FALSE(client->results[other].exit);
  client->Kill(other, 0);
  ASSERT_TRUE(client->UntilDrained(other));
  ExpectAllGone();
}

// What it was told and did not look at any more is no reason to doubt what it said.
TEST_F(DeathTest, ASupervisorThatEndsWithAnOrderUnreadDidNotDie) {
  const std::string go = directory + "/go";
  uint32_t command = StartReady(Shell("echo ready; until [ -e '" + go + "' ]; do :; done; exit 7"));
  const pid_t supervisor = SupervisorOf(command);
  kill(supervisor, SIGSTOP);
  for (int order = 0; order < 2; ++order) {  // of which it takes one, and then it sees the end
    client->Send(Type::kSignal, command, [](frames::Writer& w) {
      w.U8(SIGURG);
      w.U8(static_cast<uint8_t>(frames::Scope::kLeader));
    });
  }
  client->List();  // both are with the supervisor
  std::ofstream(go).close();
  WaitForEnd(static_cast<pid_t>(client->results[command].pid));
  kill(supervisor, SIGCONT);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].exit->cause, frames::Cause::kNatural);
  EXPECT_EQ(client->results[command].exit->value, 7);
}

TEST_F(DeathTest, ADeadRunnerLeavesNoOrphan) {
  StartReady(Shell("setsid sleep 1000 & sleep 1000 & echo ready; wait"));
  StartReady(Shell("trap '' TERM; echo ready; while :; do sleep 1; done"));
  ExpectAtLeast(4);
  KillRunner();
  ExpectAllGone();
}

TEST_F(DeathTest, ANewRunnerTakesTheSavedStateUp) {
  Run("export KEPT=yes; cd /usr");
  std::string old_token = start_token;
  client->Close();
  KillRunner();
  ASSERT_EQ(RunProgram({RunnerProgram(), "serve", directory}, home), 0);
  Connect();
  EXPECT_NE(start_token, old_token);
  EXPECT_EQ(client->Finish(Shell("true")).refused, "SESSION_UNKNOWN");
  auto opened = client->Open({.session = "s", .cwd = "", .env = {}, .resume = 1});
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->recovered, 1);
  EXPECT_EQ(opened->cwd, "/usr");
  EXPECT_EQ(Run("echo $KEPT; pwd").out, "yes\n/usr\n");
}

TEST_F(DeathTest, OnlyOneServesADirectory) {
  EXPECT_EQ(RunProgram({RunnerProgram(), "serve", directory}, home), 0);
  Client other(directory);
  auto welcome = other.Hello();
  ASSERT_TRUE(welcome);
  EXPECT_EQ(static_cast<pid_t>(welcome->pid), runner_pid);
}

// Nothing shows it a process.
class BlindKillTest : public KillTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || RunProgram({"/usr/bin/unshare", "--mount", "true"}) != 0)
      GTEST_SKIP() << "needs a mount namespace of its own";
    KillTest::SetUp();
  }
  std::vector<std::string> ServeWords() const override {
    return {"/usr/bin/unshare",
            "--mount",
            "/bin/sh",
            "-c",
            "mount -t tmpfs none /proc && exec \"$@\"",
            "sh",
            RunnerProgram(),
            "serve",
            directory};
  }
};

TEST_F(BlindKillTest, WithoutProcTheShellsGroupIsKilledAndNothingIsVerified) {
  frames::Start start = Shell("");  // a script would come by a path in there
  start.form = frames::Form::kArgv;
  start.argv = {"/bin/sh", "-c", "sleep 1000 & echo ready; wait"};
  uint32_t command = StartReady(start);
  client->Kill(command, 0);
  ASSERT_TRUE(client->UntilDrained(command));
  ASSERT_TRUE(client->results[command].killed);
  EXPECT_EQ(client->results[command].killed->verified, 0);
  EXPECT_EQ(client->results[command].exit->cause, frames::Cause::kCancelled);
  ExpectAllGone();
}

}  // namespace
}  // namespace hermes::test
