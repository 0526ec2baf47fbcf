// hermesctl as a process against a scripted daemon on a real socket.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <algorithm>

#include "tests/client/child.h"
#include "tests/client/scripted_daemon.h"

namespace hermes::client {
namespace {

using End = ScriptedDaemon::End;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kName[] = "sessions/box/commands/c1";
constexpr char kId[] = "01234567-89ab-cdef-0123-456789abcdef";

class HermesctlTest : public ::testing::Test {
 protected:
  std::vector<std::string> Words(std::vector<std::string> words) {
    words.insert(words.begin(), {"--socket", daemon_.socket()});
    return words;
  }

  ScriptedDaemon daemon_;
};

TEST_F(HermesctlTest, StreamsBothOutputsAndExitsWithTheRemoteCode) {
  daemon_.Script({{{Started(kName), Out(0, "out"), Err(0, "err"), Exited(7)}}});
  Child child(Words({"exec", "box", "--", "echo", "hi"}));
  EXPECT_EQ(child.Wait(), 7);
  EXPECT_EQ(child.out(), "out");
  EXPECT_EQ(child.err(), "err");
}

TEST_F(HermesctlTest, AttachesAgainAtItsExactOffsetsAfterABreak) {
  daemon_.Script({{{Started(kName), Out(0, "hel"), Err(0, "ab")}, End::kTorn},
                  {{Started(kName), Out(1, "ello "), Err(2, "c")}, End::kUnavailable},
                  {{Started(kName), Out(6, "world"), Exited(0)}}});
  Child child(Words({"exec", "box", "--request-id", kId, "--", "x"}));
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(child.out(), "hello world");
  EXPECT_THAT(child.err(), StartsWith("ab"));
  EXPECT_THAT(child.err(), HasSubstr("hermesctl: connection lost, attaching again\n"));
  EXPECT_THAT(daemon_.calls(), ElementsAre("Execute " + std::string(kId) + " x @0,0",
                                           "Attach " + std::string(kName) + " @3,2",
                                           "Attach " + std::string(kName) + " @6,3"));
}

TEST_F(HermesctlTest, RepeatsExecuteWithTheSameIdWhileItHasNoName) {
  daemon_.Script({{{}, End::kTorn}, {{}, End::kUnavailable}, {{Started(kName), Exited(3)}}});
  Child child(Words({"exec", "box", "--", "x"}));
  EXPECT_EQ(child.Wait(), 3);
  std::vector<std::string> calls = daemon_.calls();
  ASSERT_EQ(calls.size(), 3u);
  EXPECT_EQ(calls[0], calls[1]);
  EXPECT_EQ(calls[1], calls[2]);
}

TEST_F(HermesctlTest, AStreamThatEndsInOrderWithoutFinishedIsNotSuccess) {
  daemon_.Script({{{Started(kName), Out(0, "a")}, End::kOk}, {{Out(1, "b"), Exited(9)}}});
  Child child(Words({"exec", "box", "--", "x"}));
  EXPECT_EQ(child.Wait(), 9);
  EXPECT_EQ(child.out(), "ab");
}

TEST_F(HermesctlTest, SurvivesARestartOfTheDaemon) {
  daemon_.Script({{{Started(kName), Out(0, "be")}, End::kStop}});
  Child child(Words({"exec", "box", "--", "x"}));
  ASSERT_TRUE(child.WaitForStdout("be"));
  ASSERT_TRUE(daemon_.WaitForCall("Stopped"));
  ASSERT_TRUE(child.WaitForStderr("attaching again"));
  daemon_.Stop();
  daemon_.Script({{{Started(kName), Out(2, "fore"), Exited(0)}}});
  daemon_.Start();
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(child.out(), "before");
}

TEST_F(HermesctlTest, GivesUpAfterItsPatienceAndSaysHowToComeBack) {
  daemon_.Script({{{Started(kName), Out(0, "abc")}, End::kTorn}});
  Child child(Words({"--patience", "200ms", "exec", "box", "--", "x"}));
  EXPECT_EQ(child.Wait(), 125);
  EXPECT_EQ(child.out(), "abc");
  EXPECT_THAT(child.err(), HasSubstr("hermesctl attach box/c1 --from-stdout 3 --from-stderr 0"));
}

TEST_F(HermesctlTest, ShowsARefusalWithReasonAndNextStepAndDoesNotRepeatIt) {
  daemon_.Script({{{}, End::kRefused}});
  Child child(Words({"exec", "box", "--", "x"}));
  EXPECT_EQ(child.Wait(), 125);
  EXPECT_EQ(child.err(),
            "hermesctl: session box is FAILED [SESSION_NOT_READY]\n  Create a new one.\n");
  EXPECT_EQ(daemon_.calls().size(), 1u);
}

TEST_F(HermesctlTest, AHostThatTheDaemonCannotReachIsAnAnswerAndNoLostConnection) {
  const std::string said =
      "hermesctl: box.example does not answer [BACKEND_UNREACHABLE]\n"
      "  Look whether the host runs.\n";
  daemon_.Script({{{}, End::kAway}});
  Child exec(Words({"exec", "box", "--", "x"}));
  EXPECT_EQ(exec.Wait(), 125);
  EXPECT_EQ(exec.err(), said);
  daemon_.ScriptSyncs({{{}, End::kAway}});
  Child sync(Words({"sync", "box"}));
  EXPECT_EQ(sync.Wait(), 125);
  EXPECT_EQ(sync.err(), said);
  EXPECT_EQ(daemon_.calls().size(), 2u);
}

TEST_F(HermesctlTest, AnUnreachableSocketIsNamedAtOnce) {
  Child child({"--socket", daemon_.socket() + ".none", "exec", "box", "--", "x"});
  EXPECT_EQ(child.Wait(), 125);
  EXPECT_THAT(child.err(), HasSubstr(daemon_.socket() + ".none: No such file or directory"));
  EXPECT_THAT(child.err(), HasSubstr("hermesd --dev --dir DIR"));
}

TEST_F(HermesctlTest, ReportsGapsWithBothEnds) {
  daemon_.Script({{{Started(kName), Out(0, "a"), GapEvent(1, 10, "dropped"), Out(10, "b"),
                    Out(20, "c"), Exited(0)}}});
  Child child(Words({"exec", "box", "--", "x"}));
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(child.out(), "abc");
  EXPECT_EQ(child.err(),
            "hermesctl: stdout: bytes 1 to 10 are missing (dropped)\n"
            "hermesctl: a larger --output-limit of exec keeps more for a slow reader\n"
            "hermesctl: stdout: bytes 11 to 20 are missing (not sent by the daemon)\n");
}

TEST_F(HermesctlTest, GivesNoAdviceOnBytesThatNoLimitDropped) {
  daemon_.Script({{{Started(kName), GapEvent(0, 10, "lost"), Exited(0)}}});
  Child child(Words({"exec", "box", "--", "x"}));
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(child.err(), "hermesctl: stdout: bytes 0 to 10 are missing (lost)\n");
}

TEST_F(HermesctlTest, WarnsAlsoAScriptOfFilesThatAreNotTheHosts) {
  v1::CommandEvent conflict;
  conflict.mutable_phase()->set_name("conflict");
  conflict.mutable_phase()->set_detail("of 1 files: a\x1b[0m");
  v1::CommandEvent waiting;
  waiting.mutable_phase()->set_name("reconnecting");
  daemon_.Script({{{Started(kName), waiting, conflict, Out(0, "a"), Exited(0)}}});
  Child child(Words({"exec", "box", "--", "x"}));
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(child.out(), "a");
  EXPECT_EQ(child.err(), "hermesctl: warning: of 1 files: a\\x1b[0m\n");
}

TEST_F(HermesctlTest, AddsUpGapsBeyondTheFirstFew) {
  std::vector<v1::CommandEvent> events = {Started(kName)};
  for (uint64_t at = 0; at < 100; at += 10) events.push_back(GapEvent(at, at + 10, "trimmed"));
  events.push_back(Exited(0));
  daemon_.Script({{events}});
  Child child(Words({"exec", "box", "--", "x"}));
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_THAT(child.err(), HasSubstr("bytes 70 to 80 are missing"));
  EXPECT_THAT(child.err(), Not(HasSubstr("bytes 80 to 90")));
  EXPECT_THAT(child.err(), HasSubstr("2 more gaps, 20 bytes; -o jsonl names each"));
}

TEST_F(HermesctlTest, PrintsOneDocumentWithJson) {
  daemon_.Script({{{Started(kName), Out(0, "o\xff"), Err(0, "e"), Exited(4)}}});
  Child child(Words({"exec", "box", "-o", "json", "--", "x"}));
  EXPECT_EQ(child.Wait(), 4);
  EXPECT_THAT(child.out(), HasSubstr(R"("state": "EXITED")"));
  EXPECT_THAT(child.out(), HasSubstr(R"("stdout": "o\\xff")"));
  EXPECT_THAT(child.out(), HasSubstr(R"("stdout_b64": "b/8=")"));
  EXPECT_THAT(child.out(), HasSubstr(R"("stderr": "e")"));
  EXPECT_EQ(child.err(), "");
}

TEST_F(HermesctlTest, PrintsOneLinePerEventWithJsonl) {
  daemon_.Script({{{Started(kName), Out(0, "x\n"), Exited(0)}}});
  Child child(Words({"exec", "box", "-o", "jsonl", "--", "x"}));
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(std::count(child.out().begin(), child.out().end(), '\n'), 3);
  EXPECT_THAT(child.out(), HasSubstr(R"({"event":"output","channel":"STDOUT","offset":0)"));
}

TEST_F(HermesctlTest, DetachPrintsTheName) {
  Child child(Words({"exec", "box", "--detach", "--", "sleep", "1"}));
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(child.out(), "box/c1\n");
  EXPECT_THAT(daemon_.calls(), ElementsAre("Start sleep 1"));
}

TEST_F(HermesctlTest, FirstInterruptCancelsAndWaitsForTheEnd) {
  daemon_.Script({{{Started(kName), Out(0, "go")}, End::kHang, {Out(2, "!"), Cancelled()}}});
  Child child(Words({"exec", "box", "--", "x"}));
  ASSERT_TRUE(child.WaitForStdout("go"));
  child.Signal(SIGINT);
  EXPECT_EQ(child.Wait(), 130);
  EXPECT_EQ(child.out(), "go!");
  EXPECT_THAT(child.err(), HasSubstr("box/c1 was cancelled"));
  EXPECT_TRUE(daemon_.WaitForCall("Cancel " + std::string(kName)));
}

TEST_F(HermesctlTest, TheEndOfACancelledCommandIsAllThatIsSaid) {
  daemon_.StallCancelAnswers();
  daemon_.Script({{{Started(kName), Out(0, "go")}, End::kHang, {Cancelled()}}});
  Child child(Words({"exec", "box", "--", "x"}));
  ASSERT_TRUE(child.WaitForStdout("go"));
  child.Signal(SIGINT);
  EXPECT_EQ(child.Wait(), 130);
  EXPECT_EQ(child.err(),
            "hermesctl: cancelling; Ctrl-C again leaves at once\n"
            "hermesctl: box/c1 was cancelled\n");
}

TEST_F(HermesctlTest, SecondInterruptLeavesAtOnceAndSaysHowToComeBack) {
  // Nameless, so that the cancel has to wait and cannot end it.
  daemon_.Script({{{Out(0, "go")}, End::kHang}});
  Child child(Words({"exec", "box", "--", "x"}));
  ASSERT_TRUE(child.WaitForStdout("go"));
  child.Signal(SIGINT);
  ASSERT_TRUE(child.WaitForStderr("cancelling"));
  child.Signal(SIGINT);
  EXPECT_EQ(child.Wait(), 130);
  EXPECT_THAT(child.err(), HasSubstr("hermesctl: left"));
}

TEST_F(HermesctlTest, InterruptOfAttachLeavesTheCommandAlone) {
  daemon_.Script({{{Started(kName), Out(5, "go")}, End::kHang}});
  Child child(Words({"attach", "box/c1", "--from-stdout", "5"}));
  ASSERT_TRUE(child.WaitForStdout("go"));
  child.Signal(SIGINT);
  EXPECT_EQ(child.Wait(), 130);
  EXPECT_THAT(child.err(), HasSubstr("hermesctl attach box/c1 --from-stdout 7 --from-stderr 0"));
  EXPECT_THAT(daemon_.calls(), ElementsAre("Attach " + std::string(kName) + " @5,0"));
}

TEST_F(HermesctlTest, ClosedOutputEndsQuietlyAndCancels) {
  daemon_.Script(
      {{{Started(kName), Out(0, "first\n"), Out(6, std::string(1 << 20, 'x'))}, End::kHang}});
  Child child(Words({"exec", "box", "--", "yes"}));
  ASSERT_TRUE(child.WaitForStdout("first\n"));
  child.CloseStdout();
  EXPECT_EQ(child.Wait(), 141);
  EXPECT_EQ(child.err(), "");
  EXPECT_TRUE(daemon_.WaitForCall("Cancel"));
}

TEST_F(HermesctlTest, ClosedOutputLeavesADetachingCommandAlone) {
  daemon_.Script(
      {{{Started(kName), Out(0, "first\n"), Out(6, std::string(1 << 20, 'x'))}, End::kHang}});
  Child child(Words({"exec", "box", "--on-disconnect", "detach", "--", "yes"}));
  ASSERT_TRUE(child.WaitForStdout("first\n"));
  child.CloseStdout();
  EXPECT_EQ(child.Wait(), 141);
  EXPECT_EQ(daemon_.calls().size(), 1u);
}

TEST_F(HermesctlTest, StdinArrivesExactlyOverPartialAndTornWrites) {
  daemon_.MakeStdinAwkward(7000);
  daemon_.Script({{{Started(kName)}, End::kHang, {Exited(0)}}});
  std::string data;
  for (int i = 0; i < 300'000; ++i) data += static_cast<char>(i * 31 % 256);
  Child child(Words({"exec", "box", "-i", "--", "cat"}));
  child.Write(data);
  child.CloseStdin();
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(daemon_.stdin_bytes(), data);
  EXPECT_TRUE(daemon_.stdin_closed());
}

TEST_F(HermesctlTest, WithoutInteractiveStdinIsNotTouched) {
  daemon_.Script({{{Started(kName), Exited(0)}}});
  Child child(Words({"exec", "box", "--", "cat"}));
  child.Write("data");
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(daemon_.stdin_bytes(), "");
}

TEST_F(HermesctlTest, ACommandThatEndsWhileStdinIsOpenEndsUs) {
  daemon_.Script({{{Started(kName), Exited(5)}}});
  Child child(Words({"exec", "box", "-i", "--", "true"}));
  EXPECT_EQ(child.Wait(), 5);
}

bool IsRaw(int terminal) {
  termios state{};
  EXPECT_EQ(tcgetattr(terminal, &state), 0);
  return (state.c_lflag & (ICANON | ECHO | ISIG)) == 0;
}

void SetSize(int terminal, unsigned short cols, unsigned short rows) {
  winsize size{};
  size.ws_col = cols;
  size.ws_row = rows;
  EXPECT_EQ(ioctl(terminal, TIOCSWINSZ, &size), 0);
}

TEST_F(HermesctlTest, TerminalIsRawPassesKeysAndSizesAndIsRestored) {
  daemon_.Script({{{Started(kName), Out(0, "prompt")}, End::kHang, {Exited(6)}}});
  Child child(Words({"exec", "box", "--tty", "--", "sh"}), Child::Streams::kTerminal);
  ASSERT_TRUE(child.WaitForStdout("prompt"));
  EXPECT_TRUE(IsRaw(child.terminal()));
  ASSERT_TRUE(daemon_.WaitForCall("Interact start"));
  SetSize(child.terminal(), 132, 50);
  EXPECT_TRUE(daemon_.WaitForCall("Resize 132x50"));
  child.Write("\x03q");
  EXPECT_TRUE(daemon_.WaitForStdin("\x03q"));
  Child cancel(Words({"kill", "box/c1"}));
  EXPECT_EQ(cancel.Wait(), 0);
  EXPECT_EQ(child.Wait(), 6);
  EXPECT_FALSE(IsRaw(child.terminal()));
}

TEST_F(HermesctlTest, AttachToATerminalTellsItOurSize) {
  daemon_.Script({{{Started(kName), Out(0, "prompt")}, End::kHang, {Exited(0)}}});
  Child child(Words({"attach", "box/c1", "--tty"}), Child::Streams::kTerminal);
  SetSize(child.terminal(), 99, 33);
  EXPECT_TRUE(child.WaitForStdout("prompt"));
  EXPECT_TRUE(daemon_.WaitForCall("Resize 99x33"));
  EXPECT_EQ(Child(Words({"kill", "box/c1"})).Wait(), 0);
  EXPECT_EQ(child.Wait(), 0);
}

TEST_F(HermesctlTest, TerminalIsRestoredWhenWeAreTerminated) {
  daemon_.Script({{{Started(kName), Out(0, "prompt")}, End::kHang}});
  Child child(Words({"exec", "box", "--tty", "--", "sh"}), Child::Streams::kTerminal);
  ASSERT_TRUE(child.WaitForStdout("prompt"));
  EXPECT_TRUE(IsRaw(child.terminal()));
  child.Signal(SIGTERM);
  EXPECT_EQ(child.Wait(), 143);
  EXPECT_FALSE(IsRaw(child.terminal()));
  EXPECT_THAT(child.err(), HasSubstr("hermesctl attach box/c1"));
}

TEST_F(HermesctlTest, KillWithASignalOnlySendsIt) {
  Child child(Words({"kill", "box/c1", "--signal", "HUP"}));
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_THAT(daemon_.calls(), ElementsAre("Signal 1 " + std::string(kName)));
}

TEST_F(HermesctlTest, HelpOfEverySubCommandHasExamples) {
  for (const char* words :
       {"exec",          "start",          "attach",        "logs",         "ps",
        "kill",          "wait",           "shell",         "cleanup",      "info",
        "sync",          "sync-back",      "undo",          "syncs",        "drain",
        "capabilities",  "session create", "session ls",    "session show", "session rm",
        "session watch", "session renew",  "session update"}) {
    std::vector<std::string> arguments;
    for (std::string rest = words; !rest.empty();) {
      size_t space = std::min(rest.find(' '), rest.size());
      arguments.push_back(rest.substr(0, space));
      rest.erase(0, space + 1);
    }
    arguments.push_back("--help");
    Child child(arguments);
    EXPECT_EQ(child.Wait(), 0) << words;
    EXPECT_THAT(child.out(), HasSubstr("Examples:")) << words;
  }
}

}  // namespace
}  // namespace hermes::client
