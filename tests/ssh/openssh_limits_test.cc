// OpenSSH's less usual ends: an RSA key, a folder of sockets that is too deep, a host that lets
// people in and runs nothing.

#include <filesystem>
#include <optional>
#include <string>

#include <asio/co_spawn.hpp>

#include "backends/ssh/openssh_command.h"
#include "backends/ssh/openssh_folder.h"
#include "backends/ssh/ssh_lane.h"
#include "tests/fakes/fake_clock.h"
#include "tests/hosts/delay_proxy.h"
#include "tests/ssh/openssh_stand.h"

namespace hermes {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class OpenSshLimits : public OpenSshStand {
 protected:
  // A folder's name so long that a socket in it has `bytes`.
  std::string FolderFor(size_t bytes) const {
    const size_t socket = ControlPath("", std::string(2 * kControlNameBytes, 'x')).size();
    std::string folder = dir_.path() + "/";
    folder.resize(bytes - socket, 'd');
    return folder;
  }
};

TEST_F(OpenSshLimits, AnRsaKeyLogsIn) {
  key_ = SshKey::Make(dir_.path(), "rsa", "rsa");
  Serve();
  const Connection connection = MustConnect(Target());
  EXPECT_EQ(Execute(connection, "echo in").out, "in\n");
  EXPECT_THAT(server_->Log(), HasSubstr("RSA SHA256:"));
}

TEST_F(OpenSshLimits, AnOrderOfCiphersThatSomebodyChoseStays) {
  if (!CpuHasAes()) GTEST_SKIP() << "this CPU has no AES: ssh's own order is the fastest";
  Serve({"LogLevel DEBUG1"});
  const auto used = [this](const SshTarget& target) {
    MustConnect(target).reset();
    const std::string log = server_->Log(), mark = "client->server cipher: ";
    const size_t at = log.rfind(mark) + mark.size();
    return log.substr(at, log.find(' ', at) - at);
  };
  const std::string slow = "chacha20-poly1305@openssh.com", fast = "aes128-gcm@openssh.com";
  EXPECT_EQ(used(Target()), fast);
  EXPECT_EQ(used(Target("Ciphers " + slow + "," + fast)), slow);
  SshTarget target = Target();
  target.spec.options = {{"ciphers", slow + ",aes128-ctr," + fast}};
  EXPECT_EQ(used(target), slow);
}

TEST_F(OpenSshLimits, AFolderThatJustFitsDoes) {
  Serve();
  const std::string folder = FolderFor(kMaxControlPath);
  transport_ = MakeOpenSshTransport(loop_, clock_, random_, {.runtime_dir = folder});
  const Connection connection = MustConnect(Target());
  EXPECT_EQ(Execute(connection, "echo in").out, "in\n");
}

TEST_F(OpenSshLimits, AFolderThatIsTooDeepIsSaidBeforeAnySshIsStarted) {
  Serve();
  const std::string folder = FolderFor(kMaxControlPath + 1);
  transport_ = MakeOpenSshTransport(loop_, clock_, random_, {.runtime_dir = folder});
  const absl::Status refused = Connect(Target()).status();
  EXPECT_EQ(ReasonOf(refused), Reason::k_CAPABILITY_MISSING) << refused;
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr(folder), HasSubstr("has too long a name"),
                    HasSubstr("more than " + std::to_string(kMaxControlPath) + " bytes")));
  EXPECT_FALSE(std::filesystem::exists(folder));
  EXPECT_EQ(Clients().size(), 0u);
}

// Whoever opens a session there is told that the other transport needs no such folder.
TEST_F(OpenSshLimits, ASessionOverAFolderThatIsTooDeepIsToldTheWayOut) {
  Serve();
  std::string folder = FolderFor(kMaxControlPath + 1);
  folder.replace(folder.size() - 2, 2, "");  // the backend's "/s" comes behind it
  std::filesystem::create_directory(folder);
  const std::unique_ptr<Backend> backend = SshStand::MakeBackend(loop_, clock_, folder);
  SandboxSpec spec;
  spec.ssh = Target().spec;
  spec.ssh.transport = SshTransportChoice::kOpenSsh;
  auto sandbox = RunTask(loop_, backend->Open(spec));
  absl::Status refused = sandbox.status();
  if (refused.ok()) {
    refused = RunTask(loop_, (*sandbox)->OpenStream("echo in", Lane::kCommand, nullptr)).status();
  }
  EXPECT_EQ(ReasonOf(refused), Reason::k_CAPABILITY_MISSING) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("has too long a name"));
  EXPECT_THAT(MetadataOf(refused)["next"], HasSubstr("--transport openssh or libssh2"));
}

// What a host may count against us.

TEST_F(OpenSshLimits, ALoginThatEndsBehindTheFirstWordIsCounted) {
  Serve();
  DelayProxy proxy({.target_port = server_->port()});
  Trust(server_->KnownHosts(proxy.port()));
  proxy.CutAfter(1000);  // behind the server's first line, amid the exchange of keys
  const absl::Status failure = Connect(Target("", proxy.port())).status();
  EXPECT_EQ(ReasonOf(failure), Reason::k_BACKEND_UNREACHABLE) << failure;
  EXPECT_EQ(tries_.refused, 1);
}

TEST_F(OpenSshLimits, ALoginThatIsWithdrawnInMidWayIsCounted) {
  Serve();
  DelayProxy proxy({.target_port = server_->port(), .rtt = std::chrono::milliseconds(100)});
  Trust(server_->KnownHosts(proxy.port()));
  const auto wish = std::make_shared<Wish>();
  std::optional<absl::Status> ended;
  asio::co_spawn(loop_.executor(), transport_->Connect(Target("", proxy.port()), wish, &tries_),
                 [&](std::exception_ptr, absl::StatusOr<Connection> connection) {
                   ended = connection.status();
                 });
  // Its list of algorithms is ssh's answer to the server's first line.
  const auto pause = [this] { RunTask(loop_, clock_.SleepFor(std::chrono::milliseconds(1))); };
  for (int tries = 0; tries < 20000 && proxy.upstream_bytes() < 500; ++tries) pause();
  wish->Withdraw();
  for (int tries = 0; tries < 20000 && !ended; ++tries) pause();
  ASSERT_TRUE(ended);
  EXPECT_FALSE(ended->ok());
  EXPECT_EQ(tries_.refused, 1);
}

// The host is real; the time that the lane waits is not.
TEST_F(OpenSshLimits, AHostThatRunsNothingIsGivenUpAfterItsTime) {
  Serve({"MaxSessions 0"});
  FakeClock lanes(loop_);
  const SshLane::Ptr lane = MakeLane(lanes);
  std::optional<absl::Status> ended;
  asio::co_spawn(loop_.executor(), SshLane::Run(lane, "echo in", nullptr),
                 [&](std::exception_ptr, absl::StatusOr<std::unique_ptr<Stream>> stream) {
                   ended = stream.status();
                 });
  const SteadyTime began = lanes.Now();
  int refusals = 0;
  while (!ended) {
    // Until the host has refused once more, and the lane waits.
    for (int tries = 0; !ended && lanes.alarms() == 0; ++tries) {
      ASSERT_LT(tries, 6000);
      RunTask(loop_, clock_.SleepFor(std::chrono::milliseconds(5)));
    }
    if (!ended) ++refusals;
    lanes.AdvanceToNext();
  }
  EXPECT_EQ(ReasonOf(*ended), Reason::k_BACKEND_UNREACHABLE) << *ended;
  EXPECT_THAT(std::string(ended->message()),
              AllOf(HasSubstr("refuses one more channel"), HasSubstr("MaxSessions")));
  EXPECT_GE(lanes.Now() - began, kSlotPatience);
  EXPECT_LE(lanes.Now() - began, kSlotPatience + kSlotProbe);
  EXPECT_GT(refusals, 10) << "it asked now and then";
  lane->Stop();
}

}  // namespace
}  // namespace hermes
