// The forms of hermesctl that scripts rely on, against a real daemon, runner and shell.

#include <signal.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/client/child.h"
#include "tests/e2e/daemon_process.h"
#include "tests/hosts/processes.h"

namespace hermes {
namespace {

using client::Child;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CtlTest : public testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    EXPECT_EQ(Ctl({"session", "create", "box", "--backend", "local"}).out, "box\n");
  }

  std::vector<std::string> Words(std::vector<std::string> words) const {
    words.insert(words.begin(), {"--socket", daemon_.socket()});
    return words;
  }

  Ran Ctl(std::vector<std::string> words, const std::string& input = "") const {
    words = Words(std::move(words));
    words.insert(words.begin(), BinDir() + "/hermesctl");
    return RunProgram({.argv = words, .input = input});
  }

  // A command in the background; its NAME/COMMAND.
  std::string Started(const std::string& script) const {
    const Ran ran = Ctl({"start", "box", "--", script});
    EXPECT_EQ(ran.status, 0) << ran.err;
    return ran.out.substr(0, ran.out.find('\n'));
  }

  DaemonProcess daemon_;
};

TEST_F(CtlTest, SessionsAreMadeListedShownChangedRenewedAndRemoved) {
  Ran ran = Ctl({"session", "create", "other", "--backend", "local", "--cwd", "/usr", "--env",
                 "A=a b", "--ttl", "1h", "--lease", "2h", "--label", "team=x", "--label", "k=v"});
  EXPECT_EQ(ran.out, "other\n") << ran.err;
  EXPECT_EQ(Ctl({"exec", "other", "--", "pwd; echo $A"}).out, "/usr\na b\n");
  EXPECT_THAT(Ctl({"session", "ls", "--label", "team=x", "-o", "json"}).out,
              HasSubstr("\"sessions/other\""));
  EXPECT_THAT(Ctl({"session", "ls", "--label", "team=y"}).out, Not(HasSubstr("other")));
  EXPECT_THAT(Ctl({"session", "ls", "--state", "READY", "--backend", "local"}).out,
              HasSubstr("box"));
  EXPECT_THAT(Ctl({"session", "ls", "--state", "FAILED"}).out, Not(HasSubstr("box")));
  EXPECT_THAT(Ctl({"session", "show", "other", "-o", "json"}).out, HasSubstr("\"3600s\""));
  EXPECT_THAT(Ctl({"session", "update", "other", "--label", "team=z"}).out, HasSubstr("team=z"));
  const auto lease = [this] { return daemon_.GetSession("other").expire_time().seconds(); };
  const int64_t before = lease();
  EXPECT_EQ(Ctl({"session", "renew", "other", "1m"}).status, 0);
  EXPECT_EQ(lease(), before) << "a lease was shortened";
  EXPECT_EQ(Ctl({"session", "renew", "other", "3h"}).status, 0);
  EXPECT_GT(lease(), before);
  ran = Ctl({"session", "create", "other"});
  EXPECT_EQ(ran.status, 125);
  EXPECT_THAT(ran.err, HasSubstr("SESSION_ID_TAKEN"));
  EXPECT_EQ(Ctl({"session", "rm", "other"}).status, 0);
  ran = Ctl({"exec", "other", "--", "true"});
  EXPECT_EQ(ran.status, 125);
  EXPECT_THAT(ran.err, HasSubstr("SESSION_NOT_READY"));
  EXPECT_EQ(Ctl({"cleanup", "box", "--discard"}).status, 0);
}

TEST_F(CtlTest, ExecGivesOutputAndTheCommandsCode) {
  Ran ran = Ctl({"exec", "box", "--timeout", "50s", "--cwd", "/usr", "--env", "K=V", "--no-sync",
                 "--", "pwd; echo $K; echo e >&2; exit 7"});
  EXPECT_EQ(ran.status, 7);
  EXPECT_EQ(ran.out, "/usr\nV\n");
  EXPECT_EQ(ran.err, "e\n");
  EXPECT_EQ(Ctl({"exec", "box", "--merge", "--", "echo 1; echo 2 >&2; echo 3"}).out, "1\n2\n3\n");
  EXPECT_EQ(Ctl({"exec", "box", "--argv", "--", "printf", "%s|", "a b", "$HOME"}).out,
            "a b|$HOME|");
  EXPECT_EQ(Ctl({"exec", "box", "-i", "--", "wc -c"}, std::string(100'000, 'x')).out, "100000\n");
  const std::string bytes("a\xff\xfe\0b", 5);
  EXPECT_EQ(Ctl({"exec", "box", "-i", "--", "cat"}, bytes).out, bytes);
  EXPECT_THAT(Ctl({"exec", "box", "-o", "json", "--", "echo x; exit 3"}).out,
              HasSubstr("\"stdout\": \"x\\n\""));
}

TEST_F(CtlTest, ExecEndsWithTheCodesOfShells) {
  EXPECT_EQ(Ctl({"exec", "box", "--timeout", "100ms", "--", "sleep 1000"}).status, 124);
  EXPECT_EQ(Ctl({"exec", "none", "--", "true"}).status, 125);
  EXPECT_EQ(Ctl({"exec", "box", "--cwd", "/no/such/folder", "--", "true"}).status, 126);
  EXPECT_EQ(Ctl({"exec", "box", "--argv", "--", "/no/such/program"}).status, 127);
  EXPECT_EQ(Ctl({"exec", "box", "--", "kill -9 $$"}).status, 137);
}

TEST_F(CtlTest, ARequestIdRunsOnce) {
  const std::string file = daemon_.dir() + "/ran";
  const std::vector<std::string> words = {
      "exec", "box", "--request-id", NewUuid(), "--", "echo x >>" + file + "; wc -l <" + file};
  EXPECT_EQ(Ctl(words).out, "1\n");
  EXPECT_EQ(Ctl(words).out, "1\n");
}

TEST_F(CtlTest, ADetachedCommandIsAttachedAndItsLogReadFromAnyOffset) {
  Ran ran = Ctl({"exec", "box", "--detach", "--", "seq 1 1000; echo e >&2; exit 4"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const std::string name = ran.out.substr(0, ran.out.find('\n'));
  ASSERT_THAT(name, StartsWith("box/"));
  EXPECT_EQ(Ctl({"wait", name}).status, 4);
  std::string all;
  for (int i = 1; i <= 1000; ++i) all += std::to_string(i) + "\n";
  ran = Ctl({"attach", name, "--from-stdout", "10", "--from-stderr", "1"});
  EXPECT_EQ(ran.status, 4);
  EXPECT_EQ(ran.out, all.substr(10));
  EXPECT_EQ(ran.err, "\n");
  EXPECT_EQ(Ctl({"logs", name}).out, all);
  EXPECT_EQ(Ctl({"logs", "-f", name}).out, all);
  EXPECT_EQ(Ctl({"logs", name, "--stderr"}).out, "e\n");
  EXPECT_EQ(Ctl({"logs", name, "--head", "5"}).out, all.substr(0, 5));
  EXPECT_EQ(Ctl({"logs", name, "--tail", "5"}).out, all.substr(all.size() - 5));
  EXPECT_EQ(Ctl({"logs", name, "--since-offset", "3000"}).out, all.substr(3000));
  EXPECT_EQ(Ctl({"logs", name, "--grep", "^99.$"}).out.substr(0, 8), "990\n991\n");
  ran = Ctl({"attach", name, "--from-stdout", "1000000"});
  EXPECT_EQ(ran.status, 125);
  EXPECT_THAT(ran.err, HasSubstr("OFFSET_BEYOND_END"));
}

TEST_F(CtlTest, CommandsAreListedSignalledAndKilled) {
  const std::string fifo = daemon_.dir() + "/go";
  const std::string first = Started("trap 'echo usr1; exit 5' USR1; mkfifo " + fifo + "; echo >" +
                                    fifo + "; sleep 1000 & wait");
  std::string line;
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(fifo); }));
  std::getline(std::ifstream(fifo), line);
  EXPECT_THAT(Ctl({"ps", "box", "-o", "json"}).out, HasSubstr("\"RUNNING\""));
  EXPECT_THAT(Ctl({"ps", "-o", "json"}).out, HasSubstr("sessions/" + std::string("box")));
  EXPECT_EQ(Ctl({"wait", first, "--timeout", "1ms"}).status, 124);
  EXPECT_EQ(Ctl({"kill", first, "--signal", "USR1"}).status, 0);
  EXPECT_EQ(Ctl({"wait", first}).status, 5);
  const std::string second = Started("setsid sleep 1000 & sleep 1000");
  EXPECT_EQ(Ctl({"kill", second}).status, 0);
  EXPECT_EQ(Ctl({"wait", second}).status, 130);
  EXPECT_THAT(Ctl({"ps", "box", "--state", "RUNNING"}).out, Not(HasSubstr(second)));
}

TEST_F(CtlTest, WhatACommandLeavesBehindIsListedUntilItIsKilled) {
  const std::string name = Started("sleep 1000 & exit 3");
  EXPECT_EQ(Ctl({"wait", name}).status, 3);
  EXPECT_THAT(Ctl({"ps", "box", "-o", "jsonl"}).out, HasSubstr("\"residual\":true"));
  EXPECT_EQ(Ctl({"kill", name}).status, 0);
  EXPECT_THAT(Ctl({"ps", "box", "-o", "jsonl"}).out, HasSubstr("\"residual\":false"));
  EXPECT_EQ(Ctl({"wait", name}).status, 3);
}

TEST_F(CtlTest, ASignalForTheLeaderReachesNobodyElse) {
  const std::string fifo = daemon_.dir() + "/go", heard = daemon_.dir() + "/heard";
  const std::string name = Started(
      "mkfifo " + fifo + "; (trap 'echo child >>" + heard + "' HUP; echo >" + fifo +
      "; while :; do sleep 0.01; done) & trap 'echo leader >>" + heard + "; exit 5' HUP; wait");
  std::string line;
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(fifo); }));
  std::getline(std::ifstream(fifo), line);
  EXPECT_EQ(Ctl({"kill", name, "--signal", "HUP", "--scope", "leader"}).status, 0);
  EXPECT_EQ(Ctl({"wait", name}).status, 5);
  EXPECT_THAT(Ctl({"session", "show", "box"}).out, HasSubstr("READY"));
  EXPECT_EQ(ReadWholeFile(heard), "leader\n");
  EXPECT_EQ(Ctl({"kill", name, "--signal", "HUP"}).status, 0);
  EXPECT_TRUE(Eventually([&] { return ReadWholeFile(heard) == "leader\nchild\n"; }));
  EXPECT_EQ(Ctl({"kill", name}).status, 0) << "what it left behind";
}

TEST_F(CtlTest, WatchTellsEveryChangeUntilItIsInterrupted) {
  Child watch(Words({"session", "watch", "-o", "jsonl"}));
  ASSERT_TRUE(watch.WaitForStdout("bookmark")) << watch.err();
  EXPECT_THAT(watch.out(), HasSubstr("sessions/box"));
  ASSERT_EQ(Ctl({"session", "create", "seen"}).status, 0);
  EXPECT_TRUE(watch.WaitForStdout("sessions/seen"));
  ASSERT_EQ(Ctl({"cleanup", "seen"}).status, 0);
  EXPECT_TRUE(watch.WaitForStdout("CLOSED"));
  watch.Signal(SIGINT);
  EXPECT_EQ(watch.Wait(), 1000 + SIGINT);
}

TEST_F(CtlTest, AShellIsInteractiveAndKeepsNothingOfTheTerminal) {
  Child shell(Words({"shell", "box"}), Child::Streams::kTerminal, {"TERM=xterm"});
  shell.Write("echo $((40+2)) $TERM\n");
  ASSERT_TRUE(shell.WaitForStdout("42 xterm")) << shell.out() << shell.err();
  const std::string sleep = "sleep 1000." + std::to_string(RandomNumber());
  shell.Write(sleep + "\n");
  EXPECT_TRUE(Eventually([&] {
    return Ctl({"exec", "box", "--", "pgrep -f '^" + sleep + "$' >/dev/null && echo there"}).out ==
           "there\n";
  }));
  shell.Write("\x03");
  shell.Write("echo $((50+5))\n");
  EXPECT_TRUE(shell.WaitForStdout("55")) << "Ctrl-C did not reach the foreground";
  shell.Write("exit 9\n");
  EXPECT_EQ(shell.Wait(), 9);
}

TEST_F(CtlTest, ACommandOnATerminalEndsWithItsCode) {
  Child child(Words({"exec", "box", "--tty", "--", "test -t 0 && test -t 1 && read -r x; exit $x"}),
              Child::Streams::kTerminal);
  child.Write("6\n");
  EXPECT_EQ(child.Wait(), 6);
}

TEST_F(CtlTest, AResizeOfTheTerminalReachesTheOneOverThere) {
  const std::string until_it_came =
      "for i in $(seq 2000); do test \"$(stty size)\" = '37 111' && echo ca\"\"me && break; "
      "sleep 0.01; done";
  const winsize before{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
  const winsize after{.ws_row = 37, .ws_col = 111, .ws_xpixel = 0, .ws_ypixel = 0};
  const std::vector<std::vector<std::string>> ways = {
      {"shell", "box"}, {"exec", "box", "--tty", "--", "stty size; " + until_it_came}};
  for (const std::vector<std::string>& way : ways) {
    SCOPED_TRACE(way[0]);
    Child child(Words(way), Child::Streams::kTerminal, {"TERM=xterm"});
    ASSERT_EQ(ioctl(child.terminal(), TIOCSWINSZ, &before), 0);
    if (way[0] == "shell") child.Write("stty size; " + until_it_came + "; exit\n");
    ASSERT_TRUE(child.WaitForStdout("24 80")) << child.out() << child.err();
    ASSERT_EQ(ioctl(child.terminal(), TIOCSWINSZ, &after), 0);
    EXPECT_TRUE(child.WaitForStdout("came")) << child.out();
    EXPECT_EQ(child.Wait(), 0);
  }
}

TEST_F(CtlTest, AnInterruptEndsTheCommandOverThere) {
  const std::string cookie = "E2E_COOKIE=" + NewUuid();
  Child child(Words({"exec", "box", "--env", cookie, "--", "echo go; sleep 1000"}));
  ASSERT_TRUE(child.WaitForStdout("go"));
  child.Signal(SIGINT);
  EXPECT_EQ(child.Wait(), 130);
  EXPECT_TRUE(WaitUntilNoneHas(cookie));
}

TEST_F(CtlTest, ColoursAreForTerminalsThatWantThem) {
  const auto table = [this](std::vector<std::string> environment) {
    Child child(Words({"session", "ls"}), Child::Streams::kTerminal, std::move(environment));
    EXPECT_EQ(child.Wait(), 0);
    return child.out();
  };
  EXPECT_THAT(table({"TERM=xterm"}), HasSubstr("\x1b["));
  EXPECT_THAT(table({"TERM=xterm", "NO_COLOR=1"}), Not(HasSubstr("\x1b[")));
  EXPECT_THAT(table({"TERM=dumb"}), Not(HasSubstr("\x1b[")));
  EXPECT_THAT(Ctl({"session", "ls"}).out, Not(HasSubstr("\x1b[")));
}

TEST_F(CtlTest, TheSocketMayComeFromTheEnvironment) {
  const Ran ran = RunProgram({.argv = {BinDir() + "/hermesctl", "session", "ls"},
                              .env = {"HERMESD_SOCKET=" + daemon_.socket()}});
  EXPECT_THAT(ran.out, HasSubstr("box")) << ran.err;
}

TEST_F(CtlTest, ADrainEndsTheDaemonAndLeavesCommandsRunning) {
  const std::string fifo = daemon_.dir() + "/go";
  const std::string name = Started("mkfifo " + fifo + "; cat " + fifo + "; exit 8");
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(fifo); }));
  EXPECT_EQ(Ctl({"drain"}).status, 0);
  EXPECT_EQ(AwaitChild(daemon_.pid()), 0);
  daemon_.Start();
  std::ofstream(fifo) << "on\n";
  EXPECT_EQ(Ctl({"wait", name}).status, 8);
  EXPECT_EQ(Ctl({"logs", name}).out, "on\n");
}

TEST_F(CtlTest, WhatEachBackendCanDoIsTold) {
  const std::string told = Ctl({"capabilities", "-o", "json"}).out;
  EXPECT_THAT(told, HasSubstr("\"backend\": \"local\""));
  EXPECT_THAT(told, HasSubstr("SUPERVISOR"));
  EXPECT_THAT(told, HasSubstr("GROUP_AND_COOKIE"));
  EXPECT_THAT(Ctl({"info"}).out, HasSubstr("sessions"));
}

}  // namespace
}  // namespace hermes
