// sudo with a password, as people have it: a real account, a real rule, hermesd run by the account.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/e2e/account_daemon.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/test_account.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;

constexpr int kTimedOut = 124;
constexpr int kHermesFailed = 125;

// Every file below `folder` that holds `text`.
std::vector<std::string> FilesWith(const std::string& folder, const std::string& text) {
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    std::error_code error;
    if (entry.is_regular_file(error) && ReadWholeFile(entry.path()).find(text) != std::string::npos)
      found.push_back(entry.path());
  }
  return found;
}

// Every process that has `text` among its arguments or in its environment.
std::vector<std::string> ProcessesWith(const std::string& text) {
  std::vector<std::string> found;
  for (const ProcessFacts& facts : AllProcesses())
    for (const char* file : {"/cmdline", "/environ"}) {
      std::string path = "/proc/" + std::to_string(facts.pid) + file;
      if (ReadWholeFile(path).find(text) != std::string::npos)
        found.push_back(path + " " + facts.name);
    }
  return found;
}

class SudoTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string why = TestAccount::Unsupported(); !why.empty()) GTEST_SKIP() << why;
    if (::access("/usr/bin/sudo", X_OK) != 0) GTEST_SKIP() << "there is no sudo";
    account_ = TestAccount::Make({.password = password_, .sudo = Sudo::kPassword});
    daemon_ = std::make_unique<AccountDaemon>(*account_);
    daemon_->Start();
  }
  void TearDown() override {
    daemon_.reset();
    account_.reset();
  }

  // What root runs for the account through sudo and is called `name`.
  std::vector<pid_t> RootProcesses(const std::string& name) {
    std::vector<pid_t> pids;
    for (pid_t pid : account_->Processes()) {
      ProcessFacts facts;
      if (ReadProcess(pid, &facts) && facts.real == 0 && facts.name == name) pids.push_back(pid);
    }
    return pids;
  }

  int OwnProcesses(const std::string& name) {
    int count = 0;
    for (const ProcessFacts& facts : AllProcesses())
      if (facts.real == account_->uid() && facts.name == name) ++count;
    return count;
  }

  const std::string password_ = RandomName("Pw-");
  std::unique_ptr<TestAccount> account_;
  std::unique_ptr<AccountDaemon> daemon_;
};

TEST_F(SudoTest, GetsThePasswordOfTheSession) {
  daemon_->CreateSession("s", password_);
  Ran ran = daemon_->Execute("s", "sudo -k; sudo id -u; echo $?; id -u");
  EXPECT_EQ(ran.out, "0\n0\n" + std::to_string(account_->uid()) + "\n") << ran.err;
  EXPECT_EQ(ran.status, 0);
}

TEST_F(SudoTest, WithoutAPasswordItFailsAndDoesNotHang) {
  daemon_->CreateSession("s");
  Ran ran = daemon_->Execute("s", "sudo -k; sudo id -u");
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.status, 1) << ran.err;
}

TEST_F(SudoTest, WrongPasswordFailsAndDoesNotHang) {
  daemon_->CreateSession("s", "wrong");
  Ran ran = daemon_->Execute("s", "sudo -k; sudo id -u");
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.status, 1);
  EXPECT_NE(ran.err.find("incorrect password"), std::string::npos) << ran.err;
}

TEST_F(SudoTest, PasswordCanBeGivenLaterAndForgotten) {
  daemon_->CreateSession("s");
  Ran given = daemon_->Ctl({"session", "update", "s", "--sudo-password-stdin"}, password_ + "\n");
  EXPECT_EQ(given.status, 0) << given.err;
  EXPECT_EQ(daemon_->Execute("s", "sudo -k; sudo id -u").out, "0\n");
  EXPECT_EQ(daemon_->Ctl({"session", "update", "s", "--forget-sudo-password"}).status, 0);
  EXPECT_EQ(daemon_->Execute("s", "sudo -k; sudo id -u").status, 1);
}

TEST_F(SudoTest, AProgramWithoutAShellIsNotHelpedAndDoesNotHang) {
  daemon_->CreateSession("s", password_);
  Ran ran = daemon_->Ctl({"exec", "s", "--argv", "--", "sudo", "-k", "id", "-u"});
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.status, 1) << ran.err;
}

TEST_F(SudoTest, StdinStaysTheCommands) {
  daemon_->CreateSession("s", password_);
  Ran ran = daemon_->Ctl({"exec", "s", "-i", "--", "sudo -k; sudo cat; echo end"}, "line\nlast");
  EXPECT_EQ(ran.out, "line\nlastend\n") << ran.err;
  EXPECT_EQ(daemon_->Execute("s", "sudo -k; printf piped | sudo cat").out, "piped");
}

TEST_F(SudoTest, OnlyCommandsOfTheSessionAreAnswered) {
  daemon_->CreateSession("with", password_);
  daemon_->CreateSession("without");
  const std::string askpass = daemon_->Execute("with", "printf %s \"$SUDO_ASKPASS\"").out;
  const std::string running = daemon_->StartCommand("with", "sleep 1000");
  EXPECT_EQ(daemon_->Execute("with", askpass).out, password_ + "\n");  // or nothing below is proved
  Ran outside = RunProgram({.argv = {"runuser", "-u", account_->name(), "--", askpass}});
  EXPECT_EQ(outside.out, "");
  EXPECT_NE(outside.status, 0);
  Ran other = daemon_->Execute("without", askpass);
  EXPECT_EQ(other.out, "");
  EXPECT_NE(other.status, 0);
  other = daemon_->Execute("without", "sudo -k; SUDO_ASKPASS=" + askpass + " sudo -A id -u");
  EXPECT_EQ(other.out, "");
  EXPECT_EQ(daemon_->Ctl({"kill", running}).status, 0);
}

TEST_F(SudoTest, WhatAnEndedCommandLeftBehindIsNotAnswered) {
  daemon_->CreateSession("box", password_);
  Ran left = daemon_->Execute("box",
                              "mkfifo ~/gate ~/told; (read -r go <~/gate; \"$SUDO_ASKPASS\"; "
                              "echo $?) >~/told 2>/dev/null & \"$SUDO_ASKPASS\"");
  EXPECT_EQ(left.out, password_ + "\n");  // or nothing below is proved
  Ran heard = daemon_->Execute("box", "echo go >~/gate & cat ~/told");
  EXPECT_EQ(heard.out, "1\n");
}

TEST_F(SudoTest, PasswordIsNowhereToBeSeen) {
  daemon_->CreateSession("s", password_);
  const std::string name = daemon_->StartCommand("s", "sudo -k; set; env; sudo sleep 1000");
  ASSERT_TRUE(Eventually([&] { return !RootProcesses("sleep").empty(); }));
  EXPECT_EQ(ProcessesWith(password_), std::vector<std::string>());
  EXPECT_EQ(FilesWith(account_->home(), password_), std::vector<std::string>());
  EXPECT_NE(FilesWith(account_->home(), "SUDO_ASKPASS"), std::vector<std::string>())
      << "the output is not where this test looks";
  KillWhere([this](const ProcessFacts& facts) {
    return HasEnvironment(facts.pid, "SUDO_UID=" + std::to_string(account_->uid()));
  });
  EXPECT_NE(daemon_->Ctl({"wait", name}).status, -1);
  Ran shown = daemon_->Ctl({"session", "show", "s", "-o", "json"});
  EXPECT_EQ((shown.out + shown.err).find(password_), std::string::npos);
  EXPECT_EQ(FilesWith(account_->home(), password_), std::vector<std::string>());
}

TEST_F(SudoTest, SurvivesTheDaemonInTheRunnersMemory) {
  daemon_->CreateSession("s", password_);
  EXPECT_EQ(daemon_->Execute("s", "true").status, 0);
  daemon_->Kill();
  daemon_->Start();
  EXPECT_EQ(daemon_->Execute("s", "sudo -k; sudo id -u").out, "0\n");
}

TEST_F(SudoTest, IsAskedForAgainWhenDaemonAndRunnerAreGone) {
  daemon_->CreateSession("s", password_);
  EXPECT_EQ(daemon_->Execute("s", "true").status, 0);
  daemon_->Kill();
  account_->KillProcesses();
  daemon_->Start();
  EXPECT_EQ(daemon_->Execute("s", "sudo -k; sudo id -u").status, 1);
  Ran shown = daemon_->Ctl({"session", "show", "s", "-o", "json"});
  EXPECT_NE(shown.out.find("SECRET_NEEDED"), std::string::npos) << shown.out;
}

// A process of root that TERM does not end: sudo passes that on, and KILL to sudo reaches only
// sudo.
constexpr const char* kStubborn =
    "sleep 1000 & sudo sh -c 'trap \"\" TERM; echo up; exec sleep 1000'";

TEST_F(SudoTest, CancelNamesWhatItMayNotKill) {
  daemon_->CreateSession("s", password_);
  const std::string name = daemon_->StartCommand("s", kStubborn);
  ASSERT_TRUE(Eventually([&] { return !RootProcesses("sleep").empty(); }));
  const pid_t survivor = RootProcesses("sleep").front();
  Ran killed = daemon_->Ctl({"kill", name, "--grace", "100ms"});
  EXPECT_EQ(killed.status, kHermesFailed);
  EXPECT_NE(killed.err.find("pid " + std::to_string(survivor)), std::string::npos) << killed.err;
  EXPECT_EQ(RootProcesses("sleep"), std::vector<pid_t>{survivor});
  Ran shown = daemon_->Ctl({"ps", "s", "-o", "json"});
  EXPECT_NE(shown.out.find("\"survivors\": 1,"), std::string::npos) << shown.out;
  EXPECT_EQ(OwnProcesses("sleep"), 0);
  // It has had its grace: nothing that follows waits for it again.
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(daemon_->Ctl({"kill", name, "--grace", "2m"}).status, kHermesFailed);
  Ran cleaned = daemon_->Ctl({"cleanup", "s", "--grace", "2m"});
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::minutes(1));
  EXPECT_EQ(cleaned.status, 0) << cleaned.err;
  EXPECT_NE(cleaned.err.find(std::to_string(survivor)), std::string::npos) << cleaned.err;
}

TEST_F(SudoTest, TimeoutNamesWhatItMayNotKill) {
  daemon_->CreateSession("s", password_);
  Ran ran;
  for (const char* timeout : {"2s", "10s", "30s"}) {  // a busy machine may need long to start sudo
    ran =
        daemon_->Ctl({"exec", "s", "--timeout", timeout, "--kill-grace", "100ms", "--", kStubborn});
    EXPECT_EQ(ran.status, kTimedOut);
    if (ran.out == "up\n") break;
  }
  ASSERT_EQ(ran.out, "up\n") << ran.err;
  ASSERT_TRUE(Eventually([&] { return RootProcesses("sleep").size() == 1; }));
  const std::vector<pid_t> survivors = RootProcesses("sleep");
  EXPECT_NE(ran.err.find("pid " + std::to_string(survivors[0])), std::string::npos) << ran.err;
}

}  // namespace
}  // namespace hermes
