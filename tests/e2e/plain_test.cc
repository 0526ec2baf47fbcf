// Commands without a runner, with real processes: what the plain engine gives, and what it says
// that it does not.

#include <signal.h>

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"

namespace hermes {
namespace {

class PlainTest : public testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    daemon_.CreateSession("s", v1::RUNNER_NEVER);
  }
  Seen Run(const std::string& script) { return ExecuteToEnd(daemon_, Shell("s", script)); }

  DaemonProcess daemon_;
};

TEST_F(PlainTest, TheSessionSaysWhichEngineAndWhyAndNoRunnerIsStarted) {
  const v1::Session session = daemon_.GetSession("s");
  EXPECT_EQ(session.engine(), "plain");
  EXPECT_EQ(session.engine_reason(), "the policy is never");
  EXPECT_EQ(Run("echo x").out, "x\n");
  EXPECT_EQ(daemon_.RunnerPid(), 0);
}

TEST_F(PlainTest, OutputCodesSignalsAndStateAreThoseOfAShell) {
  Seen seen = Run("echo out; echo err >&2; exit 37");
  EXPECT_EQ(seen.out, "out\n");
  EXPECT_EQ(seen.err, "err\n");
  EXPECT_EQ(seen.command.state(), v1::Command::EXITED);
  EXPECT_EQ(seen.command.exit().code(), 37);
  EXPECT_EQ(Run("kill -TERM $$; sleep 60").command.exit().signal(), SIGTERM);
  EXPECT_EQ(Run("cd /usr; export A='x\ny'").command.exit().code(), 0);
  EXPECT_EQ(Run("pwd; echo \"$A\"").out, "/usr\nx\ny\n");
}

TEST_F(PlainTest, StdinArrivesWholeAndEnds) {
  v1::ExecuteRequest request = Shell("s", "cat; echo end");
  std::string data;
  for (int i = 0; i < 100'000; ++i) data += static_cast<char>(i);
  request.set_stdin_data(data);
  EXPECT_EQ(ExecuteToEnd(daemon_, request).out, data + "end\n");
}

TEST_F(PlainTest, TimeoutEndsTheTreeAndSaysSo) {
  const std::string cookie = "E2E_COOKIE=" + NewUuid();
  v1::ExecuteRequest request = Shell("s", "export " + cookie + "; sleep 77 & sleep 78");
  request.mutable_run_timeout()->set_seconds(1);
  Seen seen = ExecuteToEnd(daemon_, request);
  EXPECT_EQ(seen.command.state(), v1::Command::KILLED);
  EXPECT_EQ(seen.command.exit().cause(), v1::Exit::RUN_TIMEOUT);
  EXPECT_EQ(seen.command.exit().shell_code(), 124);
  EXPECT_TRUE(ProcessesWithCookie(cookie).empty());
}

TEST_F(PlainTest, AfterARestartARunningCommandIsUnknownAndItsDeadlineStillHolds) {
  const std::string cookie = "E2E_COOKIE=" + NewUuid();
  v1::ExecuteRequest request =
      Shell("s", "export " + cookie + "; touch started; sleep 1000; exit 5");
  request.set_cwd(daemon_.dir());
  request.mutable_run_timeout()->set_seconds(5);
  auto stub = v1::ExecService::NewStub(daemon_.Connect());
  grpc::ClientContext context;
  v1::Command command;
  ASSERT_TRUE(stub->StartCommand(&context, request, &command).ok());
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(daemon_.dir() + "/started"); }));
  daemon_.Kill(SIGKILL);
  daemon_.Start();
  const Seen seen = ExecuteToEnd(daemon_, request);
  EXPECT_EQ(seen.finished, 1);
  EXPECT_EQ(seen.command.state(), v1::Command::UNKNOWN);
  EXPECT_FALSE(seen.command.exit().has_code()) << "an invented exit code";
  EXPECT_NE(seen.command.exit().shell_code(), 0);
  EXPECT_TRUE(Eventually([&] { return ProcessesWithCookie(cookie).empty(); }))
      << "it runs past its deadline";
  EXPECT_EQ(Run("echo on").out, "on\n");
}

TEST(PlainFallbackTest, ARunnerThatCannotStartIsShownAsTheReason) {
  DaemonProcess daemon;
  daemon.Configure("[runner]\nbinary = \"/bin/false\"\n");
  daemon.Start();
  daemon.CreateSession("s", v1::RUNNER_AUTO);
  const v1::Session session = daemon.GetSession("s");
  EXPECT_EQ(session.engine(), "plain");
  EXPECT_TRUE(session.engine_reason().starts_with("no runner: ")) << session.engine_reason();
  EXPECT_EQ(ExecuteToEnd(daemon, Shell("s", "exit 7")).command.exit().code(), 7);
  daemon.Kill(SIGKILL);
  daemon.Start();
  EXPECT_EQ(ExecuteToEnd(daemon, Shell("s", "exit 8")).command.exit().code(), 8);
  EXPECT_EQ(daemon.GetSession("s").engine(), "plain");
}

}  // namespace
}  // namespace hermes
