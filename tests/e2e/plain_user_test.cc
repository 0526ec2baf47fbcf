// The whole path as a plain user: hermesd, runner, commands and hermesctl run as one account.

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/e2e/account_daemon.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/test_account.h"

namespace hermes {
namespace {

class PlainUserTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string why = TestAccount::Unsupported(); !why.empty()) GTEST_SKIP() << why;
    account_ = TestAccount::Make();
    daemon_ = std::make_unique<AccountDaemon>(*account_);
    daemon_->Start();
    daemon_->CreateSession("s");
  }
  void TearDown() override {
    daemon_.reset();
    account_.reset();
  }
  Ran Execute(const std::string& script) { return daemon_->Execute("s", script); }

  std::unique_ptr<TestAccount> account_;
  std::unique_ptr<AccountDaemon> daemon_;
};

TEST_F(PlainUserTest, CommandsRunAsTheAccountAndEndAsTheySay) {
  const std::string id = std::to_string(account_->uid());
  Ran ran = Execute("id -u; id -G; echo err >&2; cd; pwd; exit 37");
  EXPECT_EQ(ran.out, id + "\n" + id + "\n" + account_->home() + "\n");
  EXPECT_EQ(ran.err, "err\n");
  EXPECT_EQ(ran.status, 37);
}

TEST_F(PlainUserTest, StateMovesFromOneCommandToTheNext) {
  EXPECT_EQ(
      Execute("cd /usr; export A='x\ny'; f() { echo \"f $1\"; }; alias g='f g'; exit 3").status, 3);
  EXPECT_EQ(Execute("pwd; echo \"$A\"; f 1; g").out, "/usr\nx\ny\nf 1\nf g\n");
}

TEST_F(PlainUserTest, StateIsKeptWhateverTheUmask) {
  EXPECT_EQ(Execute("umask 777; export A=kept").status, 0);
  EXPECT_EQ(Execute("umask 0; echo $A; export B=too; exit 4").out, "kept\n");
  EXPECT_EQ(Execute("echo $A $B").out, "kept too\n");
}

TEST_F(PlainUserTest, TimeoutEndsTheTreeOfAPlainUser) {
  const std::string pids = account_->home() + "/pids";
  Ran ran = daemon_->Ctl({"exec", "s", "--timeout", "1s", "--",
                          "setsid sleep 1000 & echo $! >" + pids + "; sleep 1000 & echo $! >>" +
                              pids + "; echo $$ >>" + pids + "; wait"});
  EXPECT_EQ(ran.status, 124) << ran.err;
  std::vector<std::string> lines = SplitLines(ReadWholeFile(pids));
  EXPECT_EQ(lines.size(), 3u);
  for (const ProcessFacts& facts : AllProcesses())
    EXPECT_FALSE(facts.real == account_->uid() && facts.name == "sleep") << facts.pid;
}

TEST_F(PlainUserTest, RunningCommandSurvivesKillNineOfTheDaemon) {
  const std::string fifo = account_->home() + "/go";
  const std::string name =
      daemon_->StartCommand("s", "seq 1 20000; mkfifo " + fifo + "; cat " + fifo + "; exit 9");
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(fifo); }));
  daemon_->Kill();
  daemon_->Start();
  std::ofstream(fifo) << "on\n";
  EXPECT_EQ(daemon_->Ctl({"wait", name}).status, 9);
  std::string whole;
  for (int i = 1; i <= 20000; ++i) whole += std::to_string(i) + "\n";
  EXPECT_EQ(daemon_->Ctl({"logs", name}).out, whole + "on\n");
}

TEST_F(PlainUserTest, AllThatIsKeptIsTheAccountsAlone) {
  EXPECT_EQ(Execute("head -c 300000 /dev/zero").out.size(), 300000u);
  size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(daemon_->dir())) {
    struct stat found;
    ASSERT_EQ(::lstat(entry.path().c_str(), &found), 0);
    EXPECT_EQ(found.st_uid, account_->uid()) << entry.path();
    if (!S_ISLNK(found.st_mode)) EXPECT_EQ(found.st_mode & 077, 0u) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 3u);
}

// The kernel gives the entries of a process that dumps no core to root.
TEST_F(PlainUserTest, ProcessesWithSecretsDumpNoCore) {
  const std::string fifo = account_->home() + "/go";
  daemon_->StartCommand("s", "mkfifo " + fifo + "; sleep 1000");
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(fifo); }));
  size_t ours = 0;
  for (const ProcessFacts& facts : AllProcesses()) {
    if (facts.real != account_->uid()) continue;
    const std::string folder = "/proc/" + std::to_string(facts.pid);
    std::error_code gone;
    const std::string program = std::filesystem::read_symlink(folder + "/exe", gone);
    struct stat entry;
    if (gone || ::stat((folder + "/environ").c_str(), &entry) != 0) continue;
    const bool is_ours = program.starts_with(account_->home());
    EXPECT_EQ(entry.st_uid, is_ours ? 0 : account_->uid()) << facts.name;
    ours += is_ours ? 1 : 0;
  }
  EXPECT_GE(ours, 3u) << "hermesd, the runner and the command's supervisor";
}

TEST_F(PlainUserTest, AnotherAccountIsKeptOut) {
  auto other = TestAccount::Make();
  const std::string socket = daemon_->dir() + "/hermes.sock";
  Ran ran = RunProgram(
      {.argv = {"runuser", "-u", other->name(), "--", account_->home() + "/bin/hermesctl",
                "--socket", socket, "--patience", "1s", "exec", "s", "--", "id -u"}});
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.status, 125) << ran.err;
}

}  // namespace
}  // namespace hermes
