#include <fcntl.h>

#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

class TerminalTest : public RunnerTest {
 protected:
  void SetUp() override {
    RunnerTest::SetUp();
    OpenSession();
  }
  static frames::Start OnTerminal(const std::string& script) {
    frames::Start start = Shell(script);
    start.pty = 1;
    start.cols = 100;
    start.rows = 30;
    start.stdin_kind = frames::StdinKind::kOpen;
    return start;
  }
  bool UntilSaid(uint32_t command, const std::string& text) {
    return client->Until(
        command, [&](const Result& r) { return r.out.find(text) != std::string::npos || r.exit; });
  }
};

TEST_F(TerminalTest, HasASizeAndAType) {
  const Result& result = client->Finish(OnTerminal("tty -s && echo yes; stty size; echo $TERM"));
  EXPECT_EQ(result.out, "yes\r\n30 100\r\nxterm-256color\r\n");
  EXPECT_EQ(result.exit->value, 0);
  EXPECT_EQ(result.exit->residual, 0);
}

TEST_F(TerminalTest, AResizeIsSignalled) {
  uint32_t command = client->Start(
      OnTerminal("trap 'stty size; exit 7' WINCH; echo ready; while :; do sleep 0.1; done"));
  ASSERT_TRUE(UntilSaid(command, "ready"));
  client->Send(Type::kResize, command, [](frames::Writer& w) {
    w.U16(132);
    w.U16(50);
  });
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_NE(client->results[command].out.find("50 132"), std::string::npos);
  EXPECT_EQ(client->results[command].exit->value, 7);
}

TEST_F(TerminalTest, ControlCInterruptsTheForeground) {
  uint32_t command = client->Start(OnTerminal("cat"));
  client->Stdin(command, 0, "x\n");
  ASSERT_TRUE(UntilSaid(command, "x\r\nx\r\n"));  // the terminal's echo, and cat's: it runs
  client->Stdin(command, 2, "\x03");
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].exit->signalled, 1);
  EXPECT_EQ(client->results[command].exit->value, SIGINT);
}

TEST_F(TerminalTest, AForegroundSignalReachesIt) {
  uint32_t command =
      client->Start(OnTerminal("trap 'echo int; exit 4' INT; stty -echo; echo ready; cat"));
  ASSERT_TRUE(UntilSaid(command, "ready"));
  // Cat is there once it repeats what it reads: a signal that only bash gets, just before it starts
  // a program, waits for that program's end.
  client->Stdin(command, 0, "heard\n");
  ASSERT_TRUE(UntilSaid(command, "heard"));
  client->Send(Type::kSignal, command, [](frames::Writer& w) {
    w.U8(SIGINT);
    w.U8(static_cast<uint8_t>(frames::Scope::kForeground));
  });
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].exit->value, 4);
}

TEST_F(TerminalTest, TheEndOfStdinIsAnEndOfFile) {
  uint32_t command = client->Start(OnTerminal("stty -echo; echo ready; cat; echo done"));
  ASSERT_TRUE(UntilSaid(command, "ready"));
  client->Stdin(command, 0, "line\n");
  client->StdinEof(command, 5);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, "ready\r\nline\r\ndone\r\n");
}

TEST_F(TerminalTest, TheEndOfStdinThatIsSaidAgainIsTheSame) {
  uint32_t command = client->Start(
      OnTerminal("stty -echo; echo ready; cat; echo first; read -r x; echo \"got $x\"; cat"));
  ASSERT_TRUE(UntilSaid(command, "ready"));
  client->StdinEof(command, 0);
  ASSERT_TRUE(UntilSaid(command, "first"));
  client->StdinEof(command, 0);  // as after a reconnection
  client->Stdin(command, 0, "line\n");
  ASSERT_TRUE(UntilSaid(command, "got line"));
  client->StdinEof(command, 5);  // another
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, "ready\r\nfirst\r\ngot line\r\n");
}

TEST_F(TerminalTest, ManyLinesArriveInFull) {
  const Result& result = client->Finish(OnTerminal("seq 1 50000"));
  std::string expected;
  for (int i = 1; i <= 50000; ++i) expected += std::to_string(i) + "\r\n";
  EXPECT_TRUE(result.out == expected) << result.out.size();
}

class AskpassTest : public RunnerTest {
 protected:
  void SetUp() override {
    RunnerTest::SetUp();
    OpenSession("with");
    OpenSession("without");
    client->Send(Type::kSecret, 0, [](frames::Writer& w) {
      w.Str("with");
      w.Str("open sesame");
    });
  }
};

TEST_F(AskpassTest, AnswersAProcessOfTheSession) {
  const Result& result =
      client->Finish(Shell("(setsid sh -c '\"$SUDO_ASKPASS\" prompt'); type sudo", "with"));
  EXPECT_EQ(result.out.substr(0, 12), "open sesame\n");
  EXPECT_NE(result.out.find("sudo is a function"), std::string::npos);
}

TEST_F(AskpassTest, RefusesAnotherSession) {
  const Result& result =
      client->Finish(Shell("echo \"[$SUDO_ASKPASS]\"; " + directory + "/askpass", "without"));
  EXPECT_EQ(result.out, "[]\n");
  EXPECT_EQ(result.exit->value, 1);
}

TEST_F(AskpassTest, RefusesAStranger) { EXPECT_EQ(RunProgram({directory + "/askpass"}), 1); }

TEST_F(AskpassTest, ForgetsAnEmptyPassword) {
  client->Send(Type::kSecret, 0, [](frames::Writer& w) {
    w.Str("with");
    w.Str("");
  });
  EXPECT_EQ(client->Finish(Shell(directory + "/askpass", "with")).exit->value, 1);
}

TEST_F(AskpassTest, ThePasswordIsNowhereToBeSeen) {
  frames::Start start = Shell("cat /proc/$$/environ /proc/$PPID/cmdline; set", "with");
  EXPECT_EQ(client->Finish(start).out.find("open sesame"), std::string::npos);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    EXPECT_EQ(text.str().find("open sesame"), std::string::npos) << entry.path();
  }
}

class ConnectTest : public ::testing::Test {};

TEST_F(ConnectTest, StartsARunnerAndRelays) {
  char name[] = "/tmp/hermes-runner-test-XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  int in[2], out[2];
  ASSERT_EQ(pipe2(in, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    execl(RunnerProgram().c_str(), "hermes-runner", "connect", name, nullptr);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  std::string hello;
  frames::Writer writer(hello);
  writer.Begin(Type::kHello, 0);
  writer.U16(frames::kOldestVersion);
  writer.U16(frames::kVersion);
  writer.Str("test");
  writer.End();
  ASSERT_EQ(write(in[1], hello.data(), hello.size()), static_cast<ssize_t>(hello.size()));
  std::string input;
  frames::Frame frame;
  size_t consumed = 0;
  while (frames::ParseFrame(input, &frame, &consumed) == frames::Parse::kNeedMore) {
    char chunk[4096];
    ssize_t n = read(out[0], chunk, sizeof chunk);
    ASSERT_GT(n, 0);
    input.append(chunk, static_cast<size_t>(n));
  }
  auto welcome = frames::Decode<frames::Welcome>(frame.payload);
  ASSERT_TRUE(welcome);
  close(in[1]);  // ends the relay, not the runner
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_TRUE(IsAlive(static_cast<pid_t>(welcome->pid)));
  kill(static_cast<pid_t>(welcome->pid), SIGKILL);
  WaitForEnd(static_cast<pid_t>(welcome->pid));
  close(out[0]);
  std::filesystem::remove_all(name);
}

}  // namespace
}  // namespace hermes::test
