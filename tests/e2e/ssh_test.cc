// Sessions on another host through hermesctl, as a person has them: hermesd, its ssh and its
// known_hosts are one account's, and it logs in to another account by a real sshd.

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/account_daemon.h"
#include "tests/fakes/eventually.h"
#include "tests/fakes/temp_dir.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/ssh_server.h"
#include "tests/hosts/test_account.h"

namespace hermes {
namespace {

using testing::HasSubstr;
using Words = std::vector<std::string>;

constexpr int kFailed = 125;  // of hermesctl

class SshE2eTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const std::string& why : {TestAccount::Unsupported(), OpenSshServer::Unsupported()})
      if (!why.empty()) GTEST_SKIP() << why;
    me_ = TestAccount::Make();
    far_ = TestAccount::Make();
    key_ = MakeKey("key");
    ServeWith({{far_->name(), {key_.public_line}}});
    daemon_ = std::make_unique<AccountDaemon>(*me_);
    daemon_->Start();
  }
  // What a Cleanup leaves: nothing over there, and no ssh here once hermesd is gone.
  void TearDown() override {
    if (daemon_ == nullptr) return;
    daemon_.reset();
    EXPECT_TRUE(Eventually([this] { return CountOf(*me_, "ssh") == 0; })) << "an ssh is left";
    EXPECT_TRUE(Eventually([this] { return server_->SessionPids().empty(); })) << server_->Log();
    server_.reset();
  }

  void ServeWith(decltype(OpenSshOptions::logins) logins) {
    server_.reset();
    server_ = OpenSshServer::Start({.logins = std::move(logins)});
    Know(server_->KnownHosts());
  }
  SshKey MakeKey(const std::string& name) const {
    SshKey key = SshKey::Make(dir_.path(), name);
    me_->WriteHomeFile(name, ReadWholeFile(key.private_path), 0600);
    key.private_path = me_->home() + "/" + name;
    return key;
  }
  void Know(const std::string& lines) const { me_->WriteHomeFile(".ssh/known_hosts", lines, 0600); }
  // What "box" means in the account's own configuration.
  void Configure(const std::string& user, const std::string& more = "") const {
    me_->WriteHomeFile(".ssh/config",
                       "Host box\n  HostName " + server_->host() + "\n  Port " +
                           std::to_string(server_->port()) + "\n  User " + user +
                           "\n  IdentityFile " + key_.private_path + "\n" + more,
                       0600);
  }
  std::string KnownHosts() const { return ReadWholeFile(me_->home() + "/.ssh/known_hosts"); }
  std::string Fingerprint() const {
    const Ran ran =
        RunProgram({.argv = {"ssh-keygen", "-lf", "-"}, .input = server_->host_keys().front()});
    const size_t at = ran.out.find("SHA256:");
    return ran.out.substr(at, ran.out.find(' ', at) - at);
  }

  Words Whole() const {
    return {"--host",     server_->host(),  "--user",
            far_->name(), "--port",         std::to_string(server_->port()),
            "--key",      key_.private_path};
  }
  Ran Create(const std::string& name, Words words) const {
    words.insert(words.begin(), {"session", "create", name, "--backend", "ssh"});
    return daemon_->Ctl(words);
  }
  Ran CreateWith(const std::string& name, const Words& more) const {
    Words words = Whole();
    words.insert(words.end(), more.begin(), more.end());
    return Create(name, words);
  }
  void MustCreate(const std::string& name, const Words& more = {}) const {
    const Ran ran = CreateWith(name, more);
    ASSERT_EQ(ran.status, 0) << ran.err;
  }
  void ExpectWorks(const std::string& name) const {
    const Ran ran = daemon_->Execute(name, "id -un; echo err >&2; exit 7");
    EXPECT_EQ(ran.out, far_->name() + "\n");
    EXPECT_EQ(ran.err, "err\n");
    EXPECT_EQ(ran.status, 7);
  }
  std::string Show(const std::string& name) const {
    return daemon_->Ctl({"session", "show", name}).out;
  }
  void MustCleanUp(const std::string& name) const {
    const Ran ran = daemon_->Ctl({"cleanup", name});
    EXPECT_EQ(ran.status, 0) << ran.err;
  }

  static size_t CountOf(const TestAccount& account, const std::string& program) {
    size_t count = 0;
    for (const ProcessFacts& facts : AllProcesses())
      count += facts.real == account.uid() && facts.name == program ? 1 : 0;
    return count;
  }
  // What there is of us over there.
  Words Left() const {
    Words left;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(far_->home()))
      left.push_back(entry.path());
    for (const char* folder : {"/tmp", "/var/tmp", "/dev/shm"})
      for (const auto& entry : std::filesystem::directory_iterator(folder))
        if (entry.path().filename() == "hermesd-" + std::to_string(far_->uid()))
          left.push_back(entry.path());
    for (const pid_t pid : far_->Processes()) {
      ProcessFacts facts;
      if (ReadProcess(pid, &facts) && facts.name != "sshd") left.push_back(facts.name);
    }
    return left;
  }

  TempDir dir_;
  std::unique_ptr<TestAccount> me_;
  std::unique_ptr<TestAccount> far_;
  std::unique_ptr<TestAccount> other_;  // of some tests
  SshKey key_;
  std::unique_ptr<OpenSshServer> server_;
  std::unique_ptr<AccountDaemon> daemon_;
};

TEST_F(SshE2eTest, EveryTransportAndEngineRunsCommandsAndCleanupLeavesNothing) {
  struct Case {
    Words words;
    const char* engine;
  };
  const std::vector<Case> cases = {
      {{}, "runner"},
      {{"--transport", "auto", "--runner", "auto", "--host-key", "strict"}, "runner"},
      {{"--transport", "openssh", "--runner", "require"}, "runner"},
      {{"--transport", "openssh", "--runner", "never"}, "plain"},
      {{"--transport", "libssh2", "--runner", "require"}, "runner"},
      {{"--transport", "libssh2", "--runner", "never"}, "plain"},
      {{"--host-key", Fingerprint()}, "runner"},
      {{"--ssh-option", "Compression=yes", "--ssh-option", "RekeyLimit=1G"}, "runner"}};
  int number = 0;
  for (const Case& one : cases) {
    SCOPED_TRACE(testing::PrintToString(one.words));
    const std::string name = "s" + std::to_string(++number);
    MustCreate(name, one.words);
    ExpectWorks(name);
    EXPECT_THAT(Show(name), HasSubstr(one.engine));
    EXPECT_EQ(daemon_->Execute(name, "cd /usr; export A='x y'; f() { echo \"f $A\"; }").status, 0);
    EXPECT_EQ(daemon_->Execute(name, "pwd; f").out, "/usr\nf x y\n");
    MustCleanUp(name);
    EXPECT_EQ(Left(), Words());
  }
}

TEST_F(SshE2eTest, OutputIsExactWhateverItsBytes) {
  MustCreate("s");
  std::string every;
  for (int i = 0; i < 256; ++i) every += static_cast<char>(i);
  const std::string print =
      "for i in $(seq 0 255); do printf \"\\\\$(printf %o $i)\"; done; head -c 3000000 /dev/zero";
  EXPECT_EQ(daemon_->Execute("s", print).out, every + std::string(3'000'000, '\0'));
}

TEST_F(SshE2eTest, ATimeoutEndsTheTreeOverThere) {
  for (const char* engine : {"require", "never"}) {
    SCOPED_TRACE(engine);
    const std::string name = std::string("s-") + engine;
    MustCreate(name, {"--runner", engine});
    const Ran ran = daemon_->Ctl(
        {"exec", name, "--timeout", "1s", "--", "setsid sleep 1000 & sleep 1000 & echo up; wait"});
    EXPECT_EQ(ran.status, 124) << ran.err;
    EXPECT_EQ(ran.out, "up\n");
    EXPECT_EQ(CountOf(*far_, "sleep"), 0u);
    MustCleanUp(name);
  }
}

TEST_F(SshE2eTest, KillNineOfTheDaemonDisturbsNoCommandOverWhateverItCame) {
  const Words transports = {"openssh", "libssh2"};
  Words commands;
  for (const std::string& transport : transports) {
    MustCreate(transport, {"--transport", transport});
    const std::string fifo = far_->home() + "/" + transport;
    commands.push_back(daemon_->StartCommand(
        transport, "seq 1 20000; mkfifo " + fifo + "; cat " + fifo + "; exit 9"));
    ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(fifo); }));
  }
  daemon_->Kill();
  daemon_->Start();
  std::string whole;
  for (int i = 1; i <= 20000; ++i) whole += std::to_string(i) + "\n";
  for (size_t i = 0; i < transports.size(); ++i) {
    SCOPED_TRACE(transports[i]);
    const std::string let_go = "echo on >" + far_->home() + "/" + transports[i];
    EXPECT_EQ(daemon_->Execute(transports[i], let_go).status, 0);
    EXPECT_EQ(daemon_->Ctl({"wait", commands[i]}).status, 9);
    EXPECT_EQ(daemon_->Ctl({"logs", commands[i]}).out, whole + "on\n");
  }
}

// Nothing of a plain engine's commands outlives the daemon that read them: neither one that goes on
// nor one that ends well meanwhile may be given an exit code that nobody saw.
TEST_F(SshE2eTest, KillNineOfTheDaemonMakesPlainCommandsUnknown) {
  MustCreate("s", {"--runner", "never"});
  const std::string lives =
      daemon_->StartCommand("s", "echo up; : >~/lives; while [ ! -e ~/end ]; do sleep 0.1; done");
  const std::string ends =
      daemon_->StartCommand("s", "mkfifo ~/go; read x <~/go; : >~/ended; exit 0");
  const auto there = [this](const char* name) {
    return Eventually([&] { return std::filesystem::exists(far_->home() + "/" + name); });
  };
  ASSERT_TRUE(there("lives") && there("go"));
  daemon_->Kill();
  ASSERT_EQ(RunProgram({.argv = {"sh", "-c", "echo on >" + far_->home() + "/go"}}).status, 0);
  ASSERT_TRUE(there("ended"));
  daemon_->Start();
  for (const std::string& command : {lives, ends}) {
    SCOPED_TRACE(command);
    const Ran ended = daemon_->Ctl({"wait", command});
    EXPECT_EQ(ended.status, kFailed) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("is not known"));
    const std::string json = daemon_->Ctl({"wait", command, "-o", "json"}).out;
    EXPECT_THAT(json, HasSubstr("\"state\": \"UNKNOWN\""));
    EXPECT_THAT(json, testing::Not(HasSubstr("\"exit_code\": 0")));
  }
  ExpectWorks("s");
  far_->WriteHomeFile("end", "");
  MustCleanUp("s");
}

// What ssh_config says of how to connect is no matter of what a session is.
TEST_F(SshE2eTest, AnEditOfSshConfigAndARestartLoseNothing) {
  const std::string root = me_->home() + "/work";
  me_->WriteHomeFile("work/a", "one");
  Configure(far_->name());
  const Ran made = Create("s", {"--host", "box", "--mount", root + ":~/far"});
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(daemon_->Execute("s", "export A='x y'; f() { echo \"f $A\"; }; cd /usr").status, 0);
  const std::string fifo = far_->home() + "/go";
  const std::string command =
      daemon_->StartCommand("s", "seq 1 2000; mkfifo " + fifo + "; cat " + fifo + "; exit 9");
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(fifo); }));
  const std::vector<pid_t> before = far_->Processes();
  daemon_->Kill();
  Configure(far_->name(), "Host *\n  ServerAliveInterval 7\n  TCPKeepAlive no\n");
  daemon_->Start();
  EXPECT_EQ(daemon_->Execute("s", "pwd; f; echo on >" + fifo).out, "/usr\nf x y\n");
  EXPECT_EQ(daemon_->Ctl({"wait", command}).status, 9);
  std::string whole;
  for (int i = 1; i <= 2000; ++i) whole += std::to_string(i) + "\n";
  EXPECT_EQ(daemon_->Ctl({"logs", command}).out, whole + "on\n");
  EXPECT_THAT(daemon_->Ctl({"sync", "s"}).err, HasSubstr("sent 0 files"));
  MustCleanUp("s");
  std::filesystem::remove_all(far_->home() + "/far");
  std::filesystem::remove(fifo);
  EXPECT_EQ(Left(), Words()) << "its folder goes with it";
}

TEST_F(SshE2eTest, ASessionDoesNotFollowSshConfigToAnotherAccount) {
  other_ = TestAccount::Make();
  ServeWith({{far_->name(), {key_.public_line}}, {other_->name(), {key_.public_line}}});
  Configure(far_->name());
  const Ran made = Create("s", {"--host", "box"});
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(daemon_->Execute("s", "A=1; export A").status, 0);
  Configure(other_->name());
  daemon_->Kill();
  daemon_->Start();
  const Ran refused = daemon_->Execute("s", "id -un");
  EXPECT_EQ(refused.status, kFailed);
  EXPECT_THAT(refused.err, HasSubstr("BACKEND_UNREACHABLE"));
  EXPECT_THAT(refused.err, HasSubstr("the session is on " + far_->name() + "@"));
  EXPECT_THAT(refused.err, HasSubstr("now leads box to " + other_->name() + "@"));
  EXPECT_THAT(refused.err, HasSubstr("Let ssh_config lead to the session's host again"));
  EXPECT_TRUE(std::filesystem::is_empty(other_->home())) << "nobody was there";
  Configure(far_->name());
  EXPECT_EQ(daemon_->Execute("s", "id -un; echo $A").out, far_->name() + "\n1\n");
  MustCleanUp("s");
}

// A mount as people use one: sent before a command, kept over a restart, brought back with a
// conflict, taken back again.
TEST_F(SshE2eTest, AMountGoesOverAndComesBackAndIsSentOnce) {
  const std::string root = me_->home() + "/work";
  const auto host = [&](const std::string& name) { return ReadWholeFile(root + "/" + name); };
  const auto put = [&](const std::string& name, const std::string& text) {
    me_->WriteHomeFile("work/" + name, text);
  };
  for (const Words& way : {Words{"--transport", "openssh", "--runner", "require"},
                           Words{"--transport", "libssh2", "--runner", "never"}}) {
    SCOPED_TRACE(testing::PrintToString(way));
    put("a", "one");
    put("d/b", std::string(300'000, 'b'));
    Words words = way;
    words.insert(words.end(), {"--mount", root + ":~/far"});
    MustCreate("s", words);
    EXPECT_EQ(daemon_->Execute("s", "cat ~/far/a; wc -c <~/far/d/b; id -un").out,
              "one300000\n" + far_->name() + "\n");
    daemon_->Kill();
    daemon_->Start();
    const Ran again = daemon_->Ctl({"sync", "s"});
    EXPECT_EQ(again.status, 0) << again.err;
    EXPECT_THAT(again.err, HasSubstr("sent 0 files"));

    EXPECT_EQ(daemon_->Execute("s", "printf theirs >~/far/a; printf new >~/far/n").status, 0);
    put("a", "ours");
    const Ran back = daemon_->Ctl({"sync-back", "s"});
    EXPECT_THAT(back.out, HasSubstr("CONFLICT"));
    EXPECT_EQ(host("a"), "theirs");
    EXPECT_EQ(host("n"), "new");
    const Words lines = SplitLines(daemon_->Ctl({"syncs", "s"}).out);
    ASSERT_GT(lines.size(), 1u);
    const Ran undo = daemon_->Ctl({"undo", lines[1].substr(0, lines[1].find(' '))});
    EXPECT_EQ(undo.status, 0) << undo.err;
    EXPECT_EQ(host("a"), "ours");
    EXPECT_FALSE(std::filesystem::exists(root + "/n"));

    MustCleanUp("s");
    for (const std::string& left : Left())
      EXPECT_THAT(left, testing::StartsWith(far_->home() + "/far")) << "the mount's own folder";
    std::filesystem::remove_all(far_->home() + "/far");
    std::filesystem::remove_all(root);
  }
}

TEST_F(SshE2eTest, AHostThatRebootsLosesItsCommandsAndSaysSo) {
  MustCreate("s");
  const auto incarnation = [this] {
    for (const std::string& line : SplitLines(Show("s")))
      if (line.find("incarnation") != std::string::npos) return line;
    return std::string();
  };
  const std::string before = incarnation();
  const std::string command = daemon_->StartCommand("s", "touch ~/up; sleep 1000");
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(far_->home() + "/up"); }));
  far_->KillProcesses();
  server_->Restart();
  const Ran ended = daemon_->Ctl({"wait", command});
  EXPECT_EQ(ended.status, kFailed) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("is not known"));
  ExpectWorks("s");
  EXPECT_NE(before, "");
  EXPECT_NE(incarnation(), before);
}

TEST_F(SshE2eTest, AnUnknownHostKeyIsRefusedWithWhatToDo) {
  Know("");
  for (const char* transport : {"openssh", "libssh2"}) {
    const Ran ran = CreateWith("s", {"--transport", transport});
    EXPECT_EQ(ran.status, kFailed);
    EXPECT_THAT(ran.err, HasSubstr("HOST_KEY_UNKNOWN"));
    EXPECT_THAT(ran.err, HasSubstr("add it to known_hosts"));
    EXPECT_THAT(ran.err, HasSubstr("accept-new"));
  }
  EXPECT_EQ(KnownHosts(), "");
  MustCreate("t", {"--host-key", "accept-new"});
  ExpectWorks("t");
  EXPECT_EQ(KnownHosts(), "") << "the user's file is only read";
}

TEST_F(SshE2eTest, AChangedHostKeyIsNeverOverridden) {
  MustCreate("before", {"--host-key", "accept-new"});
  MustCleanUp("before");
  server_->Restart(/*new_host_keys=*/true);
  for (const char* transport : {"openssh", "libssh2"}) {
    for (const char* policy : {"strict", "accept-new"}) {
      const Ran ran = CreateWith("s", {"--transport", transport, "--host-key", policy});
      EXPECT_EQ(ran.status, kFailed);
      EXPECT_THAT(ran.err, HasSubstr("HOST_KEY_CHANGED"));
      EXPECT_THAT(ran.err, HasSubstr(me_->home() + "/.ssh/known_hosts"));
    }
  }
}

TEST_F(SshE2eTest, WhatHermesdSetsItselfIsRefusedByName) {
  for (const char* option : {"ControlPath=/tmp/x", "controlmaster=auto", "BatchMode=no",
                             "StrictHostKeyChecking=no", "RequestTTY=yes", "ForwardAgent=yes"}) {
    const Ran ran = CreateWith("s", {"--ssh-option", option});
    EXPECT_EQ(ran.status, kFailed);
    EXPECT_THAT(ran.err, HasSubstr("BAD_FIELD"));
    const std::string text = option;
    EXPECT_THAT(ran.err, HasSubstr(text.substr(0, text.find('='))));
  }
  EXPECT_THAT(CreateWith("s", {"--ssh-option", "Nonsense=1"}).err, HasSubstr("BAD_FIELD"));
  EXPECT_THAT(CreateWith("s", {"--host-key", "sometimes"}).err, HasSubstr("BAD_FIELD"));
  EXPECT_THAT(CreateWith("s", {"--transport", "libssh2", "-F", me_->home() + "/c"}).err,
              HasSubstr("BAD_FIELD"));
}

TEST_F(SshE2eTest, AnotherConfigurationNamesTheHost) {
  me_->WriteHomeFile("config", "Host box\n  HostName " + server_->host() + "\n  Port " +
                                   std::to_string(server_->port()) + "\n  User " + far_->name() +
                                   "\n  IdentityFile " + key_.private_path + "\n");
  const Ran ran = Create("s", {"--host", "box", "-F", me_->home() + "/config"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  ExpectWorks("s");
  EXPECT_THAT(Show("s"), HasSubstr(far_->name() + "@" + server_->host() + ":" +
                                   std::to_string(server_->port())));
}

TEST_F(SshE2eTest, WhatCannotBeReachedIsToldByName) {
  const SshKey wrong = MakeKey("wrong");
  Words words = Whole();
  words.back() = wrong.private_path;
  Ran ran = Create("key", words);
  EXPECT_EQ(ran.status, kFailed);
  EXPECT_THAT(ran.err, HasSubstr("BACKEND_AUTH_FAILED"));
  EXPECT_THAT(ran.err, HasSubstr(wrong.private_path));
  words = Whole();
  words[3] = "nobody-of-this-name";
  ran = Create("user", words);
  EXPECT_EQ(ran.status, kFailed);
  EXPECT_THAT(ran.err, HasSubstr("BACKEND_AUTH_FAILED"));
  EXPECT_THAT(ran.err, HasSubstr("nobody-of-this-name"));
  words = Whole();
  words[1] = "nowhere.invalid";
  ran = Create("host", words);
  EXPECT_EQ(ran.status, kFailed);
  EXPECT_THAT(ran.err, HasSubstr("BACKEND_UNREACHABLE"));
  EXPECT_THAT(ran.err, HasSubstr("nowhere.invalid"));
}

// What a person reads there says what to do, and nothing of a session that there is not.
TEST_F(SshE2eTest, AnAccountThatRunsNothingIsToldWithWhatToDo) {
  server_.reset();
  OpenSshOptions options;
  options.logins = {{far_->name(), {key_.public_line}}};
  options.lines = {"ForceCommand echo backups only"};
  server_ = OpenSshServer::Start(options);
  Know(server_->KnownHosts());
  for (const char* engine : {"require", "auto", "never"}) {
    const Ran ran = CreateWith("s", {"--runner", engine});
    EXPECT_EQ(ran.status, kFailed);
    EXPECT_THAT(ran.err, HasSubstr("CAPABILITY_MISSING"));
    EXPECT_THAT(ran.err, HasSubstr("it said: backups only"));
    EXPECT_THAT(ran.err, HasSubstr("a login shell that runs commands (no nologin, no forced"));
    EXPECT_THAT(ran.err, testing::Not(HasSubstr("session's capabilities")));
  }
}

TEST_F(SshE2eTest, ASessionThatDoesNotOpenLeavesNothing) {
  for (const char* engine : {"require", "auto"}) {
    const Ran ran = CreateWith("s", {"--runner", engine, "--cwd", "/no/such/folder"});
    EXPECT_EQ(ran.status, kFailed) << engine;
    EXPECT_TRUE(Eventually([this] { return Left().empty(); })) << testing::PrintToString(Left());
  }
}

}  // namespace
}  // namespace hermes
