// Vectors of what a session keeps from one command to the next.

#include <string>

#include "tests/contract/driver.h"

namespace hermes::contract {
namespace {

using std::chrono::milliseconds;

TEST_P(BackendContract, V24AnExportedVariableIsThereInTheNextCommand) {
  RunPtr run = Run("export A=1");
  EXPECT_TRUE(run->outcome->state_committed) << run->Told();
  EXPECT_GT(run->outcome->generation, 0u);
  EXPECT_EQ(Out("echo $A"), "1\n");
  EXPECT_EQ(Out("unset A; echo [$A]"), "[]\n");
  EXPECT_EQ(Out("echo [$A]"), "[]\n");
}

TEST_P(BackendContract, V25TheWorkingDirectoryIsKeptOverAnEarlyExit) {
  RunPtr run = Run("cd /usr; exit 0");
  ExpectExit(run, 0);
  EXPECT_EQ(run->outcome->cwd, "/usr");
  EXPECT_EQ(Out("pwd"), "/usr\n");
}

TEST_P(BackendContract, V26TheWorkingDirectoryIsKeptOverAFailure) {
  RunPtr run = Run("cd /var; set -e; false; cd /");
  ExpectExit(run, 1);
  EXPECT_EQ(run->outcome->cwd, "/var");
  EXPECT_EQ(Out("pwd; false; echo still"), "/var\nstill\n") << "set -e must not stay";
}

TEST_P(BackendContract, V27FunctionsAndAliasesAreThereInLaterCommands) {
  if (!capabilities().shell_functions) GTEST_SKIP() << "the capability says so";
  ExpectExit(Run("greet() { echo \"hello $1\"; }; alias twice='echo a; echo b;'"), 0);
  EXPECT_EQ(Out("greet you; twice"), "hello you\na\nb\n");
  EXPECT_EQ(Out("greet me"), "hello me\n");
  Run("unset -f greet; unalias twice");
  EXPECT_EQ(Run("greet nobody")->outcome->value, 127);
}

TEST_P(BackendContract, V28ValuesThatLookLikeCodeStayValues) {
  const std::string value =
      "a\nb 'c' \"d\" $(touch /tmp/hermes-contract-ran) `id` \\\n"
      "declare -x E=\"1\"\n}; exit 3 #";
  CommandSpec spec;
  spec.script = "export V=\"$GIVEN\"";
  spec.env = {{"GIVEN", value}};
  ExpectExit(world().Run(session(), spec), 0);
  EXPECT_EQ(Out("printf %s \"$V\""), value);
  EXPECT_EQ(Out("printf %s \"$GIVEN$E\""), "") << "the command's own env must not stay";
  EXPECT_EQ(Out("ls /tmp/hermes-contract-ran 2>/dev/null"), "");
}

TEST_P(BackendContract, V29ForgedTextInTheOutputStaysOutput) {
  const std::string cwd = Out("pwd");
  const std::string forged = "__HERMES_CWD__/etc__\\n\\001\\002 declare -x X=1 cwd=/etc EXIT 9";
  RunPtr run = Run("printf '" + forged + "'; printf '" + forged + "' >&2; exit 4");
  ExpectExit(run, 4);
  EXPECT_EQ(run->out, "__HERMES_CWD__/etc__\n\x01\x02 declare -x X=1 cwd=/etc EXIT 9");
  EXPECT_EQ(run->out, run->err);
  EXPECT_EQ(Out("pwd"), cwd);
  EXPECT_EQ(Out("echo [$X]"), "[]\n");
}

TEST_P(BackendContract, V30ParallelCommandsKeepEachOthersExports) {
  for (int i = 0; i < Scaled(10); ++i) {
    const std::string mark = std::to_string(i);
    RunPtr one = world().Start(session(), "sleep 0.05; export ONE=" + mark);
    RunPtr two = world().Start(session(), "sleep 0.05; export TWO=" + mark);
    world().WaitEnd(one);
    world().WaitEnd(two);
    ASSERT_EQ(Out("echo $ONE $TWO"), mark + " " + mark + "\n");
  }
}

TEST_P(BackendContract, V31ACommandsOwnDirectoryLeavesTheSessionsAlone) {
  Run("cd /usr");
  CommandSpec spec;
  spec.script = "pwd; cd /etc";
  spec.cwd = "/";
  EXPECT_EQ(world().Run(session(), spec)->out, "/\n");
  EXPECT_EQ(Out("pwd"), "/usr\n");
}

TEST_P(BackendContract, V32AMissingDirectoryIsATypedFailure) {
  CommandSpec spec;
  spec.script = "echo ran";
  spec.cwd = "/no/such/directory";
  RunPtr run = world().Run(session(), spec);
  EXPECT_EQ(run->out, "");
  EXPECT_EQ(run->outcome->state, CommandState::kNeverStarted) << run->Told();
  EXPECT_EQ(run->outcome->cause, Cause::kLaunchFailed);
  EXPECT_EQ(run->outcome->launch_stage, LaunchStage::kBadCwd);
}

TEST_P(BackendContract, V33DirectoriesWithDifficultNamesWork) {
  const std::string root = Out("mktemp -d | tr -d '\\n'");
  ASSERT_EQ(root.substr(0, 1), "/");
  for (const char* name : {"with space", "-dash", "a'quote", "\xc3\xbc\xe6\x97\xa5", "new\nline"}) {
    const std::string path = root + "/" + name;
    CommandSpec make;
    make.script = "mkdir -p -- \"$P\" && cd -- \"$P\"";
    make.env = {{"P", path}};
    RunPtr run = world().Run(session(), make);
    ExpectExit(run, 0);
    EXPECT_EQ(run->outcome->cwd, path);
    EXPECT_EQ(Out("printf %s \"$PWD\""), path);
    CommandSpec there;
    there.script = "printf %s \"$PWD\"";
    there.cwd = path;
    EXPECT_EQ(world().Run(session(), there)->out, path);
  }
  Run("cd /; rm -rf " + root);
}

TEST_P(BackendContract, V33ATildeIsTheHomeOverThere) {
  const std::string home = Out("printf %s \"$HOME\"");
  CommandSpec spec;
  spec.script = "mkdir -p ~/'hermes contract a b'";
  world().Run(session(), spec);
  spec.script = "printf %s \"$PWD\"";
  spec.cwd = "~/hermes contract a b";
  EXPECT_EQ(world().Run(session(), spec)->out, home + "/hermes contract a b");
  Run("rmdir ~/'hermes contract a b'");
}

TEST_P(BackendContract, V34SessionsNeverSeeEachOthersVariables) {
  Run("export MINE=secret; mine() { :; }; cd /usr");
  TestSession& other = world().Open();
  EXPECT_EQ(world().Run(other, "echo [$MINE]; type mine 2>/dev/null")->out, "[]\n");
  EXPECT_NE(world().Run(other, "pwd")->out, "/usr\n");
}

TEST_P(BackendContract, V35AKilledCommandLeavesTheStateAsItWas) {
  Run("export A=before; cd /usr");
  RunPtr run = world().Start(session(), "export A=after; cd /etc; echo s; sleep 60");
  ASSERT_TRUE(world().Until([run] { return run->out == "s\n"; }));
  ASSERT_TRUE(world().Kill(run, milliseconds(100)).ok());
  world().WaitEnd(run);
  EXPECT_FALSE(run->outcome->state_committed);
  EXPECT_NE(run->outcome->state_reason, "");
  EXPECT_EQ(Out("echo $A; pwd"), "before\n/usr\n");
}

TEST_P(BackendContract, ReadOnlyAndIsolatedCommandsChangeNothing) {
  Run("export A=kept");
  CommandSpec spec;
  spec.script = "echo [$A]; export A=changed; cd /etc";
  spec.state_mode = StateMode::kReadOnly;
  EXPECT_EQ(world().Run(session(), spec)->out, "[kept]\n");
  spec.state_mode = StateMode::kIsolated;
  EXPECT_EQ(world().Run(session(), spec)->out, "[]\n");
  EXPECT_EQ(Out("echo [$A]"), "[kept]\n");
}

TEST_P(BackendContract, TheSessionStartsWhereAndWithWhatItWasAskedTo) {
  SessionSpec spec;
  spec.cwd = "/usr";
  spec.env = {{"FROM_SPEC", "a 'b'"}};
  TestSession& session = world().Open(spec);
  EXPECT_EQ(session.facts.cwd, "/usr");
  EXPECT_EQ(world().Run(session, "pwd; printf %s \"$FROM_SPEC\"")->out, "/usr\na 'b'");
}

}  // namespace
}  // namespace hermes::contract
