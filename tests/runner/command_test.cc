#include <sys/stat.h>

#include "backends/runner/blob.h"
#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

class CommandTest : public RunnerTest {
 protected:
  void SetUp() override {
    RunnerTest::SetUp();
    OpenSession();
  }
};

TEST_F(CommandTest, GivesExactBytesAndCodeZero) {
  const Result& result = Run("printf exact");
  EXPECT_TRUE(result.started);
  EXPECT_EQ(result.out, "exact");
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.exit->cause, frames::Cause::kNatural);
  EXPECT_EQ(result.exit->signalled, 0);
  EXPECT_EQ(result.exit->value, 0);
  EXPECT_EQ(result.exit->out, 5u);
  EXPECT_EQ(result.exit->residual, 0);
}

TEST_F(CommandTest, ReportsTheExitCode) { EXPECT_EQ(Run("exit 37").exit->value, 37); }

TEST_F(CommandTest, ReportsASignalAsASignal) {
  const Result& result = Run("kill -9 $$");
  EXPECT_EQ(result.exit->signalled, 1);
  EXPECT_EQ(result.exit->value, 9);
  EXPECT_EQ(result.exit->cause, frames::Cause::kNatural);
  EXPECT_EQ(result.exit->state_committed, 0);
}

TEST_F(CommandTest, NaturalExit130And124AreNatural) {
  for (int code : {124, 130}) {
    const Result& result = Run("exit " + std::to_string(code));
    EXPECT_EQ(result.exit->value, code);
    EXPECT_EQ(result.exit->cause, frames::Cause::kNatural);
  }
}

TEST_F(CommandTest, KeepsStdoutAndStderrApart) {
  const Result& result = Run("echo A; echo B >&2");
  EXPECT_EQ(result.out, "A\n");
  EXPECT_EQ(result.err, "B\n");
}

TEST_F(CommandTest, MergesStderrInTrueOrder) {
  frames::Start start = Shell("for i in 1 2 3; do echo o$i; echo e$i >&2; done");
  start.merge_stderr = 1;
  const Result& result = client->Finish(start);
  EXPECT_EQ(result.out, "o1\ne1\no2\ne2\no3\ne3\n");
  EXPECT_EQ(result.err, "");
}

TEST_F(CommandTest, CarriesBinaryBytes) {
  const Result& result = Run("printf 'a\\xff\\xfeb\\x00c'");
  EXPECT_EQ(result.out, std::string("a\xff\xfe"
                                    "b\0c",
                                    6));
}

TEST_F(CommandTest, SendsTheFirstBytesWhileTheCommandRuns) {
  uint32_t command = client->Start(Shell("echo hi; exec sleep 1000"));
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.out == "hi\n"; }));
  EXPECT_FALSE(client->results[command].exit);
  client->Kill(command, 0);
  ASSERT_TRUE(client->UntilDrained(command));
}

TEST_F(CommandTest, RunsAScriptOfOneMebibyte) {
  std::string script = "x=1\n";
  while (script.size() < (1 << 20)) script += "# a line that does nothing at all but be there\n";
  const Result& result = Run(script + "echo end\n");
  EXPECT_EQ(result.out, "end\n");
}

TEST_F(CommandTest, HasNoStdinUnlessAskedFor) {
  const Result& result = Run("cat; readlink /proc/self/fd/0");
  EXPECT_EQ(result.out, "/dev/null\n");
}

TEST_F(CommandTest, InheritsNothingOfTheRunner) {
  const Result& result =
      Run("ls -l /proc/self/fd | awk '{print $9}' | sort -n | tr '\\n' ' '; ulimit -n; "
          "grep -E 'SigBlk|SigIgn' /proc/self/status");
  std::istringstream lines(result.out);
  std::string descriptors, blocked, ignored;
  std::getline(lines, descriptors);
  std::getline(lines, blocked);
  std::getline(lines, ignored);
  EXPECT_EQ(descriptors.substr(0, 9), " 0 1 2 3 ") << descriptors;
  EXPECT_EQ(descriptors.find(" 4 "), std::string::npos) << descriptors;
  EXPECT_NE(blocked.find("0000000000000000"), std::string::npos) << blocked;
  EXPECT_NE(ignored.find("0000000000000000"), std::string::npos) << ignored;
}

TEST_F(CommandTest, RunsArgvWithoutAnyShell) {
  frames::Start start = Shell("");
  start.form = frames::Form::kArgv;
  start.argv = {"printf", "%s|", "a b", "$HOME", "*"};
  const Result& result = client->Finish(start);
  EXPECT_EQ(result.out, "a b|$HOME|*|");
  EXPECT_EQ(result.exit->state_committed, 0);
  EXPECT_EQ(result.exit->state_reason, "argv");
}

TEST_F(CommandTest, ASecondStartOfARunIdAttachesToTheFirst) {
  std::string file = directory + "/once";
  frames::Start start = Shell("echo x >> " + file + "; echo done");
  uint32_t first = client->Start(start);
  uint32_t second = client->Start(start);
  ASSERT_TRUE(client->UntilDrained(second));
  EXPECT_TRUE(client->results[second].attached_again);
  uint32_t third = client->Start(start);
  ASSERT_TRUE(client->UntilDrained(third));
  EXPECT_TRUE(client->results[third].attached_again);
  std::ifstream written(file);
  std::stringstream text;
  text << written.rdbuf();
  EXPECT_EQ(text.str(), "x\n");
  (void)first;
}

TEST_F(CommandTest, ARunIdOfAnotherSessionIsRefused) {
  ASSERT_TRUE(client->Open({.session = "other", .cwd = "/tmp", .env = {}, .resume = 0}));
  frames::Start start = Shell("echo mine; read -r line; echo $line");
  start.stdin_kind = frames::StdinKind::kOpen;
  uint32_t first = client->Start(start);
  ASSERT_TRUE(client->Until(first, [](const Result& r) { return r.out == "mine\n"; }));
  start.session = "other";
  const Result& elsewhere = client->Finish(start);
  EXPECT_EQ(elsewhere.refused, "BAD_FIELD");
  EXPECT_EQ(elsewhere.out, "");
  client->Kill(first, 0);
  ASSERT_TRUE(client->UntilDrained(first));
}

TEST_F(CommandTest, AForgottenRunIdIsRefused) {
  frames::Start start = Shell("true");
  client->Finish(start);
  const Result& again = client->Finish(start);
  EXPECT_EQ(again.refused, "RESULT_EXPIRED");
  EXPECT_FALSE(again.started);
}

TEST_F(CommandTest, APoisonedRunIdNeverStarts) {
  frames::Start start = Shell("true");
  client->Send(Type::kForgetRun, 0, [&](frames::Writer& w) { w.Str(start.run_id); });
  EXPECT_EQ(client->Finish(start).refused, "RESULT_EXPIRED");
}

TEST_F(CommandTest, ManyCommandsAtOnceDoNotMix) {
  std::vector<uint32_t> commands;
  for (int i = 0; i < 60; ++i)
    commands.push_back(
        client->Start(Shell("echo " + std::to_string(i) + "; exit " + std::to_string(i))));
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(client->UntilDrained(commands[i]));
    EXPECT_EQ(client->results[commands[i]].out, std::to_string(i) + "\n");
    EXPECT_EQ(client->results[commands[i]].exit->value, i);
  }
}

TEST_F(CommandTest, LaunchFailuresAreTyped) {
  struct Case {
    std::vector<std::string> argv;
    std::string cwd;
    frames::LaunchStage stage;
    int error;
  };
  std::ofstream(directory + "/plain") << "text";
  std::vector<Case> cases = {
      {{"no-such-program"}, "", frames::LaunchStage::kNotFound, ENOENT},
      {{"/no/such/program"}, "", frames::LaunchStage::kNotFound, ENOENT},
      {{directory + "/plain"}, "", frames::LaunchStage::kNotExecutable, EACCES},
      {{"/tmp"}, "", frames::LaunchStage::kNotExecutable, EACCES},
      {{"true"}, "/no/such/directory", frames::LaunchStage::kBadCwd, ENOENT},
      {{"true", std::string(200'000, 'x')}, "", frames::LaunchStage::kArgsTooLong, E2BIG},
  };
  for (const Case& c : cases) {
    frames::Start start = Shell("");
    start.form = frames::Form::kArgv;
    start.argv = c.argv;
    start.cwd = c.cwd;
    const Result& result = client->Finish(start);
    SCOPED_TRACE(c.argv[0] + c.cwd);
    EXPECT_FALSE(result.started);
    ASSERT_TRUE(result.exit);
    EXPECT_EQ(result.exit->cause, frames::Cause::kLaunchFailed);
    EXPECT_EQ(result.exit->stage, c.stage);
    EXPECT_EQ(result.exit->launch_errno, c.error);
    EXPECT_EQ(result.exit->state_committed, 0);
  }
}

TEST_F(CommandTest, AMissingDirectoryStopsAScriptBeforeItRuns) {
  frames::Start start = Shell("touch " + directory + "/ran");
  start.cwd = "/no/such/directory";
  const Result& result = client->Finish(start);
  EXPECT_EQ(result.exit->cause, frames::Cause::kLaunchFailed);
  EXPECT_EQ(result.exit->stage, frames::LaunchStage::kBadCwd);
  EXPECT_FALSE(std::filesystem::exists(directory + "/ran"));
}

TEST_F(CommandTest, AnUnknownSessionIsRefused) {
  EXPECT_EQ(client->Finish(Shell("true", "other")).refused, "SESSION_UNKNOWN");
}

TEST(RunnerProgramTest, IsSmall) {
  constexpr size_t kMaxBytes = 128'000;
  EXPECT_LE(std::filesystem::file_size(RunnerProgram()), kMaxBytes);
  std::string arm = RunnerProgram() + "-aarch64";
  if (std::filesystem::exists(arm)) {
    EXPECT_LE(std::filesystem::file_size(arm), kMaxBytes);
  }
}

TEST(RunnerProgramTest, IsEmbeddedAsItIs) {
  std::ifstream file(RunnerProgram(), std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  auto blob = RunnerBinary("x86_64");
  EXPECT_EQ(std::string_view(blob.data(), blob.size()), bytes.str());
  EXPECT_TRUE(RunnerBinary("m68k").empty());
}

}  // namespace
}  // namespace hermes::test
