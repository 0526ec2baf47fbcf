// The whole path with real processes: client, hermesd, hermes-runner, bash.

#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"

namespace hermes {
namespace {

class ExecuteTest : public testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    daemon_.CreateSession("s");
  }
  Seen Run(const std::string& script) { return ExecuteToEnd(daemon_, Shell("s", script)); }

  DaemonProcess daemon_;
};

TEST_F(ExecuteTest, OutputIsApartAndTheExitCodeIsData) {
  Seen seen = Run("echo out; echo err >&2; exit 37");
  EXPECT_EQ(seen.out, "out\n");
  EXPECT_EQ(seen.err, "err\n");
  EXPECT_TRUE(seen.status.ok());
  EXPECT_EQ(seen.command.exit().code(), 37);
  EXPECT_EQ(seen.command.state(), v1::Command::EXITED);
}

TEST_F(ExecuteTest, StateMovesFromOneCommandToTheNext) {
  EXPECT_EQ(Run("cd /usr; export A='x\ny'; f() { echo \"f $1\"; }; alias g='f g'; exit 3")
                .command.exit()
                .code(),
            3);
  EXPECT_EQ(Run("pwd; echo \"$A\"; f 1; g").out, "/usr\nx\ny\nf 1\nf g\n");
}

TEST_F(ExecuteTest, TimeoutEndsTheTreeAndSaysSo) {
  std::string cookie = "E2E_COOKIE=" + NewUuid();
  v1::ExecuteRequest request =
      Shell("s", "export " + cookie + "; setsid sleep 100 & echo s; bash -c 'sleep 77'");
  request.mutable_run_timeout()->set_seconds(1);
  Seen seen = ExecuteToEnd(daemon_, request);
  EXPECT_EQ(seen.out, "s\n");
  EXPECT_EQ(seen.command.state(), v1::Command::KILLED);
  EXPECT_EQ(seen.command.exit().cause(), v1::Exit::RUN_TIMEOUT);
  EXPECT_EQ(seen.command.exit().shell_code(), 124);
  EXPECT_TRUE(seen.command.exit().tree().verified());
  EXPECT_TRUE(ProcessesWithCookie(cookie).empty());
}

TEST_F(ExecuteTest, CommandsAreListedNewestFirstInPages) {
  daemon_.CreateSession("t");
  std::vector<std::string> names;
  for (const char* session : {"s", "t", "s", "t", "s"})
    names.push_back(ExecuteToEnd(daemon_, Shell(session, "true")).command.name());
  auto stub = v1::ExecService::NewStub(daemon_.Connect());
  const auto list = [&stub](const std::string& parent) {
    std::vector<std::string> listed;
    v1::ListCommandsRequest request;
    request.set_parent(parent);
    request.set_page_size(2);
    do {
      grpc::ClientContext context;
      v1::ListCommandsResponse page;
      EXPECT_TRUE(stub->ListCommands(&context, request, &page).ok());
      EXPECT_LE(page.commands_size(), 2);
      for (const v1::Command& command : page.commands()) listed.push_back(command.name());
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty());
    return listed;
  };
  EXPECT_EQ(list("sessions/-"), std::vector<std::string>(names.rbegin(), names.rend()));
  EXPECT_EQ(list("sessions/t"), (std::vector<std::string>{names[3], names[1]}));
}

TEST_F(ExecuteTest, RunningCommandSurvivesKillNineOfTheDaemon) {
  std::string fifo = daemon_.dir() + "/go";
  v1::ExecuteRequest request =
      Shell("s", "mkfifo " + fifo + "; seq 1 20000; cat " + fifo + "; seq 1 20000; exit 9");
  Seen seen;
  std::thread client([&] { seen = ExecuteToEnd(daemon_, request); });
  while (!std::filesystem::exists(fifo)) std::this_thread::yield();
  daemon_.Kill(SIGKILL);
  daemon_.Start();
  std::ofstream(fifo) << "on\n";
  client.join();
  std::string half;
  for (int i = 1; i <= 20000; ++i) half += std::to_string(i) + "\n";
  EXPECT_EQ(seen.out, half + "on\n" + half);
  EXPECT_EQ(seen.command.exit().code(), 9);
  EXPECT_EQ(seen.finished, 1);
}

TEST_F(ExecuteTest, FinishedCommandKeepsItsResultOverARestart) {
  v1::ExecuteRequest small = Shell("s", "echo small; exit 4");
  v1::ExecuteRequest large = Shell("s", "head -c 3000000 /dev/zero; exit 5");
  ExecuteToEnd(daemon_, small);
  ExecuteToEnd(daemon_, large);
  daemon_.Kill(SIGKILL);
  daemon_.Start();
  Seen again = ExecuteToEnd(daemon_, small);
  EXPECT_EQ(again.out, "small\n");
  EXPECT_EQ(again.command.exit().code(), 4);
  again = ExecuteToEnd(daemon_, large);
  EXPECT_EQ(again.out.size(), 3000000u);
  EXPECT_EQ(again.command.exit().code(), 5);
}

TEST_F(ExecuteTest, TerminatingTheDaemonTellsReadersAndLeavesCommandsRunning) {
  const std::string fifo = daemon_.dir() + "/go";
  v1::ExecuteRequest request = Shell("s", "mkfifo " + fifo + "; echo a; cat " + fifo + "; echo b");
  auto stub = v1::ExecService::NewStub(daemon_.Connect());
  grpc::ClientContext context;
  auto stream = stub->Execute(&context, request);
  v1::CommandEvent event;
  ASSERT_TRUE(stream->Read(&event) && stream->Read(&event));
  bool told = false;
  grpc::Status status;
  std::thread reader([&] {  // a reader that reads: one that does not is cut off, not told
    while (stream->Read(&event)) told = told || event.phase().name() == "draining";
    status = stream->Finish();
  });
  auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(daemon_.Terminate(), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  reader.join();
  EXPECT_TRUE(told);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  daemon_.Start();
  std::ofstream(fifo) << "on\n";
  EXPECT_EQ(ExecuteToEnd(daemon_, request).out, "a\non\nb\n");
}

TEST_F(ExecuteTest, DeadRunnerEndsItsCommandsTypedAndTheSessionGoesOn) {
  std::string cookie = "E2E_COOKIE=" + NewUuid();
  v1::ExecuteRequest request = Shell("s", "export " + cookie + "; export KEPT=1; sleep 1000");
  EXPECT_EQ(Run("export KEPT=yes").command.state_committed(), true);
  Seen seen;
  std::thread client([&] { seen = ExecuteToEnd(daemon_, request); });
  while (ProcessesWithCookie(cookie).empty()) std::this_thread::yield();
  ASSERT_NE(daemon_.RunnerPid(), 0);
  ::kill(daemon_.RunnerPid(), SIGKILL);
  client.join();
  EXPECT_TRUE(seen.command.state() == v1::Command::UNKNOWN ||
              seen.command.state() == v1::Command::KILLED);
  EXPECT_EQ(seen.command.exit().shell_code() == 0, false);
  EXPECT_EQ(Run("echo $KEPT").out, "yes\n");
  EXPECT_TRUE(WaitUntilNoneHas(cookie));
}

}  // namespace
}  // namespace hermes
