// Commands that wait for one of few channels, and callers that do not wait any longer: over real
// servers.

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <asio/co_spawn.hpp>

#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"
#include "tests/ssh/place_stand.h"

namespace hermes {
namespace {

using contract::RunPtr;
using contract::TestSession;

class PlaceQueue : public PlaceStand, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    PlaceStand::SetUp();
    if (std::string(GetParam()) == "Libssh2") UseLibssh2();
  }

  // Two commands that hold every channel of the command lane until the file is there.
  std::vector<RunPtr> HoldTwo(TestSession& session) {
    std::vector<RunPtr> holding;
    for (int i = 0; i < 2; ++i) {
      holding.push_back(world().Start(
          session, std::string("echo held; until [ -e ~/go ]; do sleep 0.05; done; echo done")));
    }
    EXPECT_TRUE(world().Until(
        [&] { return holding[0]->out == "held\n" && holding[1]->out == "held\n"; }, kLongPatience));
    return holding;
  }
  void LetGo(const std::vector<RunPtr>& holding) {
    RunProgram({.argv = {"touch", account().home() + "/go"}});
    for (const RunPtr& run : holding) {
      world().WaitEnd(run, kLongPatience);
      EXPECT_EQ(run->out, "held\ndone\n") << run->Told();
    }
  }
  int Channels() const {
    int channels = 0;
    for (const std::string& line : SplitLines(server().Log())) {
      if (line.find("Starting session: command") != std::string::npos) ++channels;
    }
    return channels;
  }
};

TEST_P(PlaceQueue, CancelledCommandsLeaveTheQueueAndOpenNoChannel) {
  Serve({"MaxSessions 2", "LogLevel VERBOSE"});
  TestSession& session = Open("plain");
  const std::vector<RunPtr> holding = HoldTwo(session);
  const int before = Channels();
  constexpr size_t kWaiting = 20;
  std::vector<std::unique_ptr<Channel>> waiting;
  for (size_t i = 0; i < kWaiting; ++i) {
    CommandSpec spec;
    spec.run_id = world().random.Uuid();
    spec.script = "echo ran >>~/marker";
    asio::co_spawn(world().loop.executor(), session.engine->Start(std::move(spec)),
                   [&](std::exception_ptr, absl::StatusOr<std::unique_ptr<Channel>> channel) {
                     ASSERT_TRUE(channel.ok()) << channel.status();
                     waiting.push_back(*std::move(channel));
                     world().Poke();
                   });
  }
  ASSERT_TRUE(world().Until([&] { return waiting.size() == kWaiting; }, kLongPatience));
  for (const auto& channel : waiting) {
    const absl::StatusOr<TreeReport> report =
        world().Await(channel->Kill(Duration(0), Cause::kCancelled));
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_TRUE(report->verified) << "it had been started";
    channel->Forget();
  }
  LetGo(holding);
  ExpectEcho(session);
  EXPECT_EQ(Channels(), before + 1) << "a cancelled command took a channel";
  EXPECT_EQ(RunProgram({.argv = {"test", "-e", account().home() + "/marker"}}).status, 1);
}

// Nothing was refused before, so the lane believes that there are more channels.
TEST_P(PlaceQueue, AKillReachesACommandWhoseLikeHoldExactlyEveryChannel) {
  Serve({"MaxSessions 2"});
  TestSession& session = Open("plain");
  const std::vector<RunPtr> holding = HoldTwo(session);
  std::optional<absl::StatusOr<TreeReport>> killed;
  asio::co_spawn(world().loop.executor(), holding[0]->channel->Kill(Duration(0), Cause::kCancelled),
                 [&](std::exception_ptr, absl::StatusOr<TreeReport> report) {
                   killed.emplace(std::move(report));
                   world().Poke();
                 });
  ASSERT_TRUE(world().Until([&] { return killed.has_value(); }, kLongPatience));
  ASSERT_TRUE(killed->ok()) << killed->status();
  world().WaitEnd(holding[0], kLongPatience);
  EXPECT_EQ(holding[0]->outcome->state, CommandState::kKilled) << holding[0]->Told();
  LetGo({holding[1]});
}

INSTANTIATE_TEST_SUITE_P(Transports, PlaceQueue, testing::Values("Openssh", "Libssh2"),
                         [](const auto& info) { return std::string(info.param); });

struct Crowd {
  const char* transport;
  size_t sessions;  // MaxSessions
  size_t commands;
};
void PrintTo(const Crowd& crowd, std::ostream* out) { *out << crowd.transport; }
class PlaceCrowd : public PlaceStand, public testing::WithParamInterface<Crowd> {
 protected:
  void SetUp() override {
    PlaceStand::SetUp();
    if (std::string(GetParam().transport) == "Libssh2") UseLibssh2();
  }
};

// Every other channel is held at the gate until the kill is done, and all the rest wait for one.
TEST_P(PlaceCrowd, AllRunInTheEndOverOneConnectionAndCancelWorksMeanwhile) {
  Serve({"MaxSessions " + std::to_string(GetParam().sessions)});
  TestSession& session = Open("plain");
  MakeGate();
  CommandSpec spec;
  spec.script = "echo up; sleep 1000";
  spec.state_mode = StateMode::kReadOnly;
  const RunPtr running = world().Start(session, std::move(spec));
  ASSERT_TRUE(world().Until([&] { return running->out == "up\n"; }, kLongPatience));
  const bool openssh = std::string(GetParam().transport) == "Openssh";
  EXPECT_EQ(Clients().size(), openssh ? 1u : 0u);
  std::vector<std::string> scripts;
  for (size_t i = 0; i < GetParam().commands; ++i) {
    scripts.push_back(std::string("echo there; ") + kWaitAtGate + "; echo " + std::to_string(i));
  }
  std::optional<absl::StatusOr<TreeReport>> killed;
  size_t still_there = scripts.size(), left_at_kill = 0, clients = 0;
  const auto kill = [&](size_t heard) {
    if (heard + 1 < GetParam().sessions || killed) return;
    killed.emplace(absl::UnknownError("under way"));
    asio::co_spawn(world().loop.executor(), running->channel->Kill(Duration(0), Cause::kCancelled),
                   [&](std::exception_ptr, absl::StatusOr<TreeReport> report) {
                     killed.emplace(std::move(report));
                     left_at_kill = still_there;
                     clients = Clients().size();
                     LetThrough(scripts.size());
                   });
  };
  const auto all = RunTogether(session, scripts,
                               {.ended = [&](size_t left) { still_there = left; }, .heard = kill});
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_TRUE(all[i]->status.ok()) << i << all[i]->status;
    EXPECT_EQ(all[i]->out, "there\n" + std::to_string(i) + "\n");
    EXPECT_EQ(all[i]->outcome.state, CommandState::kExited);
    EXPECT_EQ(all[i]->outcome.value, 0);
  }
  world().WaitEnd(running, kLongPatience);
  EXPECT_EQ(running->outcome->state, CommandState::kKilled) << running->Told();
  ASSERT_TRUE(killed.has_value());
  ASSERT_TRUE(killed->ok()) << killed->status();
  EXPECT_EQ((*killed)->survivors, 0u);
  EXPECT_EQ(left_at_kill, scripts.size()) << "nobody could have passed the gate";
  // One for all commands, another for the kill that finds every channel of the first taken.
  EXPECT_EQ(clients, openssh ? 2u : 0u);
  EXPECT_EQ(Logins(), 2);
}

// With HERMES_DEEP also those that take longer, or tell less.
std::vector<Crowd> Crowds() {
  std::vector<Crowd> crowds;
  for (const char* transport : {"Openssh", "Libssh2"}) {
    crowds.insert(crowds.end(), {{transport, 10, 300}, {transport, 2, 50}});
    if (std::getenv("HERMES_DEEP") != nullptr)
      crowds.insert(crowds.end(), {{transport, 2, 300}, {transport, 10, 50}});
  }
  return crowds;
}

INSTANTIATE_TEST_SUITE_P(Hosts, PlaceCrowd, testing::ValuesIn(Crowds()), [](const auto& info) {
  return info.param.transport + std::to_string(info.param.commands) + "At" +
         std::to_string(info.param.sessions);
});

// A host that takes connections and never says a word.
class PlaceSilent : public PlaceQueue {
 protected:
  void SetUp() override {
    PlaceQueue::SetUp();
    if (IsSkipped()) return;
    MakeAccount();
    Serve();
    listener_.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* plain = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(bind(listener_.get(), plain, size), 0);
    ASSERT_EQ(listen(listener_.get(), 4), 0);
    ASSERT_EQ(getsockname(listener_.get(), plain, &size), 0);
    port_ = ntohs(address.sin_port);
  }
  // Its peer has gone, within `limit`.
  static bool Gone(int peer, Duration limit) {
    char bytes[256];
    pollfd wait{.fd = peer, .events = POLLIN, .revents = 0};
    const int ms =
        static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(limit).count());
    while (poll(&wait, 1, ms) == 1) {
      if (read(peer, bytes, sizeof bytes) <= 0) return true;
    }
    return false;
  }

  Fd listener_;
  uint32_t port_ = 0;
};

TEST_P(PlaceSilent, WhoGivesUpEndsTheLoginAtOnce) {
  const bool openssh = std::string(GetParam()) == "Openssh";
  SandboxSpec spec{.session_id = "s", .ssh = {}, .wish = std::make_shared<Wish>()};
  spec.ssh.host = "127.0.0.1";
  spec.ssh.port = port_;
  spec.ssh.key_file = key().private_path;
  spec.ssh.transport = openssh ? SshTransportChoice::kOpenSsh : SshTransportChoice::kLibssh2;
  auto sandbox = world().Await(world().backend->Open(spec));
  ASSERT_TRUE(sandbox.ok()) << sandbox.status();
  std::optional<absl::Status> ended;
  asio::co_spawn(world().loop.executor(), (*sandbox)->ConnectRunner(nullptr),
                 [&](std::exception_ptr, absl::StatusOr<std::unique_ptr<Stream>> stream) {
                   ended = stream.status();
                   world().Poke();
                 });
  pollfd ready{.fd = listener_.get(), .events = POLLIN, .revents = 0};
  for (int tries = 0; poll(&ready, 1, 0) != 1; ++tries) {
    ASSERT_LT(tries, 6000) << "nobody came";
    (void)world().Until([] { return false; }, std::chrono::milliseconds(5));
  }
  const Fd peer(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_FALSE(ended.has_value());
  spec.wish->Withdraw();
  ASSERT_TRUE(world().Until([&] { return ended.has_value(); }));
  EXPECT_FALSE(ended->ok());
  // ssh would have gone by itself after kConnectLimit.
  EXPECT_TRUE(Gone(peer.get(), kConnectLimit / 2));
}

INSTANTIATE_TEST_SUITE_P(Transports, PlaceSilent, testing::Values("Openssh", "Libssh2"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace hermes
