#include "daemon/runtime/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/runtime/fd.h"
#include "daemon/runtime/task_group.h"
#include "tests/runtime/run.h"

namespace hermes {
namespace {

// Until end of file, from a non-blocking descriptor.
std::string ReadAll(const Fd& fd) {
  std::string all;
  char buffer[4096];
  while (true) {
    pollfd ready{fd.get(), POLLIN, 0};
    poll(&ready, 1, -1);
    const ssize_t got = read(fd.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EAGAIN) continue;
    if (got <= 0) return all;
    all.append(buffer, static_cast<size_t>(got));
  }
}

// One line, without its newline.
std::string ReadLine(const Fd& fd) {
  std::string line;
  while (true) {
    pollfd ready{fd.get(), POLLIN, 0};
    poll(&ready, 1, -1);
    char byte = 0;
    const ssize_t got = read(fd.get(), &byte, 1);
    if (got < 0 && errno == EAGAIN) continue;
    if (got <= 0 || byte == '\n') return line;
    line.push_back(byte);
  }
}

void WriteText(const Fd& fd, const std::string& text) {
  ASSERT_EQ(write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

size_t OpenFiles() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

// The hexadecimal value of "name:" in a /proc status file.
uint64_t HexField(const std::string& status, const std::string& name) {
  const size_t at = status.find(name + ":");
  return at == status.npos ? ~0ull : std::stoull(status.substr(at + name.size() + 1), nullptr, 16);
}

std::vector<std::string> Path() { return {"PATH=/usr/bin:/bin"}; }

class ChildTest : public testing::Test {
 protected:
  struct Running {
    std::unique_ptr<Child> child;
    Fd in, out, err;
  };

  Running Start(ChildSpec spec) {
    Child::Pipes pipes;
    auto child = Child::Spawn(loop_, std::move(spec), &pipes);
    EXPECT_TRUE(child.ok()) << child.status();
    if (!child.ok()) abort();
    return {*std::move(child), Fd(pipes.stdin_fd), Fd(pipes.stdout_fd), Fd(pipes.stderr_fd)};
  }
  Running Shell(std::string script, std::string cwd = "") {
    return Start({{"sh", "-c", std::move(script)}, Path(), std::move(cwd)});
  }
  Child::ExitStatus Wait(Running& running) { return RunTask(loop_, running.child->Wait()); }

  Loop loop_;
};

TEST_F(ChildTest, ExitCodeIsReported) {
  Running running = Shell("exit 7");
  const Child::ExitStatus status = Wait(running);
  EXPECT_FALSE(status.signalled);
  EXPECT_EQ(status.value, 7);
}

TEST_F(ChildTest, DeathBySignalIsReported) {
  Running running = Shell("kill -USR1 $$");
  const Child::ExitStatus status = Wait(running);
  EXPECT_TRUE(status.signalled);
  EXPECT_EQ(status.value, SIGUSR1);
}

Task<void> WaitInto(Child& child, std::vector<int>& values) {
  values.push_back((co_await child.Wait()).value);
}

TEST_F(ChildTest, SeveralMayWaitAlsoAfterTheEnd) {
  Running running = Shell("read line; exit 3");
  TaskGroup group(loop_);
  std::vector<int> values;
  for (int i = 0; i < 3; ++i) group.Spawn("wait", WaitInto(*running.child, values));
  loop_.RunReady();
  EXPECT_TRUE(values.empty());
  running.in.reset();
  RunTask(loop_, group.Join());
  EXPECT_EQ(values, (std::vector<int>{3, 3, 3}));
  EXPECT_EQ(Wait(running).value, 3);
}

TEST_F(ChildTest, ThreePipesAreApart) {
  Running running = Shell("cat; echo problem >&2");
  WriteText(running.in, "to the child");
  running.in.reset();
  EXPECT_EQ(ReadAll(running.out), "to the child");
  EXPECT_EQ(ReadAll(running.err), "problem\n");
  Wait(running);
}

TEST_F(ChildTest, ParentsEndsDoNotBlockAndCloseOnExecWhileTheChildsBlock) {
  Running running = Shell("cat /proc/self/fdinfo/0 /proc/self/fdinfo/1; cat");
  for (int fd : {running.in.get(), running.out.get(), running.err.get()}) {
    EXPECT_TRUE(fcntl(fd, F_GETFL) & O_NONBLOCK);
    EXPECT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  }
  running.in.reset();
  const std::string info = ReadAll(running.out);
  size_t flags = 0;
  for (size_t at = info.find("flags:"); at != info.npos; at = info.find("flags:", at + 1)) {
    const int value = std::stoi(info.substr(at + 6), nullptr, 8);
    EXPECT_FALSE(value & O_NONBLOCK);
    ++flags;
  }
  EXPECT_EQ(flags, 2u);
  Wait(running);
}

TEST_F(ChildTest, MissingProgramIsAStatusAndLeavesNothingBehind) {
  const size_t before = OpenFiles();
  Child::Pipes pipes;
  auto child = Child::Spawn(loop_, {{"/no/such/program"}, {}, ""}, &pipes);
  ASSERT_FALSE(child.ok());
  EXPECT_EQ(child.status().message(), "start /no/such/program: No such file or directory");
  EXPECT_EQ(OpenFiles(), before);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(ChildTest, BadSpecsAreStatuses) {
  Child::Pipes pipes;
  const std::string nul("a\0b", 3);
  EXPECT_FALSE(Child::Spawn(loop_, {{}, {}, ""}, &pipes).ok());
  EXPECT_FALSE(Child::Spawn(loop_, {{"true", nul}, {}, ""}, &pipes).ok());
  EXPECT_FALSE(Child::Spawn(loop_, {{"true"}, {nul}, ""}, &pipes).ok());
  EXPECT_FALSE(Child::Spawn(loop_, {{"true"}, {}, "/no/such/folder"}, &pipes).ok());
  EXPECT_EQ(pipes.stdin_fd, -1);
}

TEST_F(ChildTest, RunsInItsCwd) {
  Running running = Shell("pwd", "/usr");
  EXPECT_EQ(ReadAll(running.out), "/usr\n");
  Wait(running);
}

TEST_F(ChildTest, EnvironmentIsExactlyTheGivenOne) {
  Running running = Start({{"/usr/bin/env"}, {"A=1", "B=two\nlines"}, ""});
  EXPECT_EQ(ReadAll(running.out), "A=1\nB=two\nlines\n");
  Wait(running);
}

TEST_F(ChildTest, OtherDescriptorsAreClosedEvenInheritableOnes) {
  Fd leak(open("/dev/null", O_RDONLY));  // NOLINT: without O_CLOEXEC on purpose
  Running running = Shell("exec ls -1 /proc/self/fd");
  EXPECT_EQ(ReadAll(running.out), "0\n1\n2\n3\n");  // 3 is what ls reads
  Wait(running);
}

TEST_F(ChildTest, SignalsStartUnblockedAndAtTheirDefaults) {
  struct sigaction ignore{}, old{};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, &old);
  sigset_t block, old_mask;
  sigemptyset(&block);
  sigaddset(&block, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &block, &old_mask);
  Running running = Start({{"cat", "/proc/self/status"}, Path(), ""});
  pthread_sigmask(SIG_SETMASK, &old_mask, nullptr);
  sigaction(SIGPIPE, &old, nullptr);
  const std::string status = ReadAll(running.out);
  constexpr uint64_t kOfTheCLibrary = 3ull << 31;  // 32 and 33: glibc leaves them ignored
  EXPECT_EQ(HexField(status, "SigBlk"), 0u);
  EXPECT_EQ(HexField(status, "SigIgn") & ~kOfTheCLibrary, 0u);
  Wait(running);
}

TEST_F(ChildTest, SignalGroupReachesGrandchildren) {
  Running running = Shell("exec 3<&0; cat <&3 & cat <&3 & echo up; wait");
  EXPECT_EQ(ReadLine(running.out), "up");
  EXPECT_EQ(getpgid(running.child->pid()), running.child->pid());
  EXPECT_EQ(getsid(running.child->pid()), running.child->pid());
  running.child->SignalGroup(SIGTERM);
  EXPECT_EQ(Wait(running).value, SIGTERM);
  EXPECT_EQ(ReadAll(running.out), "");  // ends only when nobody holds the pipe any more
  running.child->SignalGroup(SIGTERM);  // nothing, now
}

TEST_F(ChildTest, TheEndOfOurEndOfItsStdinIsASignalForItsGroup) {
  ChildSpec spec{.argv = {"/bin/sh", "-c", "exec 3<&0; sleep 1000 <&3 & echo up; wait"},
                 .environment = Path(),
                 .signal_at_our_end = SIGTERM};
  Running running = Start(std::move(spec));
  EXPECT_EQ(ReadLine(running.out), "up");
  running.in.reset();  // the kernel does the same for a process that was killed
  const Child::ExitStatus status = Wait(running);
  EXPECT_TRUE(status.signalled);
  EXPECT_EQ(status.value, SIGTERM);
  EXPECT_EQ(ReadAll(running.out), "");  // the group, too
}

TEST_F(ChildTest, DestroyingARunningChildKillsItsGroupAndReapsIt) {
  Running running = Shell("exec 3<&0; cat <&3 & echo up; wait");
  EXPECT_EQ(ReadLine(running.out), "up");
  TaskGroup group(loop_);
  std::vector<int> values;
  group.Spawn("wait", WaitInto(*running.child, values));
  loop_.RunReady();
  const pid_t pid = running.child->pid();
  running.child.reset();
  EXPECT_EQ(ReadAll(running.out), "");
  RunTask(loop_, group.Join());
  EXPECT_EQ(values, (std::vector<int>{SIGKILL}));
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

// Room for the six ends of the pipes, none for the pidfd.
TEST_F(ChildTest, ProcessThatCannotBeWatchedIsKilledAndReaped) {
#if __has_feature(undefined_behavior_sanitizer)
  GTEST_SKIP() << "the sanitizer's own check of vtables needs descriptors";
#endif
  const size_t before = OpenFiles();
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  rlimit low = old;
  {
    std::vector<Fd> probes;
    for (int i = 0; i < 7; ++i) probes.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
    low.rlim_cur = static_cast<rlim_t>(probes.back().get());
  }
  Child::Pipes pipes;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  auto child = Child::Spawn(loop_, {{"cat"}, Path(), ""}, &pipes);
  setrlimit(RLIMIT_NOFILE, &old);
  ASSERT_FALSE(child.ok());
  EXPECT_EQ(child.status().message(), "watch a child: Too many open files");
  EXPECT_EQ(OpenFiles(), before);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(ChildLifeTest, LoopThatEndsFirstLeavesNoProcess) {
  pid_t pid = -1;
  {
    Loop loop;
    Child::Pipes pipes;
    auto child = Child::Spawn(loop, {{"cat"}, Path(), ""}, &pipes);
    ASSERT_TRUE(child.ok());
    Fd in(pipes.stdin_fd), out(pipes.stdout_fd), err(pipes.stderr_fd);
    pid = (*child)->pid();
  }
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(ChildTest, InheritedIgnoreOfChildSignalsLosesNoStatus) {
  struct sigaction ignore{}, old{};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGCHLD, &ignore, &old);
  Running running = Shell("exit 9");
  EXPECT_EQ(Wait(running).value, 9);
  sigaction(SIGCHLD, &old, nullptr);
}

TEST_F(ChildTest, HundredAtOnceAllReportTheirOwnCode) {
  const size_t before = OpenFiles();
  {
    std::vector<Running> running;
    for (int i = 0; i < 100; ++i) running.push_back(Shell("exit " + std::to_string(i)));
    for (int i = 0; i < 100; ++i) EXPECT_EQ(Wait(running[static_cast<size_t>(i)]).value, i);
  }
  EXPECT_EQ(OpenFiles(), before);
}

TEST_F(ChildTest, ChildrenStartWithTheFileLimitFromBeforeItWasRaised) {
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  if (old.rlim_max <= 300) GTEST_SKIP() << "the hard limit is " << old.rlim_max;
  rlimit low = old;
  low.rlim_cur = 300;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  ASSERT_TRUE(RaiseFileLimit().ok());
  ASSERT_TRUE(RaiseFileLimit().ok());  // does not forget
  rlimit raised{};
  getrlimit(RLIMIT_NOFILE, &raised);
  EXPECT_EQ(raised.rlim_cur, old.rlim_max);
  Running running = Shell("read go; ulimit -Sn; ulimit -Hn");
  WriteText(running.in, "go\n");
  EXPECT_EQ(ReadLine(running.out), "300");
  EXPECT_NE(ReadLine(running.out), "300");
  Wait(running);
  setrlimit(RLIMIT_NOFILE, &old);
}

// 0: the child echoed. Runs in a process of its own, whose standard descriptors it closes.
[[noreturn]] void EchoWithoutStandardDescriptors() {
  Loop loop;
  for (int fd : {0, 1, 2}) close(fd);
  Child::Pipes pipes;
  auto child = Child::Spawn(loop, {{"sh", "-c", "cat; echo e >&2"}, Path(), ""}, &pipes);
  if (!child.ok()) _exit(1);
  Fd in(pipes.stdin_fd), out(pipes.stdout_fd), err(pipes.stderr_fd);
  if (write(in.get(), "x", 1) != 1) _exit(2);
  if (in.get() <= 2 || out.get() <= 2 || err.get() <= 2) _exit(5);
  in.reset();
  if (ReadAll(out) != "x") _exit(3);
  if (ReadAll(err) != "e\n") _exit(4);
  _exit(RunTask(loop, (*child)->Wait()).value);
}

TEST(ChildDeathTest, WorksWhereStandardDescriptorsAreClosed) {
  EXPECT_EXIT(EchoWithoutStandardDescriptors(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace hermes
