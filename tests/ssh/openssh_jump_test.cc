// Logins through jump hosts with a real ssh and real servers: whose known_hosts is written, which
// keys are believed, and who is named when it fails.

#include <filesystem>

#include "tests/ssh/openssh_stand.h"

namespace hermes {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// "jump" is one server, the target another; the account is the same.
class OpenSshJumpTest : public OpenSshStand {
 protected:
  void SetUp() override {
    OpenSshStand::SetUp();
    if (IsSkipped()) return;
    jump_ = ServeJump({});
    Serve();
    Trust(server_->KnownHosts() + jump_->KnownHosts());
  }
  void TearDown() override {
    OpenSshStand::TearDown();
    jump_.reset();
  }

  std::unique_ptr<OpenSshServer> ServeJump(std::vector<std::string> lines) {
    OpenSshOptions options;
    options.logins = {{account_->name(), {key_.public_line}}};
    options.host_key_types = {"ed25519", "ecdsa"};
    options.lines = std::move(lines);
    return OpenSshServer::Start(options);
  }

  // A block for `name`, which is `jump`; `lines` are part of it.
  std::string Block(const std::string& name, const OpenSshServer& jump,
                    const std::string& lines = "") const {
    return "Match originalhost " + name + "\n" + lines + "\n  HostName 127.0.0.1\n  Port " +
           std::to_string(jump.port()) + "\n  User " + account_->name() + "\n  IdentityFile " +
           key_.private_path + "\n";
  }
  // The target; `lines` are about "jump", through which it is reached.
  SshTarget Through(const std::string& lines = "") {
    return Target("UpdateHostKeys yes\n" + Block("jump", *jump_, lines) +
                  "Match originalhost 127.0.0.1\n  ProxyJump jump\nMatch all");
  }

  absl::Status Failure(const SshTarget& target) {
    absl::StatusOr<Connection> connection = Connect(target);
    EXPECT_EQ(RunTask(loop_, AwaitNoClients()), 0u);
    EXPECT_TRUE(std::filesystem::is_empty(sockets()));
    return connection.status();
  }
  // The failure has this reason, and its words.
  void Fails(const SshTarget& target, Reason reason,
             const testing::Matcher<const std::string&>& words) {
    const absl::Status failure = Failure(target);
    EXPECT_EQ(ReasonOf(failure), reason) << failure;
    EXPECT_THAT(std::string(failure.message()), words);
  }

  static std::string Place(const OpenSshServer& server) {
    return "127.0.0.1:" + std::to_string(server.port());
  }
  static std::string KnownAs(const OpenSshServer& server, const std::string& key) {
    return "[127.0.0.1]:" + std::to_string(server.port()) + " " + key + "\n";
  }
  static std::string Pin(const OpenSshServer& server) {
    const Ran ran = RunProgram(
        {.argv = {"ssh-keygen", "-lf", "-"}, .input = server.host_keys().front() + "\n"});
    const size_t at = ran.out.find("SHA256:");
    return ran.out.substr(at, ran.out.find(' ', at) - at);
  }

  std::unique_ptr<OpenSshServer> jump_;
};

TEST_F(OpenSshJumpTest, TheUsersKnownHostsAreOnlyReadUnderEveryPolicy) {
  const std::string lines = server_->KnownHosts() + KnownAs(*jump_, jump_->host_keys().front());
  Trust(lines);
  for (const std::string& policy :
       {std::string("strict"), std::string("accept-new"), Pin(*server_)}) {
    SshTarget target = Through();
    target.spec.host_key = policy;
    const Connection connection = MustConnect(target);
    EXPECT_EQ(Execute(connection, "echo through").out, "through\n");
    EXPECT_EQ(Clients().size(), 2u);
    EXPECT_EQ(ReadWholeFile(known_hosts()), lines) << policy;
    EXPECT_FALSE(std::filesystem::exists(target.learned_known_hosts));
  }
}

TEST_F(OpenSshJumpTest, AnUnknownKeyIsSaidOfTheHostThatShowsIt) {
  const auto is_of = [](const OpenSshServer& server) {
    return AllOf(HasSubstr("the key of "), HasSubstr(Place(server)),
                 HasSubstr(" is not in known_hosts"),
                 HasSubstr("ssh-keyscan -p " + std::to_string(server.port())));
  };
  Trust(server_->KnownHosts());
  SshTarget target = Through("StrictHostKeyChecking no\n");
  for (const std::string& policy : {std::string("strict"), Pin(*server_)}) {
    target.spec.host_key = policy;
    Fails(target, Reason::k_HOST_KEY_UNKNOWN,
          AllOf(is_of(*jump_), HasSubstr("jump host jump"), Not(HasSubstr("pin its"))));
  }
  EXPECT_EQ(ReadWholeFile(known_hosts()), server_->KnownHosts());

  Trust(jump_->KnownHosts());
  target.spec.host_key = "strict";
  Fails(target, Reason::k_HOST_KEY_UNKNOWN, AllOf(is_of(*server_), HasSubstr("on jump")));
}

TEST_F(OpenSshJumpTest, AcceptNewLearnsAJumpsKeyIntoItsOwnFileAndReadsTheJumps) {
  Trust("");
  SshTarget target = Through();
  target.spec.host_key = "accept-new";
  MustConnect(target).reset();
  EXPECT_EQ(ReadWholeFile(known_hosts()), "");
  const std::string learned = ReadWholeFile(target.learned_known_hosts);
  EXPECT_THAT(learned, AllOf(HasSubstr(":" + std::to_string(jump_->port()) + " "),
                             HasSubstr(":" + std::to_string(server_->port()) + " ")));

  // What the user has for the jump alone counts against what it shows.
  std::filesystem::remove(target.learned_known_hosts);
  const std::string own = dir_.path() + "/jump hosts";
  std::ofstream(own) << KnownAs(*jump_, key_.public_line);
  target = Through("  UserKnownHostsFile \"" + own + "\"\n");
  target.spec.host_key = "accept-new";
  Fails(target, Reason::k_HOST_KEY_CHANGED, HasSubstr(own + ":1"));
}

TEST_F(OpenSshJumpTest, WhatFailsAtTheJumpIsSaidOfTheJump) {
  const auto is_of_jump =
      AllOf(HasSubstr("the jump host jump (" + Place(*jump_) + ")"), Not(HasSubstr("MaxStartups")));
  Trust(server_->KnownHosts() + KnownAs(*jump_, key_.public_line));
  for (const char* policy : {"strict", "accept-new"}) {
    SshTarget target = Through();
    target.spec.host_key = policy;
    Fails(target, Reason::k_HOST_KEY_CHANGED,
          AllOf(is_of_jump, HasSubstr(known_hosts() + ":2"), Not(HasSubstr(Place(*server_)))));
  }
  Trust(server_->KnownHosts() + jump_->KnownHosts());
  Fails(Through("  User nobody\n"), Reason::k_BACKEND_AUTH_FAILED,
        AllOf(is_of_jump, HasSubstr("refuses to log in nobody"), Not(HasSubstr(key_.private_path)),
              HasSubstr("Host jump")));
  jump_->Stop();
  Fails(Through(), Reason::k_BACKEND_UNREACHABLE,
        AllOf(is_of_jump, HasSubstr("can't be reached"), HasSubstr("Connection refused")));
}

TEST_F(OpenSshJumpTest, WhatFailsBehindTheJumpIsSaidOfTheTarget) {
  SshTarget target = Through();
  target.spec.user = "nobody";
  Fails(target, Reason::k_BACKEND_AUTH_FAILED,
        HasSubstr("refuses to log in nobody@" + Place(*server_) + "; tried: the key "));
  server_->Stop();
  Fails(Through(), Reason::k_BACKEND_UNREACHABLE,
        AllOf(HasSubstr(Place(*server_) + " can't be reached from the jump host jump"),
              HasSubstr("Connection refused"), Not(HasSubstr("MaxStartups"))));
}

TEST_F(OpenSshJumpTest, AJumpThatForwardsNothingIsSaid) {
  const auto closed = ServeJump({"AllowTcpForwarding no"});
  Trust(server_->KnownHosts() + closed->KnownHosts());
  Fails(Target(Block("closed", *closed) +
               "Match originalhost 127.0.0.1\n  ProxyJump closed\nMatch all"),
        Reason::k_BACKEND_UNREACHABLE,
        AllOf(HasSubstr("can't be reached from the jump host closed"),
              HasSubstr("AllowTcpForwarding")));
}

// Whether they stand in one line, or a jump has a jump of its own.
TEST_F(OpenSshJumpTest, EveryOneOfManyJumpsIsUnderThePolicy) {
  const auto second = ServeJump({});
  const std::string one_line =
      "Match originalhost 127.0.0.1\n  ProxyJump jump,%r@second\nMatch all";
  const std::string own_jump =
      "Match originalhost second\n  ProxyJump jump\n"
      "Match originalhost 127.0.0.1\n  ProxyJump second\nMatch all";
  for (const std::string& lines : {one_line, own_jump}) {
    const SshTarget target = Target("UpdateHostKeys yes\nStrictHostKeyChecking no\n" +
                                    Block("jump", *jump_) + Block("second", *second) + lines);
    const std::string known = server_->KnownHosts() + KnownAs(*jump_, jump_->host_keys().front()) +
                              KnownAs(*second, second->host_keys().front());
    Trust(known);
    EXPECT_EQ(RunTask(loop_, transport_->Resolve(target))->first_hop, "jump:22");
    Connection connection = MustConnect(target);
    EXPECT_EQ(Execute(connection, "echo through").out, "through\n");
    EXPECT_EQ(Clients().size(), 3u);
    EXPECT_EQ(ReadWholeFile(known_hosts()), known);
    connection.reset();
    Trust(server_->KnownHosts() + jump_->KnownHosts());
    Fails(target, Reason::k_HOST_KEY_UNKNOWN,
          AllOf(HasSubstr("the key of the jump host second (" + Place(*second) + ")"),
                HasSubstr("on jump")));
  }
}

TEST_F(OpenSshJumpTest, TheGivenKeyIsForTheTargetOnlyWhereverTheConfigurationLies) {
  const SshKey other = SshKey::Make(dir_.path(), "other");
  SshTarget target = Through();
  const std::string folder = dir_.path() + "/it's a folder";
  std::filesystem::create_directory(folder);
  std::ofstream(folder + "/config") << "IdentityFile \"" << other.private_path << "\"\n"
                                    << ReadWholeFile(config());
  target.spec.config_file = folder + "/config";
  const Connection connection = MustConnect(target);
  EXPECT_EQ(Execute(connection, "echo through").out, "through\n");
}

TEST_F(OpenSshJumpTest, JumpsThatLeadBackAreRefused) {
  const SshTarget target = Target(
      "Match originalhost a\n  ProxyJump b\nMatch originalhost b\n  ProxyJump a\n"
      "Match originalhost 127.0.0.1\n  ProxyJump a\nMatch all");
  Fails(target, Reason::k_BAD_FIELD, HasSubstr("more than 8 jump hosts"));
}

}  // namespace
}  // namespace hermes
