#include "tests/e2e/account_daemon.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

namespace hermes {
namespace {

namespace fs = std::filesystem;

constexpr int kReadyLimitMs = 30'000;
constexpr const char* kPath = "PATH=/usr/local/bin:/usr/bin:/bin";

// A socket for the daemon's READY=1, which the account may write to.
int NotifySocket(const std::string& path) {
  ::unlink(path.c_str());
  int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::chmod(path.c_str(), 0666), 0);
  return fd;
}

bool AwaitReady(int fd) {
  pollfd wait{fd, POLLIN, 0};
  while (::poll(&wait, 1, kReadyLimitMs) == 1) {
    char text[512];
    ssize_t got = ::recv(fd, text, sizeof(text), 0);
    if (got > 0 && std::string(text, static_cast<size_t>(got)).find("READY=1") != std::string::npos)
      return true;
  }
  return false;
}

}  // namespace

AccountDaemon::AccountDaemon(const TestAccount& account)
    : account_(account), bin_(account.home() + "/bin"), dir_(account.home() + "/d") {
  // The build may lie where the account cannot go.
  fs::path built = fs::read_symlink("/proc/self/exe").parent_path();
  fs::create_directory(bin_);
  for (const char* program : {"hermesd", "hermesctl", "hermes-runner"})
    fs::copy_file(built / program, fs::path(bin_) / program);
  EXPECT_EQ(::mkdir(dir_.c_str(), 0700), 0);
  EXPECT_EQ(::chown(dir_.c_str(), account.uid(), account.gid()), 0);
}

AccountDaemon::~AccountDaemon() { Kill(); }

void AccountDaemon::Start() {
  const std::string notify = account_.home() + "/notify", log = account_.home() + "/hermesd.log";
  int fd = NotifySocket(notify);
  pid_ = Spawn({.argv = {bin_ + "/hermesd", "--dev", "--dir", dir_},
                .env = {kPath, "HOME=" + account_.home(), "USER=" + account_.name(),
                        "NOTIFY_SOCKET=" + notify},
                .log = log,
                .uid = account_.uid(),
                .gid = account_.gid(),
                .directory = account_.home()});
  bool ready = AwaitReady(fd);
  ::close(fd);
  ASSERT_TRUE(ready) << ReadWholeFile(log);
}

void AccountDaemon::Kill() {
  KillChild(pid_);
  pid_ = 0;
}

std::vector<std::string> AccountDaemon::AsAccount() const {
  const std::string id = std::to_string(account_.uid());
  return {"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "env", "-i", kPath};
}

Ran AccountDaemon::Ctl(std::vector<std::string> words, const std::string& input) const {
  std::vector<std::string> argv = AsAccount();
  argv.insert(argv.end(), {bin_ + "/hermesctl", "--socket", dir_ + "/hermes.sock"});
  argv.insert(argv.end(), words.begin(), words.end());
  return RunProgram({.argv = argv, .input = input, .limit = std::chrono::seconds(120)});
}

void AccountDaemon::CreateSession(const std::string& id, const std::string& sudo_password) const {
  std::vector<std::string> words = {"session", "create", id, "--backend", "local"};
  if (!sudo_password.empty()) words.push_back("--sudo-password-stdin");
  Ran ran = Ctl(words, sudo_password.empty() ? "" : sudo_password + "\n");
  ASSERT_EQ(ran.status, 0) << ran.err;
}

std::string AccountDaemon::StartCommand(const std::string& session,
                                        const std::string& script) const {
  Ran ran = Ctl({"start", session, "--", script});
  EXPECT_EQ(ran.status, 0) << ran.err;
  return ran.out.substr(0, ran.out.find('\n'));
}

bool SoonTrue(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

}  // namespace hermes
