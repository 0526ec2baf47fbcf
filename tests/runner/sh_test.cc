// A place without bash: the runner's only shell is sh, which is dash here.

#include "backends/engine/shell_state.h"
#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

// Bash is hidden from the runner and all that it starts by a mount of their own.
constexpr const char* kHideBash =
    "for shell in /usr/bin/bash /usr/local/bin/bash; do"
    "  [ ! -e $shell ] || mount --bind /dev/null $shell || exit 77;"
    "done; exec \"$0\" serve \"$1\"";

class ShTest : public RunnerTest {
 protected:
  void SetUp() override {
    if (RunProgram({"/usr/bin/unshare", "--mount", "/bin/true"}) != 0)
      GTEST_SKIP() << "no mount namespace may be made here";
    if (std::filesystem::read_symlink("/bin/sh").filename() != "dash")
      GTEST_SKIP() << "sh is not dash here";
    RunnerTest::SetUp();
    auto opened = client->Open({.session = "s", .cwd = "/tmp", .env = {}, .resume = 0});
    ASSERT_TRUE(opened);
    shell = opened->shell;
  }
  std::vector<std::string> ServeWords() const override {
    return {"/usr/bin/unshare", "--mount", "/bin/sh", "-c", kHideBash, RunnerProgram(), directory};
  }
  // Runs and expects that the state was committed.
  const Result& Keep(const std::string& script) {
    const Result& result = Run(script);
    EXPECT_EQ(result.exit->state_committed, 1) << result.exit->state_reason;
    return result;
  }
  uint8_t shell = 0;
};

TEST_F(ShTest, SaysWhichShellItIs) {
  EXPECT_EQ(shell, static_cast<uint8_t>(shell::Kind::kSh));
  const Result& result = Run("echo \"[$BASH_VERSION]\"; readlink /proc/$$/exe; bash -c true");
  EXPECT_EQ(result.out, "[]\n/usr/bin/dash\n");
  EXPECT_NE(result.exit->value, 0) << "bash is still to be found";
}

TEST_F(ShTest, OutputAndCodesAreExact) {
  const Result& result = Run("echo out; echo err >&2; exit 7");
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(result.exit->value, 7u);
  EXPECT_EQ(Run("cd /var; set -e; false; echo never").exit->value, 1u);
}

TEST_F(ShTest, ExportsAndTheDirectoryStay) {
  Keep("export A='two\nlines \"quoted\" $HOME'; cd /usr; exit 0");
  EXPECT_EQ(Keep("printf '%s|' \"$A\"; pwd").out, "two\nlines \"quoted\" $HOME|/usr\n");
}

TEST_F(ShTest, FunctionsAndAliasesAreTheStatedLoss) {
  Keep("greet() { echo hello; }; alias say='echo said'; export A=1");
  EXPECT_EQ(Keep("greet 2>/dev/null || say 2>/dev/null || echo $A").out, "1\n");
}

TEST_F(ShTest, ParallelCommandsLoseNothingOfEachOther) {
  std::vector<uint32_t> commands;
  for (int i = 0; i < 4; ++i)
    commands.push_back(
        client->Start(Shell("export P" + std::to_string(i) + "=" + std::to_string(i))));
  for (uint32_t command : commands) ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(Run("echo $P0$P1$P2$P3").out, "0123\n");
}

TEST_F(ShTest, StdinAndAnArgvFormWork) {
  frames::Start reader = Shell("cat; echo end");
  reader.stdin_kind = frames::StdinKind::kOpen;
  uint32_t command = client->Start(reader);
  client->Stdin(command, 0, "line\n");
  client->StdinEof(command, 5);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, "line\nend\n");
  frames::Start argv = Shell("");
  argv.form = frames::Form::kArgv;
  argv.argv = {"printf", "%s", "a b"};
  EXPECT_EQ(client->Finish(argv).out, "a b");
}

TEST_F(ShTest, KillEndsTheWholeTree) {
  uint32_t command = client->Start(Shell("setsid sleep 1000 & echo up; sleep 1000"));
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.out == "up\n"; }));
  client->Kill(command, 100);
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.killed && r.exit; }));
  EXPECT_EQ(client->results[command].killed->survivors, 0u);
  EXPECT_EQ(client->results[command].exit->cause, frames::Cause::kCancelled);
}

}  // namespace
}  // namespace hermes::test
