// Logins by libssh2: keys, agents, and hosts that are slow, broken or no SSH servers.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#if __has_feature(address_sanitizer)
#include <sanitizer/lsan_interface.h>
#endif

#include "daemon/runtime/fd.h"
#include "tests/ssh/libssh2_fixture.h"

namespace hermes {
namespace {

// Takes connections on a port of its own and has `serve` do what it likes with each, one by one.
class RawServer {
 public:
  explicit RawServer(std::function<void(int)> serve)
      : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, serve = std::move(serve)] {
      for (;;) {
        Fd one(::accept(listener_.get(), nullptr, nullptr));
        if (!one.valid()) return;
        serve(one.get());
      }
    });
  }
  ~RawServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  int port() const { return port_; }

 private:
  Fd listener_;
  int port_ = 0;
  std::thread thread_;
};

// Until the other end closes.
void ReadUntilEnd(int fd) {
  char bytes[4096];
  while (::recv(fd, bytes, sizeof(bytes), 0) > 0) {
  }
}

class Libssh2LoginTest : public Libssh2Test {
 protected:
  // What a login at `port` of a server that is none comes to.
  absl::Status LoginAt(int port) {
    SshTarget target;
    target.spec.host = "127.0.0.1";
    target.spec.port = static_cast<uint32_t>(port);
    target.spec.user = "nobody";
    return ConnectError(target);
  }

  // An agent of our own with `keys`; empty when there is none here.
  std::string StartAgent(const std::vector<SshKey>& keys) {
    const std::string path = dir_.path() + "/agent";
    agent_ = Spawn({.argv = {"ssh-agent", "-D", "-a", path}, .log = dir_.path() + "/agent.log"});
    EXPECT_TRUE(Until([&path] { return ::access(path.c_str(), F_OK) == 0; }));
    ::setenv("SSH_AUTH_SOCK", path.c_str(), 1);
    for (const SshKey& key : keys) {
      EXPECT_EQ(RunProgram({.argv = {"ssh-add", key.private_path}}).status, 0);
    }
    return path;
  }
  void TearDown() override {
    if (agent_ > 0) KillChild(agent_);
    ::unsetenv("SSH_AUTH_SOCK");
  }

  void Authorize(const SshKey& key) {
    OpenSshOptions options = Serving();
    options.logins = {{account_->name(), {key.public_line}}};
    Start(options);
  }

  pid_t agent_ = 0;
};

TEST_F(Libssh2LoginTest, ResolvesNamesAndDigestsWhatMatters) {
  Start();
  SshTarget target = Target();
  auto resolved = RunTask(loop_, transport_->Resolve(target));
  ASSERT_TRUE(resolved.ok());
  EXPECT_EQ(resolved->host, "127.0.0.1");
  EXPECT_EQ(resolved->user, account_->name());
  EXPECT_EQ(resolved->sharing_key.size(), 64U);
  EXPECT_EQ(RunTask(loop_, transport_->Resolve(target))->sharing_key, resolved->sharing_key);
  target.spec.key_file = "~/else";
  EXPECT_NE(RunTask(loop_, transport_->Resolve(target))->sharing_key, resolved->sharing_key);
  target.spec.user = "";
  target.spec.port = 0;
  resolved = RunTask(loop_, transport_->Resolve(target));
  EXPECT_EQ(resolved->port, 22U);
  EXPECT_FALSE(resolved->user.empty());
  target.spec.config_file = "/etc/ssh/ssh_config";
  EXPECT_EQ(ReasonOf(RunTask(loop_, transport_->Resolve(target)).status()), Reason::k_BAD_FIELD);
}

TEST_F(Libssh2LoginTest, TakesAnEd25519KeyFile) {
  Start();
  EXPECT_NE(MustConnect(Target()), nullptr);
}

// libssh2 1.10 itself loses 56 bytes each time it reads such a file.
TEST_F(Libssh2LoginTest, TakesAnEcdsaKeyFile) {
#if __has_feature(address_sanitizer)
  __lsan::ScopedDisabler not_ours;
#endif
  SshKey ecdsa = SshKey::Make(dir_.path(), "ecdsa", "ecdsa");
  Authorize(ecdsa);
  SshTarget target = Target();
  target.spec.key_file = ecdsa.private_path;
  EXPECT_NE(MustConnect(target), nullptr);
}

TEST_F(Libssh2LoginTest, UsesTheUsualFilesWhenNoneIsGiven) {
  Start();
  std::filesystem::copy(key_.private_path, dir_.path() + "/.ssh/id_ed25519");
  SshTarget target = Target();
  target.spec.key_file = "";
  EXPECT_NE(MustConnect(target), nullptr);
  target.spec.key_file = "~/.ssh/id_ed25519";
  EXPECT_NE(MustConnect(target), nullptr);
}

TEST_F(Libssh2LoginTest, SaysWhyAKeyFileCannotBeUsed) {
  Start();
  SshKey locked = SshKey::Make(dir_.path(), "locked", "ed25519", "secret words");
  SshKey wrong = SshKey::Make(dir_.path(), "wrong");
  SshKey open = SshKey::Make(dir_.path(), "open");
  ::chmod(open.private_path.c_str(), 0644);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {locked.private_path, "passphrase"},      {wrong.private_path, "does not let"},
      {open.private_path, "chmod 600"},         {key_.private_path + ".pub", "public key"},
      {dir_.path() + "/absent", "no key file"}, {dir_.path(), "not a file"}};
  SshTarget target = Target();
  ::chmod((key_.private_path + ".pub").c_str(), 0600);
  for (const auto& [path, words] : cases) {
    target.spec.key_file = path;
    absl::Status status = ConnectError(target);
    EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_AUTH_FAILED) << path << status;
    EXPECT_NE(status.message().find(words), std::string::npos) << status;
  }
}

TEST_F(Libssh2LoginTest, AnRsaKeyFailsWithTheReasonAndTheWaysOut) {
  SshKey rsa = SshKey::Make(dir_.path(), "rsa", "rsa");
  Authorize(rsa);
  SshTarget target = Target();
  target.spec.key_file = rsa.private_path;
  auto connection = Connect(target);
  if (connection.ok()) GTEST_SKIP() << "this libssh2 signs RSA by SHA-2";
  EXPECT_EQ(ReasonOf(connection.status()), Reason::k_BACKEND_AUTH_FAILED);
  for (const char* words : {"SHA-1", "ed25519", "openssh transport"})
    EXPECT_NE(connection.status().message().find(words), std::string::npos) << connection.status();
}

TEST_F(Libssh2LoginTest, AsksTheAgent) {
  SshKey ecdsa = SshKey::Make(dir_.path(), "ecdsa", "ecdsa");
  for (const SshKey& key : {key_, ecdsa}) {
    Authorize(key);
    StartAgent({key});
    SshTarget target = Target();
    target.spec.key_file = "";
    EXPECT_NE(MustConnect(target), nullptr);
    KillChild(agent_);
    std::filesystem::remove(dir_.path() + "/agent");
  }
  agent_ = 0;
}

// Six failures would end the connection, and count against our address.
TEST_F(Libssh2LoginTest, OffersAtMostFiveKeys) {
  Start();
  std::vector<SshKey> keys;
  for (int i = 0; i < 7; ++i) keys.push_back(SshKey::Make(dir_.path(), "k" + std::to_string(i)));
  StartAgent(keys);
  SshTarget target = Target();
  target.spec.key_file = "";
  absl::Status status = ConnectError(target);
  EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_AUTH_FAILED);
  EXPECT_NE(status.message().find("more than 5"), std::string::npos) << status;
  const std::string log = server_->Log();
  size_t failed = 0;
  for (size_t at = log.find("Failed publickey"); at != std::string::npos;
       at = log.find("Failed publickey", at + 1))
    ++failed;
  EXPECT_LE(failed, 5U) << log;
  EXPECT_EQ(log.find("Too many authentication failures"), std::string::npos) << log;
}

// Passwords and questions are for people: a host that would ask is told nothing.
TEST_F(Libssh2LoginTest, NothingButKeysIsEverOffered) {
  OpenSshOptions options = Serving();
  options.lines = {"KbdInteractiveAuthentication yes", "PasswordAuthentication yes",
                   "LogLevel DEBUG1"};
  options.use_pam = true;
  Start(options);
  SshTarget target = Target();
  target.spec.key_file = SshKey::Make(dir_.path(), "wrong").private_path;
  EXPECT_EQ(ReasonOf(ConnectError(target)), Reason::k_BACKEND_AUTH_FAILED);
  int asked = 0;
  for (const std::string& line : SplitLines(server_->Log())) {
    const size_t at = line.find("userauth-request for user");
    if (at == std::string::npos) continue;
    ++asked;
    const std::string method = line.substr(line.rfind("method "));
    EXPECT_TRUE(method.starts_with("method none") || method.starts_with("method publickey"))
        << line;
  }
  EXPECT_GT(asked, 0) << server_->Log();
}

TEST_F(Libssh2LoginTest, AnAgentThatHangsHoldsUpNothingButItsLogin) {
  Start();
  std::filesystem::copy(key_.private_path, dir_.path() + "/.ssh/id_ed25519");
  const std::string path = dir_.path() + "/agent";
  Fd listener(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  ::setenv("SSH_AUTH_SOCK", path.c_str(), 1);
  RunClockFast(3);
  loop_.TakeMaxLag();
  SshTarget target = Target();
  target.spec.key_file = "";
  EXPECT_NE(MustConnect(target), nullptr);  // by the file
  EXPECT_LT(loop_.TakeMaxLag(), std::chrono::milliseconds(900));
  std::filesystem::remove(dir_.path() + "/.ssh/id_ed25519");
  absl::Status status = ConnectError(target);
  EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_AUTH_FAILED);
  EXPECT_NE(status.message().find("has not answered in time"), std::string::npos) << status;
}

TEST_F(Libssh2LoginTest, APortThatNobodyServesIsUnreachable) {
  int port = 0;
  {
    port = RawServer([](int) {}).port();
  }
  absl::Status status = LoginAt(port);
  EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_NE(status.message().find("refused"), std::string::npos) << status;
  EXPECT_EQ(tries_.left + tries_.refused, 0);
}

TEST_F(Libssh2LoginTest, ANameThatIsNoneIsUnreachable) {
  SshTarget target;
  target.spec.host = "no.such.host.invalid";
  EXPECT_EQ(ReasonOf(ConnectError(target)), Reason::k_BACKEND_UNREACHABLE);
}

TEST_F(Libssh2LoginTest, AServerThatClosesAtOnceIsUnreachable) {
  RawServer server([](int) {});
  absl::Status status = LoginAt(server.port());
  EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE) << status;
}

TEST_F(Libssh2LoginTest, AFrozenServerIsGivenUp) {
  RunClockFast(20);
  RawServer silent(&ReadUntilEnd);
  absl::Status status = LoginAt(silent.port());
  EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_NE(status.message().find("no SSH server answers"), std::string::npos) << status;
  EXPECT_EQ(tries_.left, 0);
  RawServer stuck([](int fd) {
    ::send(fd, "SSH-2.0-stuck\r\n", 15, MSG_NOSIGNAL);
    ReadUntilEnd(fd);
  });
  status = LoginAt(stuck.port());
  EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_NE(status.message().find("30 s"), std::string::npos) << status;
  EXPECT_EQ(tries_.left, 1);
  EXPECT_EQ(tries_.refused, 0);
}

// Endless lines instead of a banner, endless bytes behind one, a web server.
TEST_F(Libssh2LoginTest, GarbageEndsTyped) {
  for (const std::string& text :
       {std::string("welcome\n"), std::string("\n"), std::string(4096, 'x'),
        "SSH-2.0-x\r\n" + std::string(4096, '\xff'), std::string("HTTP/1.1 400 Bad\r\n\r\n")}) {
    RawServer server([&text](int fd) {
      for (int i = 0; i < 20000; ++i)
        if (::send(fd, text.data(), text.size(), MSG_NOSIGNAL) < 0) return;
      ReadUntilEnd(fd);
    });
    RunClockFast(20);
    absl::Status status = LoginAt(server.port());
    EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE) << text.substr(0, 20) << status;
  }
}

// The first bytes of a connection are the same each time, so every length is a different moment of
// the login; later ones fall into a stream.
TEST_F(Libssh2LoginTest, ACutAnywhereIsTypedAndNeverHangs) {
  Start();
  DelayProxy proxy({.target_port = server_->port()});
  Know(server_->KnownHosts(proxy.port()));
  const uint64_t rounds = std::getenv("HERMES_DEEP") ? 300 : 100;
  for (uint64_t round = 0; round < rounds; ++round) {
    proxy.CutAfter(1 + round * 61);
    auto connection = Connect(Target(proxy.port()));
    absl::Status status = connection.status();
    if (connection.ok()) {
      Ended ended = Execute(**connection, "head -c 1000000 /dev/zero");
      status = ended.status;
      EXPECT_EQ(status.ok(), ended.out.size() == 1000000);
      EXPECT_FALSE(!status.ok() && ended.end.has_value());
    }
    EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE) << round << status;
    proxy.CutAfter(1, 0);
  }
  EXPECT_GT(tries_.left, 0);
  EXPECT_GT(tries_.refused, 0);
}

}  // namespace
}  // namespace hermes
