// Logins through a real ssh: what works, and how each failure is named.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <sstream>
#include <thread>

#include "backends/ssh/ssh_host.h"
#include "daemon/runtime/fd.h"
#include "tests/hosts/delay_proxy.h"
#include "tests/ssh/openssh_stand.h"

namespace hermes {
namespace {

using testing::HasSubstr;

class OpenSshLoginTest : public OpenSshStand {
 protected:
  // The failure of a login; no ssh and no socket is left when it is told.
  absl::Status Failure(SshTarget target) {
    absl::StatusOr<Connection> connection = Connect(std::move(target));
    EXPECT_EQ(Clients().size(), 0u);
    EXPECT_TRUE(std::filesystem::is_empty(sockets()));
    return connection.status();
  }

  Task<void> Fail(SshTarget target, absl::Status* failure, WishPtr wish = nullptr) {
    *failure = (co_await transport_->Connect(std::move(target), std::move(wish), &tries_)).status();
  }

  static std::string Fingerprint(const std::string& public_line) {
    const Ran ran = RunProgram({.argv = {"ssh-keygen", "-lf", "-"}, .input = public_line});
    std::istringstream words(ran.out);
    std::string bits, fingerprint;
    words >> bits >> fingerprint;
    return fingerprint;
  }
};

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// A listening socket of this machine that says nothing.
Fd Listen(int* port) {
  Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(bind(fd.get(), generic, size), 0);
  EXPECT_EQ(getsockname(fd.get(), generic, &size), 0);
  EXPECT_EQ(listen(fd.get(), 8), 0);
  *port = ntohs(address.sin_port);
  return fd;
}

TEST_F(OpenSshLoginTest, ADestroyedConnectionLeavesNoProcessAndNoSocket) {
  Serve();
  Connection connection = MustConnect(Target());
  EXPECT_EQ(Clients().size(), 1u);
  EXPECT_FALSE(std::filesystem::is_empty(sockets()));
  struct stat info{};
  ASSERT_EQ(stat(sockets().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  connection.reset();
  EXPECT_TRUE(std::filesystem::is_empty(sockets()));
}

TEST_F(OpenSshLoginTest, ALoopThatEndsAtOnceLeavesNoProcessEither) {
  Serve();
  auto loop = std::make_unique<Loop>();
  SystemClock clock(*loop);
  auto transport = MakeOpenSshTransport(*loop, clock, random_, {.runtime_dir = sockets()});
  auto connection = RunTask(*loop, transport->Connect(Target(), nullptr, &tries_));
  ASSERT_TRUE(connection.ok()) << connection.status();
  auto stream = RunTask(*loop, (*connection)->Run("cat"));
  ASSERT_TRUE(stream.ok()) << stream.status();
  stream->reset();
  connection->reset();
  transport.reset();
  loop.reset();
  EXPECT_EQ(Clients().size(), 0u);
  EXPECT_TRUE(std::filesystem::is_empty(sockets()));
}

TEST_F(OpenSshLoginTest, ItGoesOnWhenTheAccountHasNoWatchLeft) {
  if (geteuid() == 0) GTEST_SKIP() << "root's are for all tests: ssh.user.watches runs it";
  Serve();
  std::vector<Fd> all;
  while (all.empty() || all.back().valid()) all.emplace_back(inotify_init1(IN_CLOEXEC));
  ASSERT_EQ(errno, EMFILE);
  const Connection connection = MustConnect(Target());
  EXPECT_EQ(RunTask(loop_, RunThere(loop_, connection.get(), "echo here")).out, "here\n");
}

TEST_F(OpenSshLoginTest, AWrongKeyIsRefusedByName) {
  Serve();
  SshTarget target = Target();
  target.spec.key_file = SshKey::Make(dir_.path(), "other").private_path;
  const absl::Status failure = Failure(target);
  EXPECT_EQ(ReasonOf(failure), Reason::k_BACKEND_AUTH_FAILED) << failure;
  EXPECT_THAT(Message(failure), HasSubstr(account_->name() + "@127.0.0.1"));
  EXPECT_THAT(Message(failure), HasSubstr(target.spec.key_file));
  EXPECT_THAT(Message(failure), HasSubstr("publickey"));
  EXPECT_EQ(tries_.refused, 1);
  EXPECT_EQ(tries_.left, 0);
}

TEST_F(OpenSshLoginTest, AKeyWithAPassphraseIsNotAskedFor) {
  Serve();
  SshTarget target = Target();
  target.spec.key_file =
      SshKey::Make(dir_.path(), "locked", "ed25519", "secret words").private_path;
  const absl::Status failure = Failure(target);
  EXPECT_EQ(ReasonOf(failure), Reason::k_BACKEND_AUTH_FAILED) << failure;
  EXPECT_THAT(Message(failure), HasSubstr("passphrase"));
}

TEST_F(OpenSshLoginTest, AMissingKeyFileIsNotReplacedByOtherKeys) {
  Serve();
  SshTarget target = Target();
  target.spec.key_file = dir_.path() + "/nothing";
  const absl::Status failure = Failure(target);
  EXPECT_EQ(ReasonOf(failure), Reason::k_BAD_FIELD) << failure;
  EXPECT_THAT(Message(failure), HasSubstr("/nothing"));
}

TEST_F(OpenSshLoginTest, ARefusedPortIsUnreachable) {
  Serve();
  server_->Stop();
  const absl::Status failure = Failure(Target());
  EXPECT_EQ(ReasonOf(failure), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_THAT(Message(failure), HasSubstr("Connection refused"));
  EXPECT_EQ(tries_.left + tries_.refused, 0);
}

TEST_F(OpenSshLoginTest, ANameThatDoesNotExistIsUnreachable) {
  Serve();
  SshTarget target = Target();
  target.spec.host = "nowhere.invalid";
  const absl::Status failure = Failure(target);
  EXPECT_EQ(ReasonOf(failure), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_THAT(Message(failure), HasSubstr("nowhere.invalid"));
}

TEST_F(OpenSshLoginTest, AServerThatHangsUpAtOnceIsUnreachableWithAHint) {
  Serve();
  DelayProxy proxy({.target_port = server_->port()});
  proxy.Refuse(true);
  const absl::Status failure = Failure(Target("", proxy.port()));
  EXPECT_EQ(ReasonOf(failure), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_THAT(Message(failure), HasSubstr("MaxStartups"));
  EXPECT_EQ(tries_.left + tries_.refused, 0);
}

// Itself, and as a jump host.
TEST_F(OpenSshLoginTest, AServerThatSaysNothingIsGivenUp) {
  Serve();
  int port = 0;
  Fd silent = Listen(&port);
  SshTarget itself =
      Target("Match originalhost quiet\n  HostName 127.0.0.1\n  Port " + std::to_string(port) +
                 "\nMatch originalhost localhost\n  ProxyJump quiet\nMatch all",
             port);
  SshTarget behind = itself;
  behind.spec.host = "localhost";
  const SteadyTime start = clock_.Now();
  std::vector<absl::Status> failures(2);
  TaskGroup both(loop_);
  both.Spawn("itself", Fail(itself, &failures[0]));
  both.Spawn("behind", Fail(behind, &failures[1]));
  RunTask(loop_, both.Join());
  EXPECT_LT(clock_.Now() - start, kLoginLimit);
  for (const absl::Status& failure : failures)
    EXPECT_EQ(ReasonOf(failure), Reason::k_BACKEND_UNREACHABLE) << failure;
  EXPECT_THAT(Message(failures[1]), HasSubstr("the jump host quiet (127.0.0.1:"));
  EXPECT_EQ(RunTask(loop_, AwaitNoClients()), 0u);
}

TEST_F(OpenSshLoginTest, BadOptionsAreNamed) {
  Serve();
  SshTarget target = Target();
  target.spec.options = {{"NoSuchThing", "1"}};
  absl::Status failure = Failure(target);
  EXPECT_EQ(ReasonOf(failure), Reason::k_BAD_FIELD) << failure;
  EXPECT_THAT(Message(failure), HasSubstr("nosuchthing"));

  target.spec.options = {{"RekeyLimit", "soon"}};
  EXPECT_EQ(ReasonOf(Failure(target)), Reason::k_BAD_FIELD);

  target.spec.options = {};
  target.spec.config_file = dir_.path() + "/absent";
  failure = Failure(target);
  EXPECT_EQ(ReasonOf(failure), Reason::k_BAD_FIELD) << failure;
  EXPECT_THAT(Message(failure), HasSubstr("/absent"));

  EXPECT_EQ(ReasonOf(Failure(Target("Nonsense yes"))), Reason::k_BAD_FIELD);
}

TEST_F(OpenSshLoginTest, HostAliasesSetEnvAndMatchOfTheConfigurationWork) {
  Serve({"AcceptEnv GREETING"});
  SshTarget target = Target("Match originalhost box exec \"true\"\n  HostName 127.0.0.1\n  Port " +
                            std::to_string(server_->port()) + "\n  User " + account_->name() +
                            "\n  SetEnv GREETING=hello\nMatch all");
  target.spec.host = "box";
  target.spec.user = "";
  target.spec.port = 0;
  auto resolved = RunTask(loop_, transport_->Resolve(target));
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->host, "127.0.0.1");
  EXPECT_EQ(resolved->user, account_->name());
  EXPECT_EQ(resolved->port, static_cast<uint32_t>(server_->port()));
  Connection connection = MustConnect(target);
  EXPECT_EQ(Execute(connection, "echo $GREETING").out, "hello\n");
}

TEST_F(OpenSshLoginTest, OurOptionsStandAboveTheConfiguration) {
  Serve();
  Connection connection = MustConnect(
      Target("StdinNull yes\nRequestTTY force\nSessionType default\nControlPersist yes\n"
             "LocalCommand touch " +
             dir_.path() +
             "/touched\nPermitLocalCommand yes\n"
             "ForkAfterAuthentication yes\nLogLevel DEBUG3\nRemoteCommand exit 1\n"
             "LocalForward 127.0.0.1:1 127.0.0.1:1\nExitOnForwardFailure yes"));
  const Finished done = Execute(connection, "tty; cat", "in\n");
  EXPECT_EQ(done.out, "not a tty\nin\n");
  EXPECT_FALSE(std::filesystem::exists(dir_.path() + "/touched"));
}

TEST_F(OpenSshLoginTest, AJumpHostWorks) {
  auto jump_account = TestAccount::Make();
  OpenSshOptions options;
  options.logins = {{jump_account->name(), {key_.public_line}}};
  auto jump = OpenSshServer::Start(options);
  Serve();
  Trust(server_->KnownHosts() + "\n" + jump->KnownHosts());
  SshTarget target = Target("Match originalhost jump\n  HostName 127.0.0.1\n  Port " +
                            std::to_string(jump->port()) + "\n  User " + jump_account->name() +
                            "\n  IdentityFile " + key_.private_path +
                            "\nMatch originalhost 127.0.0.1\n  ProxyJump jump\nMatch all");
  EXPECT_EQ(RunTask(loop_, transport_->Resolve(target))->first_hop, "jump:22");
  Connection connection = MustConnect(target);
  EXPECT_EQ(Execute(connection, "echo through").out, "through\n");
  EXPECT_EQ(Clients().size(), 2u);
  EXPECT_FALSE(jump->SessionPids().empty());
  connection.reset();
  EXPECT_EQ(RunTask(loop_, AwaitNoClients()), 0u);
  jump.reset();
}

TEST_F(OpenSshLoginTest, AnAgentsKeyWorks) {
  Serve();
  const std::string socket = dir_.path() + "/agent";
  const pid_t agent = Spawn({.argv = {"ssh-agent", "-D", "-a", socket}});
  for (int tries = 0; tries < 2000 && !std::filesystem::exists(socket); ++tries) {
    RunTask(loop_, clock_.SleepFor(std::chrono::milliseconds(10)));
  }
  setenv("SSH_AUTH_SOCK", socket.c_str(), 1);
  EXPECT_EQ(RunProgram({.argv = {"ssh-add", "-q", key_.private_path}}).status, 0);
  SshTarget target = Target("IdentityFile none");
  target.spec.key_file = "";
  absl::StatusOr<Connection> connection = Connect(target);
  unsetenv("SSH_AUTH_SOCK");
  KillChild(agent);
  ASSERT_TRUE(connection.ok()) << connection.status();
  EXPECT_EQ(Execute(*connection, "echo x").out, "x\n");
}

TEST_F(OpenSshLoginTest, ACertificateWorks) {
  const SshKey authority = SshKey::Make(dir_.path(), "authority");
  const SshKey signed_key = SshKey::Make(dir_.path(), "signed");
  std::ofstream(dir_.path() + "/authority.pub") << authority.public_line << "\n";
  std::filesystem::permissions(dir_.path(), std::filesystem::perms(0755));
  EXPECT_EQ(RunProgram({.argv = {"ssh-keygen", "-q", "-s", authority.private_path, "-I", "test",
                                 "-n", account_->name(), signed_key.private_path + ".pub"}})
                .status,
            0);
  Serve({"TrustedUserCAKeys " + dir_.path() + "/authority.pub"});
  SshTarget target = Target();
  target.spec.key_file = signed_key.private_path;
  Connection connection = MustConnect(target);
  EXPECT_EQ(Execute(connection, "echo x").out, "x\n");
}

TEST_F(OpenSshLoginTest, AHardwareKeyWorksOnceItIsTouched) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::string provider = program + "/security_key.so", hard = dir_.path() + "/hard";
  const std::string touch = dir_.path() + "/touch";
  ASSERT_EQ(mkfifo(touch.c_str(), 0600), 0);
  const Ran made = RunProgram({.argv = {"ssh-keygen", "-q", "-t", "ed25519-sk", "-w", provider,
                                        "-O", "application=ssh:" + touch, "-N", "", "-f", hard}});
  ASSERT_EQ(made.status, 0) << made.err;
  key_.public_line = ReadWholeFile(hard + ".pub");
  Serve();
  SshTarget target = Target("SecurityKeyProvider " + provider);
  target.spec.key_file = hard;
  // Opens only when the key waits for it.
  std::thread finger([&] { Fd(open(touch.c_str(), O_WRONLY | O_CLOEXEC)); });
  absl::StatusOr<Connection> connection = Connect(target);
  const Fd in_any_case(open(touch.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  finger.join();
  ASSERT_TRUE(connection.ok()) << connection.status();
  EXPECT_EQ(Execute(*connection, "echo x").out, "x\n");
}

TEST_F(OpenSshLoginTest, TheSharingKeyIsAboutWhatMatters) {
  Serve();
  const SshTarget target = Target();
  const auto key = [&](const SshTarget& of) {
    auto resolved = RunTask(loop_, transport_->Resolve(of));
    return resolved.ok() ? resolved->sharing_key : "failed";
  };
  const std::string first = key(target);
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(key(target), first);
  SshTarget other = target;
  other.spec.options = {{"Compression", "yes"}};
  EXPECT_NE(key(other), first);
  other = target;
  other.spec.user = "somebody";
  EXPECT_NE(key(other), first);
  other = target;
  other.spec.host_key = "accept-new";
  EXPECT_NE(key(other), first);
}

TEST_F(OpenSshLoginTest, AliasesOfOneAccountShareAConnection) {
  Serve();
  const SshTarget plain =
      Target("Host one two other\n  HostName 127.0.0.1\nHost other\n  HostKeyAlias x\nHost *\n");
  SshGates gates(loop_);
  SshHosts hosts({loop_, clock_, random_}, *transport_, gates);
  std::vector<std::shared_ptr<SshHosts::Use>> uses;
  for (const char* alias : {"one", "two", "other"}) {
    SshTarget target = plain;
    target.spec.host = alias;
    auto use = RunTask(loop_, hosts.For(target));
    ASSERT_TRUE(use.ok()) << use.status();
    uses.push_back(*use);
  }
  EXPECT_EQ((*uses[0])->resolved().sharing_key, (*uses[1])->resolved().sharing_key);
  EXPECT_NE((*uses[0])->resolved().sharing_key, (*uses[2])->resolved().sharing_key)
      << "its key is looked up by another name";
  for (int i : {0, 1}) {
    auto stream = RunTask(loop_, (*uses[i])->Open("echo x", Lane::kCommand, nullptr));
    ASSERT_TRUE(stream.ok()) << stream.status();
    EXPECT_EQ(RunTask(loop_, Finish(loop_, stream->get(), "")).out, "x\n");
  }
  EXPECT_EQ(Clients().size(), 1u);
}

TEST_F(OpenSshLoginTest, AMissingOrOldProgramIsSaid) {
  Serve();
  const std::string program = dir_.path() + "/old";
  const auto with = [&] {
    return MakeOpenSshTransport(loop_, clock_, random_,
                                {.ssh_program = program, .runtime_dir = sockets()});
  };
  auto missing = with();
  EXPECT_EQ(ReasonOf(missing->Available()), Reason::k_CAPABILITY_MISSING);
  std::ofstream(program) << "#!/bin/sh\necho 'OpenSSH_8.2p1 Ubuntu-4' >&2\n";
  std::filesystem::permissions(program, std::filesystem::perms(0755));
  auto old = with();
  EXPECT_EQ(old->Available(), absl::OkStatus());  // nobody has asked it yet
  auto connection = RunTask(loop_, old->Connect(Target(), nullptr, &tries_));
  EXPECT_EQ(ReasonOf(connection.status()), Reason::k_CAPABILITY_MISSING) << connection.status();
  EXPECT_THAT(Message(old->Available()), HasSubstr("OpenSSH_8.2p1"));
}

// "This key only": what sshd was offered tells.
TEST_F(OpenSshLoginTest, TheGivenKeyIsTheOnlyOneOffered) {
  const SshKey other = SshKey::Make(dir_.path(), "other");
  const SshKey third = SshKey::Make(dir_.path(), "third");
  const std::string keys = "IdentityFile " + other.private_path + "\nIdentityFile " +
                           third.private_path + "\nSetEnv \"A=b c\" D=e\n";
  OpenSshOptions options;
  options.logins = {{account_->name(), {key_.public_line, third.public_line}}};
  options.lines = {"LogLevel DEBUG1", "AcceptEnv A D"};
  server_ = OpenSshServer::Start(options);
  Trust(server_->KnownHosts());
  const auto offered = [&] {
    int count = 0;
    for (const std::string& line : SplitLines(server_->Log())) {
      if (line.find("userauth_pubkey: publickey test") != std::string::npos ||
          line.find("userauth_pubkey: valid user") != std::string::npos) {
        ++count;
      }
    }
    return count;
  };
  SshTarget target = Target(keys);
  const Finished said = Execute(MustConnect(target), "echo $A,$D");
  EXPECT_EQ(said.out, "b c,e\n") << "the rest of the configuration counts";
  EXPECT_EQ(server_->Log().find(Fingerprint(other.public_line)), std::string::npos)
      << server_->Log();
  // One that is refused is not followed by one that would be taken.
  const int before = offered();
  target.spec.key_file = other.private_path;
  EXPECT_EQ(ReasonOf(Connect(target).status()), Reason::k_BACKEND_AUTH_FAILED);
  EXPECT_GT(offered(), before) << server_->Log();
  EXPECT_EQ(server_->Log().find(Fingerprint(third.public_line)), std::string::npos)
      << server_->Log();
}

// Host keys.

TEST_F(OpenSshLoginTest, AnUnknownKeyIsRefused) {
  Serve();
  Trust("");
  const absl::Status failure = Failure(Target());
  EXPECT_EQ(ReasonOf(failure), Reason::k_HOST_KEY_UNKNOWN) << failure;
  EXPECT_THAT(Message(failure), HasSubstr("ssh-keyscan"));
  EXPECT_EQ(tries_.left, 1);
  EXPECT_EQ(tries_.refused, 0);
}

TEST_F(OpenSshLoginTest, AChangedKeyIsRefusedUnderEveryPolicyAndNamesTheLine) {
  Serve();
  server_->Restart(/*new_host_keys=*/true);
  for (const char* policy : {"strict", "accept-new"}) {
    SshTarget target = Target();
    target.spec.host_key = policy;
    const absl::Status failure = Failure(target);
    EXPECT_EQ(ReasonOf(failure), Reason::k_HOST_KEY_CHANGED) << failure;
    EXPECT_THAT(Message(failure), HasSubstr(known_hosts() + ":1"));
    EXPECT_THAT(Message(failure),
                HasSubstr("shows " + Fingerprint(server_->host_keys().front()) + ";"));
  }
}

TEST_F(OpenSshLoginTest, AcceptNewLearnsIntoItsOwnFileOnly) {
  Serve();
  Trust("# the user's own\n");
  struct stat before{}, after{};
  stat(known_hosts().c_str(), &before);
  SshTarget target = Target();
  target.spec.host_key = "accept-new";
  MustConnect(target).reset();
  stat(known_hosts().c_str(), &after);
  EXPECT_EQ(ReadWholeFile(known_hosts()), "# the user's own\n");
  EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
  EXPECT_EQ(before.st_ino, after.st_ino);
  const std::string learned = ReadWholeFile(target.learned_known_hosts);
  EXPECT_THAT(learned, HasSubstr("[127.0.0.1]:" + std::to_string(server_->port())));

  MustConnect(target).reset();  // now it is known
  EXPECT_EQ(ReadWholeFile(target.learned_known_hosts), learned);
  server_->Restart(/*new_host_keys=*/true);
  const absl::Status failure = Failure(target);
  EXPECT_EQ(ReasonOf(failure), Reason::k_HOST_KEY_CHANGED) << failure;
  EXPECT_THAT(Message(failure), HasSubstr(target.learned_known_hosts + ":1"));
  EXPECT_EQ(ReadWholeFile(target.learned_known_hosts), learned);
}

TEST_F(OpenSshLoginTest, AcceptNewReadsTheUsersFiles) {
  Serve();
  SshTarget target = Target();
  target.spec.host_key = "accept-new";
  MustConnect(target).reset();
  EXPECT_FALSE(std::filesystem::exists(target.learned_known_hosts));
}

// ssh shows the list without its quotes.
TEST_F(OpenSshLoginTest, AcceptNewReadsFilesWhosePathHasBlanks) {
  Serve();
  const std::string folder = dir_.path() + "/with a blank";
  std::filesystem::create_directory(folder);
  std::ofstream(folder + "/known") << server_->KnownHosts();
  SshTarget target = Target("UserKnownHostsFile \"" + folder + "/none\" \"" + folder + "/known\"");
  target.spec.host_key = "accept-new";
  MustConnect(target).reset();
  EXPECT_FALSE(std::filesystem::exists(target.learned_known_hosts));
  server_->Restart(/*new_host_keys=*/true);
  const absl::Status failure = Failure(target);
  EXPECT_EQ(ReasonOf(failure), Reason::k_HOST_KEY_CHANGED) << failure;
}

TEST_F(OpenSshLoginTest, AKeyIsCheckedOnThisMachineTooWhateverTheConfigurationSays) {
  Serve();
  server_->Restart(/*new_host_keys=*/true);
  for (const std::string& policy : {std::string("strict"), Fingerprint(key_.public_line)}) {
    SshTarget target = Target("NoHostAuthenticationForLocalhost yes");
    target.spec.host_key = policy;
    EXPECT_EQ(ReasonOf(Failure(target)), Reason::k_HOST_KEY_CHANGED) << policy;
  }
}

TEST_F(OpenSshLoginTest, APinnedKeyIsTheOnlyOne) {
  Serve();
  const std::string pin = Fingerprint(server_->host_keys().front());
  Trust("");
  SshTarget target = Target();
  target.spec.host_key = pin;
  MustConnect(target).reset();
  EXPECT_EQ(ReadWholeFile(known_hosts()), "");

  target.spec.host_key = Fingerprint(key_.public_line);  // another
  Trust(server_->KnownHosts());                          // known or not does not matter
  const absl::Status failure = Failure(target);
  EXPECT_EQ(ReasonOf(failure), Reason::k_HOST_KEY_CHANGED) << failure;
  EXPECT_THAT(Message(failure), HasSubstr(pin));
  EXPECT_THAT(Message(failure), HasSubstr(target.spec.host_key));
}

TEST_F(OpenSshLoginTest, APinnedKeyOfAnyTypeIsFound) {
  OpenSshOptions options;
  options.host_key_types = {"ed25519", "ecdsa", "rsa"};
  Serve({}, options);
  for (const std::string& line : server_->host_keys()) {
    SshTarget target = Target();
    target.spec.host_key = Fingerprint(line);
    absl::StatusOr<Connection> connection = Connect(target);
    EXPECT_TRUE(connection.ok()) << line << connection.status();
  }
  EXPECT_EQ(tries_.left, 0 + 1 + 2) << "the keys that were shown before the pinned one";
  EXPECT_EQ(tries_.refused, 0);
}

// What a daemon that was killed leaves.

TEST_F(OpenSshLoginTest, AKilledDaemonTakesItsClientsAlong) {
  Serve();
  const SshTarget target = Target();
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t daemon = fork();
  if (daemon == 0) {
    Loop loop;
    SystemClock clock{loop};
    auto transport = MakeOpenSshTransport(loop, clock, random_, {.runtime_dir = sockets()});
    auto connection = RunTask(loop, transport->Connect(target, nullptr, &tries_));
    const pid_t client = connection.ok() ? Clients().front().pid : 0;
    if (write(ready[1], &client, sizeof(client)) < 0) _exit(1);
    pause();
    _exit(0);
  }
  pid_t client = 0;
  ASSERT_EQ(read(ready[0], &client, sizeof(client)), static_cast<ssize_t>(sizeof(client)));
  ASSERT_GT(client, 0);
  ProcessFacts facts;
  ASSERT_TRUE(ReadProcess(client, &facts));
  kill(daemon, SIGKILL);
  waitpid(daemon, nullptr, 0);
  const unsigned long long started = facts.started;
  const auto runs = [&] {
    return ReadProcess(client, &facts) && facts.started == started && facts.state != 'Z';
  };
  for (int tries = 0; tries < 2000 && runs(); ++tries) {
    RunTask(loop_, clock_.SleepFor(std::chrono::milliseconds(10)));
  }
  EXPECT_FALSE(runs());
  close(ready[0]);
  close(ready[1]);
}

TEST_F(OpenSshLoginTest, LeftoversAreEndedAtTheFirstUse) {
  Serve();
  const SshTarget target = Target();
  mkdir(sockets().c_str(), 0700);
  std::ofstream(sockets() + "/unrelated") << "x";
  const std::string socket = sockets() + "/0123456789ab";
  const pid_t leftover =
      Spawn({.argv = {"ssh", "-MN", "-S", socket, "-F", config(), "-l", account_->name(), "-p",
                      std::to_string(server_->port()), "-i", key_.private_path, "127.0.0.1"}});
  for (int tries = 0; tries < 2000 && !std::filesystem::exists(socket); ++tries) {
    RunTask(loop_, clock_.SleepFor(std::chrono::milliseconds(10)));
  }
  ASSERT_TRUE(std::filesystem::exists(socket));
  Connection connection = MustConnect(target);
  int status = 0;
  EXPECT_EQ(waitpid(leftover, &status, 0), leftover);  // the test's own limit bounds this
  EXPECT_FALSE(std::filesystem::exists(socket));
  EXPECT_TRUE(connection->alive());
  EXPECT_TRUE(std::filesystem::exists(sockets() + "/unrelated"));
}

TEST_F(OpenSshLoginTest, AFolderOfSomebodyElseIsRefused) {
  Serve();
  mkdir(sockets().c_str(), 0755);
  ASSERT_EQ(chown(sockets().c_str(), account_->uid(), account_->gid()), 0);
  const absl::Status failure = Failure(Target());
  EXPECT_EQ(ReasonOf(failure), Reason::k_CAPABILITY_MISSING) << failure;
  ASSERT_EQ(chown(sockets().c_str(), 0, 0), 0);
  MustConnect(Target()).reset();  // ours: made private
  struct stat info{};
  stat(sockets().c_str(), &info);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

}  // namespace
}  // namespace hermes
