#include <set>

#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

class WarmTest : public RunnerTest {
 protected:
  void SetUp() override {
    RunnerTest::SetUp();
    OpenSession();
  }

  static pid_t ParentOf(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(stat, line);
    size_t close = line.rfind(") ");
    return close == std::string::npos ? 0 : std::atoi(line.c_str() + close + 4);
  }
  static bool HasSourced(pid_t pid) {
    std::error_code none;
    std::string file = "/proc/" + std::to_string(pid) + "/fd/7";
    return IsWaitingShell(pid) && !std::filesystem::is_symlink(file, none);
  }
  // Shells of this runner that have sourced their state and wait for a command.
  std::set<pid_t> Waiting() const {
    std::set<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      pid_t pid = std::atoi(entry.path().filename().c_str());
      if (pid > 0 && HasSourced(pid) && ParentOf(ParentOf(pid)) == runner_pid) found.insert(pid);
    }
    return found;
  }
  // The one there is, once it has replaced `other`; 0: there is none.
  pid_t WaitForShell(pid_t other = 0) const {
    for (auto give_up = Clock::now() + kPatience; Clock::now() < give_up; poll(nullptr, 0, 1)) {
      std::set<pid_t> waiting = Waiting();
      if (waiting.size() == 1 && *waiting.begin() != other) return *waiting.begin();
    }
    return 0;
  }
  // Puts the state back to what every script of ExpectAlike starts from.
  static constexpr const char* kReset = "cd /usr; unset BOTH OLDPWD";

  // Runs this in the shell that waits. The one that was seen may just be being replaced, hence more
  // than one attempt; `reset` undoes one that missed.
  const Result& RunWarm(frames::Start start, const std::string& reset = "") {
    constexpr int kAttempts = 10;
    for (int attempt = 1;; ++attempt) {
      pid_t shell = WaitForShell();
      start.run_id = NewRunId();
      const Result& result = client->Finish(start);
      if (static_cast<pid_t>(result.pid) == shell) return result;
      if (attempt == kAttempts) {
        ADD_FAILURE() << "no command runs in a shell that waited";
        return result;
      }
      if (!reset.empty()) Run(reset);
    }
  }
  const Result& RunWarm(const std::string& script) { return RunWarm(Shell(script)); }
  // Runs this in a shell of its own: a variable that only the start of a program looks at.
  const Result& RunCold(frames::Start start) {
    pid_t shell = WaitForShell();
    start.env.emplace_back("LD_HERMES_TEST", "1");
    const Result& result = client->Finish(start);
    EXPECT_NE(static_cast<pid_t>(result.pid), shell);
    return result;
  }
  // What both print must be the same, the names of the marking variables aside.
  void ExpectAlike(frames::Start start) {
    Run(kReset);
    const Result cold = RunCold(start);
    Run(kReset);
    start.env.emplace_back("XX_HERMES_TEST", "1");
    const Result warm = RunWarm(start, kReset);
    auto plain = [](std::string text) {
      for (size_t at; (at = text.find("LD_HERMES_TEST")) != std::string::npos;)
        text.replace(at, 2, "XX");
      return text;
    };
    EXPECT_EQ(warm.out, plain(cold.out)) << start.script;
    EXPECT_EQ(warm.err, plain(cold.err)) << start.script;
    EXPECT_EQ(warm.exit->value, cold.exit->value) << start.script;
    EXPECT_EQ(warm.exit->signalled, cold.exit->signalled) << start.script;
    EXPECT_EQ(warm.exit->state_committed, cold.exit->state_committed) << start.script;
    EXPECT_EQ(warm.exit->state_reason, cold.exit->state_reason) << start.script;
    EXPECT_EQ(warm.exit->cwd, cold.exit->cwd) << start.script;
  }
};

TEST_F(WarmTest, TheFirstCommandAndTheNextFindAShellThatWaits) {
  EXPECT_EQ(RunWarm("echo one").out, "one\n");
  EXPECT_EQ(RunWarm("echo two >&2; exit 3").err, "two\n");
  EXPECT_TRUE(client->List().empty()) << "a waiting shell is no command";
}

TEST_F(WarmTest, ALargeStateIsSourcedBeforeTheCommandComes) {
  Run("i=0; while [ $i -lt 350 ]; do eval \"f$i() { echo $i; : " + std::string(1000, 'x') +
      "; }\"; i=$((i+1)); done");
  EXPECT_EQ(RunWarm("f0; f349; declare -F | wc -l").out, "0\n349\n350\n");
}

TEST_F(WarmTest, LooksLikeAShellOfItsOwn) {
  Run("export KEPT='a b'; greet() { echo hi $1; }; alias say='echo said'; cd /usr");
  // A second may begin between any two: one is as good as none.
  for (std::string script :
       {("declare -p | grep -vE '^declare -[-airx]+ "
         "(BASHPID|EPOCH.*|PPID|RANDOM|SECONDS|SRANDOM|_)(=|$)|HERMES_TEST'"),
        ("set -o; shopt; alias; declare -F; trap | sed -E 's/[0-9a-f]{32}//g'; ulimit -a; umask; "
         "jobs; hash; dirs"),
        "echo $- $0 $# \"$@\" $? $SHLVL $BASH_SUBSHELL $LINENO; echo \"$_\"; echo ${BASH_ARGV0-}",
        "cd /proc/$$/fd; echo *; readlink 0; ls -l /proc/self/fd | wc -l; cd ~-",
        ("env | grep -vE '^_=|HERMES_TEST' | sort; declare -p PWD OLDPWD; declare -p SECONDS | tr "
         "1 0; "
         "cd -; cd /tmp; cd -"),
        "tr '\\0' ' ' </proc/$$/cmdline; cat /proc/$$/comm; grep -E 'Sig[BIC]|Cap' /proc/$$/status",
        "[ $$ = $BASHPID ] && ps -o sid= -p $$ | grep -qw $$ && echo leader; cat /proc/$PPID/comm",
        "echo 'it is' \"$BASH_COMMAND\"; greet you; say it; echo $KEPT; type greet",
        "set -e; trap 'echo bye' EXIT; false; echo never",
        "set -u; echo $NOT_THERE",
        "set -x; echo traced; ls /not/there",
        "trap 'echo debug $BASH_COMMAND' DEBUG; echo x",
        "echo \"a'b\\\"c\"; cat <<X\nhere $KEPT\nX\necho 'open",
        "return 4",
        "exec echo other",
        "exit 124",
        "kill -9 $$",
        "pwd; readlink /proc/$$/cwd; echo $((SECONDS > 1)); times | wc -l",
        "read line || echo none; wait; echo $!",
        "export BOTH=1; cd /var; false"}) {
    ExpectAlike(Shell(script));
  }
}

TEST_F(WarmTest, TakesDirectoryVariablesAndSecretsOfTheCommand) {
  frames::Start start = Shell(
      "pwd; echo \"$G$S\"; cat /proc/self/environ | tr '\\0' '\\n' | grep -acE '^(G|S|PWD)='; "
      "tr '\\0' '\\n' </proc/$$/cmdline | grep -c secret; echo ${OLDPWD-none}");
  start.cwd = "/usr";
  start.env = {{"G", "it's $(given)\n"}, {"S", "overruled"}};
  start.secret_env = {{"S", "secret"}};
  ExpectAlike(start);
  EXPECT_EQ(RunWarm(start).out, "/usr\nit's $(given)\nsecret\n3\n0\nnone\n");
  EXPECT_EQ(RunWarm("echo \"[${G-}${S-}]\"; pwd").out, "[]\n/usr\n");
}

TEST_F(WarmTest, ADirectoryThatIsNotThereIsStillALaunchFailure) {
  ASSERT_NE(WaitForShell(), 0);
  frames::Start start = Shell("echo never");
  start.cwd = "/not/there";
  const Result& result = client->Finish(start);
  EXPECT_EQ(result.exit->stage, frames::LaunchStage::kBadCwd);
  EXPECT_EQ(result.exit->launch_errno, ENOENT);
  EXPECT_EQ(RunWarm("pwd").out, "/tmp\n");
}

TEST_F(WarmTest, ADirectoryIsNotHeldByAWaitingShell) {
  Run("cd " + home);
  pid_t shell = WaitForShell();
  EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(shell) + "/cwd"), "/");
  EXPECT_EQ(RunWarm("pwd").out, home + "\n");
}

TEST_F(WarmTest, StdinAndMergedOutputAreAsAskedFor) {
  frames::Start start = Shell("echo first >&2; cat");
  start.stdin_kind = frames::StdinKind::kOpen;
  start.merge_stderr = 1;
  bool warm = false;
  for (int attempt = 0; attempt < 10 && !warm; ++attempt) {
    pid_t shell = WaitForShell();
    start.run_id = NewRunId();
    uint32_t command = client->Start(start);
    client->Stdin(command, 0, "through");
    client->StdinEof(command, 7);
    ASSERT_TRUE(client->UntilDrained(command));
    EXPECT_EQ(client->results[command].out, "first\nthrough");
    EXPECT_EQ(client->results[command].err, "");
    warm = static_cast<pid_t>(client->results[command].pid) == shell;
    EXPECT_FALSE(warm && attempt == 0) << "that one has other pipes";
  }
  EXPECT_TRUE(warm);
}

TEST_F(WarmTest, AChangedStateReplacesTheShell) {
  uint32_t slow = client->Start(Shell("echo ready; sleep 1000"));
  ASSERT_TRUE(client->Until(slow, [](const Result& r) { return r.out == "ready\n"; }));
  Run("true");
  pid_t shell = WaitForShell();
  Run("export MOVED=1");  // in it, so the next one knows
  pid_t next = WaitForShell(shell);
  frames::Start start = Shell("export MOVED=2");
  start.env.emplace_back("LD_HERMES_TEST", "1");  // beside it
  client->Finish(start);
  WaitForEnd(next);
  EXPECT_EQ(RunWarm("echo $MOVED").out, "2\n");
  client->Kill(slow, 0);
  ASSERT_TRUE(client->UntilDrained(slow));
}

TEST_F(WarmTest, TheDeadlineAndAKillReachTheCommand) {
  frames::Start start = Shell("setsid env -i sleep 1000 & sleep 1000");
  start.deadline_ms = 100;
  start.grace_ms = 0;
  const Result& late = RunWarm(start);
  EXPECT_EQ(late.exit->cause, frames::Cause::kRunTimeout);
  EXPECT_GE(late.exit->tree.signalled, 3u);
  pid_t shell = WaitForShell();
  uint32_t command = client->Start(Shell("echo ready; sleep 1000 & sleep 1000"));
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.out == "ready\n"; }));
  EXPECT_EQ(static_cast<pid_t>(client->results[command].pid), shell);
  client->Kill(command, 0);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].killed->survivors, 0u);
  EXPECT_EQ(client->results[command].exit->cause, frames::Cause::kCancelled);
}

TEST_F(WarmTest, AShellThatDiedOrItsSupervisorCostsTheNextCommandNothing) {
  for (bool supervisor : {false, true}) {
    pid_t shell = WaitForShell();
    ASSERT_NE(shell, 0);
    kill(supervisor ? ParentOf(shell) : shell, SIGKILL);
    WaitForEnd(shell);
    const Result& result = Run("echo here");
    EXPECT_EQ(result.out, "here\n");
    EXPECT_EQ(result.exit->cause, frames::Cause::kNatural);
    EXPECT_NE(static_cast<pid_t>(result.pid), shell);
  }
}

TEST_F(WarmTest, AScriptThatDoesNotFitStartsItsOwnShell) {
  ASSERT_NE(WaitForShell(), 0);
  EXPECT_EQ(Run("echo begin\n" + std::string(1 << 17, '#') + "\necho end").out, "begin\nend\n");
  EXPECT_EQ(RunWarm("echo next").out, "next\n");
}

TEST_F(WarmTest, AnotherPasswordMeansAnotherShell) {
  pid_t shell = WaitForShell();
  client->Send(Type::kSecret, 0, [](frames::Writer& w) {
    w.Str("s");
    w.Str("word");
  });
  WaitForEnd(shell);
  EXPECT_EQ(RunWarm("type -t sudo; echo ${SUDO_ASKPASS:+set}").out, "function\nset\n");
}

TEST_F(WarmTest, GoesWithItsSessionAndWithTheRunner) {
  pid_t shell = WaitForShell();
  ASSERT_TRUE(client->CloseSession("s", 0));
  WaitForEnd(shell);
  OpenSession("t");
  shell = WaitForShell();
  KillRunner();
  WaitForEnd(shell);
}

TEST_F(WarmTest, NeverMoreThanSixteenWait) {
  for (int i = 0; i < 30; ++i) OpenSession("many" + std::to_string(i));
  // All that were to be started have been by then.
  EXPECT_EQ(client->Finish(Shell("echo done", "many29")).out, "done\n");
  for (int i = 0; i < 30; ++i) client->Finish(Shell("echo done", "many" + std::to_string(i)));
  EXPECT_LE(Waiting().size(), 16u);
}

TEST_F(WarmTest, WhatRunsCodeAtItsStartIsNeverStartedAhead) {
  ASSERT_TRUE(client->CloseSession("s", 0));
  std::ofstream(home + "/env") << "echo run >>" << home << "/ran\n";
  frames::Open open{.session = "b", .cwd = "/tmp", .env = {{"BASH_ENV", home + "/env"}}};
  ASSERT_TRUE(client->Open(open));
  client->Finish(Shell("true", "b"));
  std::string count = client->Finish(Shell("wc -l <" + home + "/ran", "b")).out;
  EXPECT_EQ(count, "2\n");
}

}  // namespace
}  // namespace hermes::test
