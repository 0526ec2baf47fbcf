// The SSH servers, proved with the plain ssh client.

#include <signal.h>

#include <filesystem>

#include <gtest/gtest.h>

#include "tests/hosts/busybox_root.h"
#include "tests/hosts/delay_proxy.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/ssh_client.h"
#include "tests/hosts/ssh_server.h"
#include "tests/hosts/test_account.h"

namespace hermes {
namespace {

constexpr int kSshFailed = 255;

class SshServerTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const std::string& why : {TestAccount::Unsupported(), OpenSshServer::Unsupported()})
      if (!why.empty()) GTEST_SKIP() << why;
    client_ = std::make_unique<SshClient>();
  }

  // Returns when `words` said "ready"; they go on.
  pid_t SpawnAndAwaitReady(const std::vector<std::string>& words) {
    const std::string log = client_->folder() + "/" + RandomName("log");
    pid_t pid = Spawn({.argv = words, .log = log});
    for (FileWatch watch(log, pid); ReadWholeFile(log).find("ready") == std::string::npos;)
      if (!watch.Wait(30'000)) GiveUp("not ready: " + ReadWholeFile(log));
    return pid;
  }

  std::unique_ptr<SshClient> client_;
};

TEST_F(SshServerTest, OpenSshServesAnAccount) {
  auto account = TestAccount::Make();
  auto server = OpenSshServer::Start(client_->Serving(*account));
  Ran ran = client_->Execute(*server, *account, "id -un; pwd; echo err >&2; exit 7");
  EXPECT_EQ(ran.out, account->name() + "\n" + account->home() + "\n");
  EXPECT_EQ(ran.err, "err\n") << server->Log();
  EXPECT_EQ(ran.status, 7);
}

TEST_F(SshServerTest, DropbearServesAnAccount) {
  if (std::string why = DropbearServer::Unsupported(); !why.empty()) GTEST_SKIP() << why;
  auto account = TestAccount::Make();
  account->AuthorizeKey(client_->key().public_line);
  auto server = DropbearServer::Start();
  Ran ran = client_->Execute(*server, *account, "id -un; echo err >&2; exit 7");
  EXPECT_EQ(ran.out, account->name() + "\n");
  EXPECT_EQ(ran.err, "err\n") << server->Log();
  EXPECT_EQ(ran.status, 7);
}

TEST_F(SshServerTest, PlainAccountRunsItsOwnServers) {
  auto account = TestAccount::Make();
  account->AuthorizeKey(client_->key().public_line);
  OpenSshOptions options = client_->Serving(*account);
  options.run_as = account.get();
  auto openssh = OpenSshServer::Start(options);
  auto dropbear = DropbearServer::Start({.run_as = account.get()});
  for (const SshServer* server :
       {static_cast<SshServer*>(openssh.get()), static_cast<SshServer*>(dropbear.get())}) {
    ProcessFacts facts;
    ASSERT_TRUE(ReadProcess(server->pid(), &facts));
    EXPECT_EQ(facts.real, account->uid());
    Ran ran = client_->Execute(*server, *account, "id -un; setsid sleep 1000 >&- 2>&- & exit 3");
    EXPECT_EQ(ran.out, account->name() + "\n") << ran.err << server->Log();
    EXPECT_EQ(ran.status, 3);
  }
  openssh->Stop();
  dropbear->Stop();
}

struct ShellCase {
  const char* path;
  int status;  // of "echo hello; exit 3"
};

class LoginShellTest : public SshServerTest, public testing::WithParamInterface<ShellCase> {};

TEST_P(LoginShellTest, Prints) {
  ASSERT_TRUE(std::filesystem::exists(GetParam().path));
  auto account = TestAccount::Make({.shell = GetParam().path});
  auto server = OpenSshServer::Start(client_->Serving(*account));
  Ran ran = client_->Execute(*server, *account, "echo hello; exit 3");
  EXPECT_EQ(ran.status, GetParam().status) << ran.err;
  if (GetParam().status == 3)
    EXPECT_EQ(ran.out, "hello\n");
  else
    EXPECT_NE(ran.out.find("not available"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, LoginShellTest,
                         testing::Values(ShellCase{"/bin/bash", 3}, ShellCase{"/bin/dash", 3},
                                         ShellCase{"/bin/zsh", 3}, ShellCase{"/usr/bin/fish", 3},
                                         ShellCase{"/bin/tcsh", 3}, ShellCase{"/bin/rbash", 3},
                                         ShellCase{"/usr/sbin/nologin", 1}),
                         [](const auto& info) {
                           return std::filesystem::path(info.param.path).filename().string();
                         });

TEST_F(SshServerTest, BusyboxRootHasNothingElse) {
  if (std::string why = BusyboxRoot::Unsupported(); !why.empty()) GTEST_SKIP() << why;
  auto account = TestAccount::Make({.shell = "/bin/sh"});
  BusyboxRoot root(*account);
  OpenSshOptions options = client_->Serving(*account);
  root.Configure(&options);
  auto server = OpenSshServer::Start(options);
  Ran ran =
      client_->Execute(*server, *account,
                       "pwd; id -un; ls -d /bin/bash /lib; head -c 3 /dev/zero | wc -c;"
                       "readlink /proc/self/exe; echo x >/dev/null && echo y >file; cat file");
  EXPECT_EQ(ran.out, account->home() + "\n" + account->name() + "\n3\n/bin/busybox\ny\n")
      << ran.err << server->Log();
  server.reset();
  account.reset();
  EXPECT_FALSE(std::filesystem::exists(root.path()));
}

TEST_F(SshServerTest, MaxSessionsRefusesOneMore) {
  auto account = TestAccount::Make();
  OpenSshOptions options = client_->Serving(*account);
  options.lines = {"MaxSessions 2"};
  auto server = OpenSshServer::Start(options);
  const std::string control = "-oControlPath=" + client_->folder() + "/c";
  std::vector<std::string> words = client_->Words(*server, *account);
  words.insert(words.begin() + 1, {control, "-oControlMaster=yes"});
  words.push_back("echo ready; sleep 1000");
  pid_t first = SpawnAndAwaitReady(words);  // the master has a session itself
  words = client_->Words(*server, *account);
  // A client that is refused would log in anew: here it cannot.
  words.insert(words.begin() + 1, {control, "-oProxyCommand=false"});
  words.push_back("echo ready; sleep 1000");
  pid_t second = SpawnAndAwaitReady(words);
  Ran third = RunProgram({.argv = words});
  EXPECT_EQ(third.status, kSshFailed);
  EXPECT_NE(third.err.find("refused by peer"), std::string::npos) << third.err;
  KillChild(second);
  KillChild(first);
}

TEST_F(SshServerTest, KilledSessionEndsTheClientButNotTheCommand) {
  auto account = TestAccount::Make();
  auto server = OpenSshServer::Start(client_->Serving(*account));
  std::vector<std::string> words = client_->Words(*server, *account);
  words.push_back("echo $$ >pid; echo ready; exec sleep 1000");
  pid_t client = SpawnAndAwaitReady(words);
  EXPECT_FALSE(server->SessionPids().empty());
  server->KillSessions();
  EXPECT_TRUE(server->SessionPids().empty());
  EXPECT_EQ(AwaitChild(client), kSshFailed);
  ProcessFacts command;
  ASSERT_TRUE(ReadProcess(std::stoi(ReadWholeFile(account->home() + "/pid")), &command));
  EXPECT_EQ(command.name, "sleep");
  EXPECT_EQ(client_->Execute(*server, *account, "exit 5").status, 5);
}

TEST_F(SshServerTest, RestartKeepsThePortAndMayChangeTheHostKey) {
  auto account = TestAccount::Make();
  OpenSshOptions options = client_->Serving(*account);
  options.host_key_types = {"ed25519", "ecdsa", "rsa"};
  auto server = OpenSshServer::Start(options);
  EXPECT_EQ(server->host_keys().size(), 3u);
  const int port = server->port();
  std::vector<std::string> words = client_->Words(*server, *account);
  words.push_back("exit 4");
  EXPECT_EQ(RunProgram({.argv = words}).status, 4);
  server->Restart();
  EXPECT_EQ(server->port(), port);
  EXPECT_EQ(RunProgram({.argv = words}).status, 4);
  server->Restart(/*new_host_keys=*/true);
  Ran ran = RunProgram({.argv = words});
  EXPECT_EQ(ran.status, kSshFailed);
  EXPECT_NE(ran.err.find("IDENTIFICATION HAS CHANGED"), std::string::npos) << ran.err;
}

TEST_F(SshServerTest, TakesLinesOfTheTest) {
  auto account = TestAccount::Make();
  OpenSshOptions options = client_->Serving(*account);
  options.match_lines = {"Match User " + account->name(), "ForceCommand echo forced"};
  options.lines = {"RekeyLimit 4M", "MaxStartups 5", "ClientAliveInterval 5"};
  if (OpenSshServer::Version() >= 902) options.lines.push_back("ChannelTimeout session:*=60s");
  auto server = OpenSshServer::Start(options);
  EXPECT_EQ(client_->Execute(*server, *account, "exit 4").out, "forced\n") << server->Log();
}

TEST_F(SshServerTest, AllTypesOfKeysLogIn) {
  auto account = TestAccount::Make();
  OpenSshOptions options = client_->Serving(*account);
  for (const std::string type : {"ecdsa", "rsa"}) {
    SshKey key = SshKey::Make(client_->folder(), type, type);
    options.logins[0].public_lines = {key.public_line};
    auto server = OpenSshServer::Start(options);
    std::vector<std::string> words = client_->Words(*server, *account);
    words.insert(words.begin() + 1, "-i" + key.private_path);
    words.push_back("exit 4");
    EXPECT_EQ(RunProgram({.argv = words}).status, 4) << server->Log();
  }
}

TEST_F(SshServerTest, NothingIsLeftAfterwards) {
  auto account = TestAccount::Make();
  const uid_t uid = account->uid();
  auto server = OpenSshServer::Start(client_->Serving(*account));
  std::vector<std::string> words = client_->Words(*server, *account);
  words.push_back("setsid sleep 1000 >&- 2>&- & echo ready; sleep 1000; :");
  pid_t client = SpawnAndAwaitReady(words);
  std::vector<pid_t> pids = server->SessionPids();
  pids.push_back(server->pid());
  const std::string folder = server->folder();
  server.reset();
  ProcessFacts facts;
  for (pid_t pid : pids) EXPECT_FALSE(ReadProcess(pid, &facts) && facts.state != 'Z') << pid;
  EXPECT_FALSE(std::filesystem::exists(folder));
  EXPECT_EQ(AwaitChild(client), kSshFailed);
  EXPECT_FALSE(account->Processes().empty());
  account.reset();
  for (const ProcessFacts& left : AllProcesses())
    EXPECT_FALSE(left.real == uid || left.effective == uid) << left.name;
}

TEST_F(SshServerTest, LogsInThroughADelayProxy) {
  auto account = TestAccount::Make();
  auto server = OpenSshServer::Start(client_->Serving(*account));
  constexpr std::chrono::milliseconds kRtt(40);
  DelayProxy proxy({.target_port = server->port(), .rtt = kRtt});
  auto begin = std::chrono::steady_clock::now();
  Ran ran = client_->Execute(*server, *account, "echo hello; exit 6", proxy.port());
  auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(ran.out, "hello\n") << ran.err;
  EXPECT_EQ(ran.status, 6);
  EXPECT_GE(took, kRtt * 6);  // what a login costs at least
  EXPECT_EQ(proxy.connections(), 1);
}

}  // namespace
}  // namespace hermes
