// hermes-runner as its own unit starts it: the socket is made by somebody else and handed over.

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"

namespace hermes {
namespace {

// Plays the service manager: holds the listening socket, starts the runner with it as descriptor 3.
class RunnerUnit {
 public:
  explicit RunnerUnit(std::string dir) : dir_(std::move(dir)) {
    std::filesystem::create_directories(dir_);
    std::filesystem::permissions(dir_, std::filesystem::perms::owner_all);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = dir_ + "/s";
    EXPECT_LT(path.size(), sizeof(address.sun_path));
    std::memcpy(address.sun_path, path.data(), path.size());
    socket_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(socket_, 16), 0);
  }
  ~RunnerUnit() {
    Stop();
    ::close(socket_);
  }

  void Start() {
    const std::string program = BinDir() + "/hermes-runner";
    // The variable names the process that is to take the socket: only that one can say its pid.
    std::vector<std::string> words = {"/bin/sh", "-c", "LISTEN_PID=$$ exec \"$0\" serve \"$1\"",
                                      program, dir_};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::string path = "PATH=/usr/bin:/bin", home = "HOME=" + dir_, count = "LISTEN_FDS=1";
    char* envp[] = {path.data(), home.data(), count.data(), nullptr};
    // Not 3 itself: a descriptor that is duplicated onto itself keeps its close-on-exec flag.
    const int high = ::fcntl(socket_, F_DUPFD_CLOEXEC, 100);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, high, 3);
    ASSERT_EQ(::posix_spawn(&pid_, "/bin/sh", &actions, nullptr, argv.data(), envp), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(high);
  }
  std::string lock() const { return dir_ + "/lock"; }
  bool HasOpenLock() const {
    std::error_code gone;
    for (const auto& fd :
         std::filesystem::directory_iterator("/proc/" + std::to_string(pid_) + "/fd", gone)) {
      if (std::filesystem::read_symlink(fd, gone) == lock()) return true;
    }
    return false;
  }
  bool HasEnded() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid != 0;
  }
  void Stop() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  const std::string dir_;
  int socket_ = -1;
  pid_t pid_ = 0;
};

class ActivationTest : public testing::Test {
 protected:
  // With --dev it would keep a runner to itself.
  void SetUp() override { daemon_.Configure(""); }
  Seen Run(const std::string& script) { return ExecuteToEnd(daemon_, Shell("s", script)); }
  // hermesd puts one where it keeps its state.
  bool HasRunnerOfItsOwn() const { return std::filesystem::exists(daemon_.dir() + "/runner"); }

  DaemonProcess daemon_;
  // Where hermesd looks for the unit of its own account; its HOME is dir().
  RunnerUnit unit_{daemon_.dir() + "/.local/state/hermesd-runner"};
};

TEST_F(ActivationTest, TheRunnerServesOnTheSocketThatItWasGivenAndHermesdFindsIt) {
  unit_.Start();
  daemon_.Start();
  daemon_.CreateSession("s");
  EXPECT_EQ(daemon_.GetSession("s").engine(), "runner");
  EXPECT_EQ(Run("echo x; exit 3").command.exit().code(), 3);
  EXPECT_FALSE(HasRunnerOfItsOwn());
}

TEST_F(ActivationTest, AConnectionWaitsInTheSocketUntilTheRunnerIsThere) {
  unit_.Start();
  daemon_.Start();
  daemon_.CreateSession("s");
  EXPECT_EQ(Run("export KEPT=yes").command.state_committed(), true);
  unit_.Stop();
  Seen seen;
  std::thread client([&] { seen = Run("echo $KEPT"); });
  unit_.Start();
  client.join();
  EXPECT_EQ(seen.out, "yes\n");
  EXPECT_FALSE(HasRunnerOfItsOwn());
}

// As a child that the last runner had just forked holds it, for the moment until it closes it.
TEST_F(ActivationTest, ARunnerThatWasGivenTheSocketWaitsForTheLockOfTheOneBeforeIt) {
  daemon_.Start();
  const int lock = ::open(unit_.lock().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(::flock(lock, LOCK_EX), 0);
  unit_.Start();
  EXPECT_TRUE(Eventually([&] { return unit_.HasOpenLock() || unit_.HasEnded(); }));
  ::close(lock);
  daemon_.CreateSession("s");
  EXPECT_EQ(Run("echo x").out, "x\n");
  EXPECT_FALSE(unit_.HasEnded());
}

TEST_F(ActivationTest, CommandsOutliveHermesdInTheRunnersOwnUnit) {
  unit_.Start();
  daemon_.Start();
  daemon_.CreateSession("s");
  const std::string fifo = daemon_.dir() + "/go";
  v1::ExecuteRequest request = Shell("s", "mkfifo " + fifo + "; cat " + fifo + "; exit 9");
  Seen seen;
  std::thread client([&] { seen = ExecuteToEnd(daemon_, request); });
  EXPECT_TRUE(Eventually([&] { return std::filesystem::exists(fifo); }));
  EXPECT_EQ(daemon_.Terminate(), 0);
  daemon_.Start();
  std::ofstream(fifo) << "on\n";
  client.join();
  EXPECT_EQ(seen.out, "on\n");
  EXPECT_EQ(seen.command.exit().code(), 9);
}

}  // namespace
}  // namespace hermes
