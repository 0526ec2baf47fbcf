// Whom libssh2 logins believe: every policy against a real sshd that shows a real key.

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "backends/ssh/libssh2_host_key.h"
#include "backends/ssh/libssh2_wire.h"
#include "tests/fakes/eventually.h"
#include "tests/ssh/libssh2_fixture.h"

namespace hermes {
namespace {

class Libssh2HostKeyTest : public Libssh2Test {
 protected:
  // "SHA256:..." of a public line as ssh-keygen says it.
  std::string FingerprintOf(const std::string& public_line) {
    const std::string path = dir_.path() + "/shown.pub";
    std::ofstream(path) << public_line << "\n";
    const std::string text = RunProgram({.argv = {"ssh-keygen", "-lf", path}}).out;
    const size_t at = text.find("SHA256:");
    return at == std::string::npos ? "none" : text.substr(at, text.find(' ', at) - at);
  }
  std::string OtherKey(const std::string& type) {
    return SshKey::Make(dir_.path(), "other" + std::to_string(++others_), type).public_line;
  }
  std::string Name() const { return "[127.0.0.1]:" + std::to_string(server_->port()) + " "; }
  std::string Learned() const { return ReadWholeFile(dir_.path() + "/learned"); }

  int others_ = 0;
};

TEST_F(Libssh2HostKeyTest, RefusesAnUnknownKeyAndSaysHowToVerifyIt) {
  Start();
  Know("");
  absl::Status status = ConnectError(Target());
  EXPECT_EQ(ReasonOf(status), Reason::k_HOST_KEY_UNKNOWN) << status;
  const std::string text(status.message());
  EXPECT_NE(text.find(FingerprintOf(server_->host_keys()[0])), std::string::npos) << text;
  EXPECT_NE(text.find("ssh-ed25519"), std::string::npos);
  EXPECT_NE(text.find("ssh-keyscan -p " + std::to_string(server_->port())), std::string::npos);
  EXPECT_EQ(tries_.left, 1);
  EXPECT_EQ(tries_.refused, 0);
}

TEST_F(Libssh2HostKeyTest, RefusesAChangedKeyAndNamesTheLineAndBothFingerprints) {
  Start();
  const std::string other = OtherKey("ed25519");
  Know("# one\n" + Name() + other + "\n");
  absl::Status status = ConnectError(Target());
  EXPECT_EQ(ReasonOf(status), Reason::k_HOST_KEY_CHANGED) << status;
  const std::string text(status.message());
  EXPECT_NE(text.find(dir_.path() + "/.ssh/known_hosts:2"), std::string::npos) << text;
  EXPECT_NE(text.find(FingerprintOf(server_->host_keys()[0])), std::string::npos) << text;
  EXPECT_NE(text.find(FingerprintOf(other)), std::string::npos) << text;
}

TEST_F(Libssh2HostKeyTest, RefusesARevokedKey) {
  Start();
  Know(server_->KnownHosts() + "@revoked * " + server_->host_keys()[0] + "\n");
  absl::Status status = ConnectError(Target());
  EXPECT_EQ(ReasonOf(status), Reason::k_HOST_KEY_CHANGED);
  EXPECT_NE(status.message().find("revoked"), std::string::npos) << status;
}

// Asked in its own order, the library would be shown the ECDSA key.
TEST_F(Libssh2HostKeyTest, AsksForTheTypeThatIsKnown) {
  OpenSshOptions options = Serving();
  options.host_key_types = {"rsa", "ecdsa", "ed25519"};
  Start(options);
  for (const std::string& line : server_->host_keys()) {
    if (line.starts_with("ssh-rsa")) continue;
    Know(Name() + line + "\n");
    EXPECT_NE(MustConnect(Target()), nullptr) << line;
  }
}

TEST_F(Libssh2HostKeyTest, AKnownKeyOfAnotherTypeIsNoReasonToTrust) {
  Start();
  Know(Name() + OtherKey("ecdsa") + "\n");
  SshTarget target = Target();
  for (const char* policy : {"strict", "accept-new"}) {
    target.spec.host_key = policy;
    EXPECT_EQ(ReasonOf(ConnectError(target)), Reason::k_HOST_KEY_UNKNOWN) << policy;
  }
}

TEST_F(Libssh2HostKeyTest, AcceptNewLearnsOnceIntoItsOwnFileOnly) {
  Start();
  Know("");
  SshTarget target = Target();
  target.spec.host_key = "accept-new";
  EXPECT_NE(MustConnect(target), nullptr);
  EXPECT_NE(MustConnect(target), nullptr);
  EXPECT_EQ(
      Learned(),
      Name() + server_->host_keys()[0].substr(0, server_->host_keys()[0].find(' ', 12)) + "\n");
  struct stat facts{};
  ASSERT_EQ(::stat((dir_.path() + "/learned").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600U);
  EXPECT_EQ(ReadWholeFile(dir_.path() + "/.ssh/known_hosts"), "");
  target.spec.host_key = "strict";
  EXPECT_EQ(ReasonOf(ConnectError(target)), Reason::k_HOST_KEY_UNKNOWN);
}

TEST_F(Libssh2HostKeyTest, AcceptNewNeverOverridesWhatIsKnown) {
  Start();
  SshTarget target = Target();
  target.spec.host_key = "accept-new";
  Know(Name() + OtherKey("ed25519") + "\n");
  EXPECT_EQ(ReasonOf(ConnectError(target)), Reason::k_HOST_KEY_CHANGED);
  EXPECT_EQ(Learned(), "");
  Know("");
  std::ofstream(target.learned_known_hosts) << Name() << OtherKey("ed25519") << "\n";
  EXPECT_EQ(ReasonOf(ConnectError(target)), Reason::k_HOST_KEY_CHANGED);
}

TEST_F(Libssh2HostKeyTest, AcceptNewWithoutAFileToWriteFails) {
  Start();
  Know("");
  SshTarget target = Target();
  target.spec.host_key = "accept-new";
  target.learned_known_hosts = dir_.path() + "/absent/learned";
  EXPECT_EQ(ReasonOf(ConnectError(target)), Reason::k_HOST_KEY_UNKNOWN);
}

TEST_F(Libssh2HostKeyTest, LearningTwiceAtOnceKeepsTheFirst) {
  SshTarget target;
  target.spec.host_key = "accept-new";
  target.learned_known_hosts = dir_.path() + "/learned";
  std::string one, two;
  PutString(one, "ssh-ed25519");
  PutString(one, "1");
  PutString(two, "ssh-ed25519");
  PutString(two, "2");
  std::ofstream(target.learned_known_hosts) << "half a li";
  EXPECT_TRUE(LearnHostKey(target, {"h", 22}, one).ok());
  EXPECT_TRUE(LearnHostKey(target, {"h", 22}, one).ok());
  EXPECT_EQ(ReasonOf(LearnHostKey(target, {"h", 22}, two)), Reason::k_HOST_KEY_CHANGED);
  EXPECT_EQ(SplitLines(Learned()).size(), 2U) << Learned();
  auto known = ReadKnownHosts(target, {"h", 22}, "");
  ASSERT_TRUE(known.ok());
  EXPECT_EQ(JudgeHostKey(*known, one).verdict, HostKeyVerdict::kKnown);
}

TEST_F(Libssh2HostKeyTest, APinnedKeyIsComparedAndShown) {
  Start();
  Know("");
  SshTarget target = Target();
  target.spec.host_key = FingerprintOf(server_->host_keys()[0]);
  EXPECT_NE(MustConnect(target), nullptr);
  target.spec.host_key = FingerprintOf(OtherKey("ed25519"));
  absl::Status status = ConnectError(target);
  EXPECT_EQ(ReasonOf(status), Reason::k_HOST_KEY_CHANGED);
  EXPECT_NE(status.message().find(FingerprintOf(server_->host_keys()[0])), std::string::npos);
}

// Whichever of its keys the host would rather show. This library's RSA is of SHA-1, which a host of
// today must be told to allow.
TEST_F(Libssh2HostKeyTest, AnyKeyOfAHostMayBeThePinnedOne) {
  OpenSshOptions options = Serving();
  options.host_key_types = {"ed25519", "ecdsa", "rsa"};
  options.lines = {"HostKeyAlgorithms +ssh-rsa", "LogLevel VERBOSE"};
  Start(options);
  Know("");
  ASSERT_EQ(server_->host_keys().size(), 3u);
  SshTarget target = Target();
  for (const std::string& line : server_->host_keys()) {
    target.spec.host_key = FingerprintOf(line);
    EXPECT_NE(MustConnect(target), nullptr) << line;
  }
  EXPECT_EQ(tries_.left, 0 + 1 + 2) << "the keys that were shown before the pinned one";
  const auto asked = [this] {
    const std::string log = server_->Log();
    int times = 0;
    for (const std::string& line : SplitLines(log))
      times += line.find("Connection from ") != std::string::npos ? 1 : 0;
    return times;
  };
  const int before = asked();
  target.spec.host_key = FingerprintOf(OtherKey("ecdsa"));
  const absl::Status status = ConnectError(target);
  EXPECT_EQ(ReasonOf(status), Reason::k_HOST_KEY_CHANGED) << status;
  EXPECT_NE(status.message().find(FingerprintOf(server_->host_keys()[0])), std::string::npos)
      << status << ": it is about another than the one that the host prefers";
  EXPECT_TRUE(Eventually([&] { return asked() >= before + kPinTries; })) << server_->Log();
  EXPECT_EQ(asked(), before + kPinTries);
}

TEST_F(Libssh2HostKeyTest, AKnownHostsThatCannotBeReadIsAnError) {
  Start();
  std::filesystem::remove(dir_.path() + "/.ssh/known_hosts");
  std::filesystem::create_directory(dir_.path() + "/.ssh/known_hosts");
  EXPECT_EQ(ReasonOf(ConnectError(Target())), Reason::k_HOST_KEY_UNKNOWN);
}

}  // namespace
}  // namespace hermes
