#include "tests/e2e/account_daemon.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include <gtest/gtest.h>

#include "tests/e2e/ready_socket.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPath = "PATH=/usr/local/bin:/usr/bin:/bin";

}  // namespace

AccountDaemon::AccountDaemon(const TestAccount& account)
    : account_(account), bin_(account.home() + "/bin"), dir_(account.home() + "/d") {
  // The build may lie where the account cannot go.
  fs::path built = fs::read_symlink("/proc/self/exe").parent_path();
  fs::create_directory(bin_);
  for (const char* program : {"hermesd", "hermesctl", "hermes-runner", "hermes-unpack"})
    fs::copy_file(built / program, fs::path(bin_) / program);
  EXPECT_EQ(::mkdir(dir_.c_str(), 0700), 0);
  EXPECT_EQ(::chown(dir_.c_str(), account.uid(), account.gid()), 0);
}

AccountDaemon::~AccountDaemon() { Kill(); }

void AccountDaemon::Start() {
  const std::string log = account_.home() + "/hermesd.log";
  ReadySocket notify(account_.home() + "/notify");
  pid_ = Spawn(
      {.argv = {bin_ + "/hermesd", "--dev", "--dir", dir_},
       .env = {kPath, "HOME=" + account_.home(), "USER=" + account_.name(), notify.variable()},
       .log = log,
       .uid = account_.uid(),
       .gid = account_.gid(),
       .directory = account_.home()});
  ASSERT_TRUE(notify.Await()) << ReadWholeFile(log);
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

}  // namespace hermes
