// Accounts: what was asked for is there, and nothing is there afterwards.

#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

#include "tests/hosts/processes.h"
#include "tests/hosts/test_account.h"

namespace hermes {
namespace {

class TestAccountTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string why = TestAccount::Unsupported(); !why.empty()) GTEST_SKIP() << why;
  }
};

Ran RunAs(const TestAccount& account, std::vector<std::string> words, std::string input = "") {
  words.insert(words.begin(), {"runuser", "-u", account.name(), "--"});
  return RunProgram({.argv = words, .input = std::move(input)});
}

bool IsInPasswd(const std::string& name) {
  return ReadWholeFile("/etc/passwd").find(name + ":") != std::string::npos;
}

bool HasProcesses(uid_t uid) {
  std::vector<ProcessFacts> all = AllProcesses();
  return std::any_of(all.begin(), all.end(), [&](const ProcessFacts& facts) {
    return facts.real == uid || facts.effective == uid;
  });
}

TEST_F(TestAccountTest, HasWhatWasAskedFor) {
  auto account = TestAccount::Make({.shell = "/bin/dash", .home_mode = 0711});
  passwd* entry = ::getpwnam(account->name().c_str());
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->pw_uid, account->uid());
  EXPECT_EQ(entry->pw_gid, account->gid());
  EXPECT_STREQ(entry->pw_shell, "/bin/dash");
  EXPECT_EQ(entry->pw_dir, account->home());
  struct stat home;
  ASSERT_EQ(::stat(account->home().c_str(), &home), 0);
  EXPECT_EQ(home.st_uid, account->uid());
  EXPECT_EQ(home.st_mode & 07777, 0711u);
  account->WriteHomeFile("a/b/file", "text", 0600);
  EXPECT_EQ(RunAs(*account, {"cat", account->home() + "/a/b/file"}).out, "text");
}

TEST_F(TestAccountTest, LeavesNothingBehind) {
  auto account = TestAccount::Make({.sudo = Sudo::kNoPassword});
  const std::string name = account->name(), home = account->home();
  const uid_t uid = account->uid();
  Ran ran = RunAs(*account, {"sh", "-c",
                             "setsid sh -c 'trap \"\" TERM HUP; sleep 1000; :' >&- 2>&- &"
                             "setsid sudo sleep 1000 >&- 2>&- & sleep 1000 >&- 2>&- &"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  const std::string remains = "/var/tmp/" + name;
  ran = RunAs(*account, {"sh", "-c", "mkdir $0; >$0/file; ln -s /etc $0.link", remains});
  EXPECT_EQ(ran.status, 0) << ran.err;
  auto sleeping = [&] {
    std::vector<pid_t> pids = account->Processes();
    return std::count_if(pids.begin(), pids.end(), [](pid_t pid) {
      ProcessFacts facts;
      return ReadProcess(pid, &facts) && facts.name == "sleep";
    });
  };
  while (sleeping() < 3) ::sched_yield();
  std::vector<pid_t> pids = account->Processes();
  account.reset();
  EXPECT_FALSE(HasProcesses(uid));
  for (pid_t pid : pids) EXPECT_FALSE(HasEnvironment(pid, "SUDO_UID=" + std::to_string(uid)));
  EXPECT_FALSE(IsInPasswd(name));
  EXPECT_EQ(ReadWholeFile("/etc/group").find(name), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(home));
  EXPECT_FALSE(std::filesystem::exists("/etc/sudoers.d/" + name));
  EXPECT_FALSE(std::filesystem::exists(remains));
  EXPECT_FALSE(std::filesystem::is_symlink(remains + ".link"));
  EXPECT_TRUE(std::filesystem::exists("/etc/passwd"));
}

TEST_F(TestAccountTest, SudoRulesHold) {
  auto none = TestAccount::Make({.password = "right"});
  auto free = TestAccount::Make({.sudo = Sudo::kNoPassword});
  auto asked = TestAccount::Make({.password = "right", .sudo = Sudo::kPassword});
  EXPECT_NE(RunAs(*none, {"sudo", "-S", "id", "-u"}, "right\n").status, 0);
  EXPECT_EQ(RunAs(*free, {"sudo", "-n", "id", "-u"}).out, "0\n");
  EXPECT_NE(RunAs(*asked, {"sudo", "-n", "id", "-u"}).status, 0);
  EXPECT_NE(RunAs(*asked, {"sudo", "-S", "id", "-u"}, "wrong\n").status, 0);
  EXPECT_EQ(RunAs(*asked, {"sudo", "-S", "id", "-u"}, "right\n").out, "0\n");
}

TEST_F(TestAccountTest, NextTestRemovesWhatACrashedOneLeft) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  pid_t crasher = ::fork();
  if (crasher == 0) {
    auto account = TestAccount::Make();
    RunAs(*account, {"sh", "-c", "setsid sleep 1000 >&- 2>&- &"});
    std::string told = account->name() + " " + std::to_string(account->uid());
    if (::write(ends[1], told.data(), told.size()) < 0) ::_exit(1);
    ::raise(SIGKILL);
  }
  ::close(ends[1]);
  char told[200] = {};
  ASSERT_GT(::read(ends[0], told, sizeof(told) - 1), 0);
  ::close(ends[0]);
  ::waitpid(crasher, nullptr, 0);
  std::string name(told, std::find(told, told + sizeof(told), ' '));
  const uid_t uid = static_cast<uid_t>(std::stoul(told + name.size()));
  auto account = TestAccount::Make();
  EXPECT_FALSE(IsInPasswd(name));
  EXPECT_FALSE(HasProcesses(uid));
}

TEST_F(TestAccountTest, ManyAreMadeAtOnce) {
  constexpr int kAccounts = 6;
  std::vector<std::unique_ptr<TestAccount>> accounts(kAccounts);
  std::vector<std::thread> threads;
  for (auto& account : accounts) threads.emplace_back([&] { account = TestAccount::Make(); });
  for (std::thread& thread : threads) thread.join();
  std::vector<uid_t> uids;
  for (auto& account : accounts) {
    EXPECT_TRUE(IsInPasswd(account->name()));
    uids.push_back(account->uid());
  }
  std::sort(uids.begin(), uids.end());
  EXPECT_EQ(std::unique(uids.begin(), uids.end()), uids.end());
}

}  // namespace
}  // namespace hermes
