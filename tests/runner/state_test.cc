#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

class StateTest : public RunnerTest {
 protected:
  void SetUp() override {
    RunnerTest::SetUp();
    OpenSession();
  }
  // Runs and expects that the state was committed.
  const Result& Keep(const std::string& script) {
    const Result& result = Run(script);
    EXPECT_EQ(result.exit->state_committed, 1) << result.exit->state_reason;
    return result;
  }
};

TEST_F(StateTest, ExportsAndTheDirectoryStay) {
  Keep("export A=1");
  EXPECT_EQ(Keep("echo $A").out, "1\n");
  const Result& moved = Keep("cd /usr; exit 0");
  EXPECT_EQ(moved.exit->cwd, "/usr");
  EXPECT_EQ(Keep("pwd").out, "/usr\n");
}

TEST_F(StateTest, AFailingScriptStillMoves) {
  const Result& result = Keep("cd /var; set -e; false; echo never");
  EXPECT_EQ(result.exit->value, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(Run("pwd").out, "/var\n");
}

TEST_F(StateTest, FunctionsAndAliasesStay) {
  Keep("greet() { echo \"hello $1\"; }; alias say='echo said'");
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Keep("greet you; say it").out, "hello you\nsaid it\n");
}

TEST_F(StateTest, AHostileValueIsKeptAndNeverRun) {
  std::string value = "two\nlines 'single' \"double\" $(touch " + directory + "/ran) `touch " +
                      directory + "/ran`; declare -x EVIL=1\n}";
  frames::Start start = Shell("export V=\"$GIVEN\"");
  start.env.emplace_back("GIVEN", value);
  client->Finish(start);
  EXPECT_EQ(Run("printf %s \"$V\"; echo; echo \"[$EVIL]\"").out, value + "\n[]\n");
  EXPECT_FALSE(std::filesystem::exists(directory + "/ran"));
}

TEST_F(StateTest, TextInTheOutputChangesNothing) {
  const Result& result = Run("echo '__HERMES_CWD_x__/etc__HERMES_CWD_x__'; cat $0 2>&1; true");
  EXPECT_NE(result.out.find("__HERMES_CWD_x__/etc"), std::string::npos);
  EXPECT_EQ(Run("pwd").out, "/tmp\n");
}

TEST_F(StateTest, ParallelCommandsLoseNothingOfEachOther) {
  std::vector<uint32_t> commands;
  for (int i = 0; i < 8; ++i)
    commands.push_back(
        client->Start(Shell("export P" + std::to_string(i) + "=" + std::to_string(i))));
  for (uint32_t command : commands) ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(Run("echo $P0$P1$P2$P3$P4$P5$P6$P7").out, "01234567\n");
}

TEST_F(StateTest, ACommandsOwnDirectoryIsNotKept) {
  frames::Start start = Shell("pwd; cd /usr");
  start.cwd = "/";
  EXPECT_EQ(client->Finish(start).out, "/\n");
  EXPECT_EQ(Run("pwd").out, "/tmp\n");
}

TEST_F(StateTest, OddDirectoryNamesWork) {
  for (std::string name : {"a b", "-dash", "öäü", "q'uote", "new\nline"}) {
    std::filesystem::create_directory(directory + "/" + name);
    frames::Start start = Shell("pwd");
    start.cwd = directory + "/" + name;
    EXPECT_EQ(client->Finish(start).out, directory + "/" + name + "\n");
    start = Shell("cd -- \"$D\"");
    start.env.emplace_back("D", directory + "/" + name);
    client->Finish(start);
    EXPECT_EQ(Run("pwd").out, directory + "/" + name + "\n");
  }
}

TEST_F(StateTest, ARemovedDirectoryGivesItsParent) {
  Keep("mkdir -p " + directory + "/x/y; cd " + directory + "/x/y");
  Keep("rmdir " + directory + "/x/y");
  EXPECT_EQ(Run("pwd").out, directory + "/x\n");
}

TEST_F(StateTest, SessionsDoNotSeeEachOther) {
  OpenSession("other");
  Keep("export MINE=1");
  EXPECT_EQ(client->Finish(Shell("echo \"[$MINE]\"", "other")).out, "[]\n");
}

TEST_F(StateTest, AKilledCommandChangesNothing) {
  uint32_t command = client->Start(Shell("export A=bad; cd /usr; echo ready; exec sleep 1000"));
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.out == "ready\n"; }));
  client->Kill(command, 1000);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].exit->state_committed, 0);
  EXPECT_EQ(Run("echo \"[$A]\"; pwd").out, "[]\n/tmp\n");
}

TEST_F(StateTest, WhatCameWithTheCommandIsNotKept) {
  frames::Start start = Shell("export GIVEN SECRET OWN=1; echo $GIVEN$SECRET");
  start.env.emplace_back("GIVEN", "g");
  start.secret_env.emplace_back("SECRET", "s");
  EXPECT_EQ(client->Finish(start).out, "gs\n");
  EXPECT_EQ(Run("echo \"[$GIVEN$SECRET$OWN]\"").out, "[1]\n");
}

TEST_F(StateTest, ExecLeavesNoStateAndSaysWhy) {
  const Result& result = Run("export A=1; exec true");
  EXPECT_EQ(result.exit->state_committed, 0);
  EXPECT_NE(result.exit->state_reason.find("exec"), std::string::npos);
}

TEST_F(StateTest, ReadOnlyAndIsolatedCommandsKeepNothing) {
  Keep("export A=1; cd /usr");
  frames::Start start = Shell("echo $A; export B=1");
  start.state_mode = frames::StateMode::kReadOnly;
  const Result& read_only = client->Finish(start);
  EXPECT_EQ(read_only.out, "1\n");
  EXPECT_EQ(read_only.exit->state_reason, "read only");
  start = Shell("echo \"[$A]\"; pwd; export B=1");
  start.state_mode = frames::StateMode::kIsolated;
  const Result& isolated = client->Finish(start);
  EXPECT_EQ(isolated.out, "[]\n/tmp\n");
  EXPECT_EQ(isolated.exit->state_reason, "isolated");
  EXPECT_EQ(Run("echo \"[$B]\"").out, "[]\n");
}

TEST_F(StateTest, TheGenerationMovesOnlyWithAChange) {
  uint64_t first = Keep("true").exit->generation;
  EXPECT_EQ(Keep("true").exit->generation, first);
  EXPECT_EQ(Keep("export A=1").exit->generation, first + 1);
}

TEST_F(StateTest, NothingOfACaptureStaysBehind) {
  Run("export A=1");
  Run("exit 3");
  Run("kill -9 $$");
  EXPECT_TRUE(std::filesystem::is_empty(directory + "/run"));
}

class OpenTest : public RunnerTest {};

TEST_F(OpenTest, StartsFromACleanLoginEnvironment) {
  client->Open({.session = "s", .cwd = "", .env = {{"EXTRA", "a b"}}, .resume = 0});
  const Result& result = Run("echo $EXTRA; echo $HOME; pwd; echo \"[$GTEST_ENV]\"; echo $PATH");
  EXPECT_EQ(result.out.substr(0, 4 + 2 * (home.size() + 1) + 3),
            "a b\n" + home + "\n" + home + "\n[]\n");
  EXPECT_NE(result.out.find("/usr/bin"), std::string::npos);
}

TEST_F(OpenTest, ExpandsTheHomeAndRefusesWhatIsNoDirectory) {
  EXPECT_FALSE(client->Open({.session = "a", .cwd = "/no/such", .env = {}, .resume = 0}));
  EXPECT_EQ(client->last_refusal, "BAD_FIELD");
  EXPECT_FALSE(client->Open({.session = "../a", .cwd = "", .env = {}, .resume = 0}));
  EXPECT_EQ(client->last_refusal, "BAD_FIELD");
  auto opened = client->Open({.session = "b", .cwd = "~", .env = {}, .resume = 0});
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->cwd, home);
}

TEST_F(OpenTest, AUsedSessionIsTakenAndCanBeResumed) {
  OpenSession();
  Run("export A=1");
  EXPECT_FALSE(client->Open({.session = "s", .cwd = "", .env = {}, .resume = 0}));
  EXPECT_EQ(client->last_refusal, "SESSION_ID_TAKEN");
  auto resumed = client->Open({.session = "s", .cwd = "", .env = {}, .resume = 1});
  ASSERT_TRUE(resumed);
  EXPECT_EQ(resumed->recovered, 1);
  EXPECT_EQ(resumed->generation, 2u);
}

TEST_F(OpenTest, AThousandSessionsShareOneLoginShell) {
  for (int i = 0; i < 1000; ++i) OpenSession("s" + std::to_string(i));
  EXPECT_EQ(client->Finish(Shell("pwd", "s999")).out, "/tmp\n");
}

}  // namespace
}  // namespace hermes::test
