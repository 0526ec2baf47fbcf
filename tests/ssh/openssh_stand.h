#pragma once

// What the tests of the OpenSSH transport stand on: an account, a real sshd, a configuration that
// knows nothing of this machine's, and the transport; and programs run through it to their end.

#include <csignal>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backends/ssh/openssh_transport.h"
#include "backends/ssh/ssh_lane.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "daemon/runtime/task_group.h"
#include "tests/contract/ssh_stand.h"
#include "tests/fakes/temp_dir.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/ssh_server.h"
#include "tests/hosts/test_account.h"
#include "tests/runtime/run.h"

namespace hermes {

using Connection = std::unique_ptr<SshConnection>;

// How a program went, as its stream told it.
struct Finished {
  absl::Status opened = absl::OkStatus();
  absl::Status out_end = absl::OkStatus();
  absl::Status err_end = absl::OkStatus();
  absl::Status written = absl::OkStatus();
  std::string out;
  std::string err;
  std::optional<Stream::End> end;
};

inline Task<void> ReadToEnd(Stream* stream, bool out, std::string* text, absl::Status* end) {
  std::vector<char> buffer(256 << 10);
  while (true) {
    absl::StatusOr<size_t> bytes =
        co_await (out ? stream->ReadStdout(buffer) : stream->ReadStderr(buffer));
    if (!bytes.ok()) *end = bytes.status();
    if (!bytes.ok() || *bytes == 0) co_return;
    text->append(buffer.data(), *bytes);
  }
}

inline Task<void> WriteToEnd(Stream* stream, const std::string* text, absl::Status* written) {
  if (!text->empty()) *written = co_await stream->Write(*text);
  stream->CloseStdin();
}

inline Task<Finished> Finish(Loop& loop, Stream* stream, std::string input) {
  Finished finished;
  TaskGroup group(loop);
  group.Spawn("out", ReadToEnd(stream, true, &finished.out, &finished.out_end));
  group.Spawn("err", ReadToEnd(stream, false, &finished.err, &finished.err_end));
  group.Spawn("in", WriteToEnd(stream, &input, &finished.written));
  co_await group.Join();
  finished.end = co_await stream->WaitEnd();
  co_return finished;
}

inline Task<Finished> RunThere(Loop& loop, SshConnection* connection, std::string command,
                               std::string input = "") {
  absl::StatusOr<std::unique_ptr<Stream>> stream = co_await connection->Run(std::move(command));
  if (!stream.ok()) co_return Finished{.opened = stream.status()};
  co_return co_await Finish(loop, stream->get(), std::move(input));
}

class OpenSshStand : public testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    if (const std::string why = SshStand::Unsupported(); !why.empty()) GTEST_SKIP() << why;
    key_ = SshKey::Make(dir_.path(), "key");
    account_ = TestAccount::IsOwn() ? TestAccount::Own() : TestAccount::Make();
    transport_ = MakeTransport();
  }

  // No ssh is ever left behind.
  void TearDown() override {
    transport_.reset();
    if (account_ == nullptr) return;
    EXPECT_EQ(RunTask(loop_, AwaitNoClients()), 0u);
    server_.reset();
  }

  std::unique_ptr<SshTransport> MakeTransport() {
    return MakeOpenSshTransport(loop_, clock_, random_, {.runtime_dir = sockets()});
  }

  void Serve(std::vector<std::string> lines = {}, OpenSshOptions options = {}) {
    options.logins.push_back({account_->name(), {key_.public_line}});
    options.lines = std::move(lines);
    server_ = OpenSshServer::Start(options);
    Trust(server_->KnownHosts());
  }

  void Trust(const std::string& lines) { std::ofstream(known_hosts()) << lines; }

  // To `port` of this machine, or the server's. The configuration is the test's own: `lines` stand
  // first.
  SshTarget Target(const std::string& lines = "", int port = 0) {
    std::ofstream(config()) << lines << "\nUserKnownHostsFile " << known_hosts()
                            << "\nGlobalKnownHostsFile none\n"
                            << "KexAlgorithms curve25519-sha256\n";  // costs far less time
    return {.spec = {.host = "127.0.0.1",
                     .user = account_->name(),
                     .port = static_cast<uint32_t>(port != 0 ? port : server_->port()),
                     .key_file = key_.private_path,
                     .config_file = config()},
            .learned_known_hosts = dir_.path() + "/learned"};
  }

  absl::StatusOr<Connection> Connect(SshTarget target) {
    return RunTask(loop_, transport_->Connect(std::move(target), nullptr, &tries_));
  }
  Connection MustConnect(SshTarget target) {
    absl::StatusOr<Connection> connection = Connect(std::move(target));
    if (!connection.ok()) GiveUp(std::string(connection.status().message()) + server_->Log());
    return *std::move(connection);
  }
  Finished Execute(const Connection& connection, std::string command, std::string input = "") {
    return RunTask(loop_, RunThere(loop_, connection.get(), std::move(command), std::move(input)));
  }

  // To the target, as a host of the backend makes it, in the time of `clock`.
  SshLane::Ptr MakeLane(Clock& clock) {
    return std::make_shared<SshLane>(
        SshLane::Deps{.loop = loop_,
                      .clock = clock,
                      .random = random_,
                      .transport = *transport_,
                      .target = Target(),
                      .gate = std::make_shared<SshGate>(loop_),
                      .place = *RunTask(loop_, transport_->Resolve(Target()))});
  }

  std::vector<ProcessFacts> Clients() const {
    std::vector<ProcessFacts> clients;
    for (const ProcessFacts& process : DescendantsOf(getpid())) {
      if (process.name == "ssh") clients.push_back(process);
    }
    return clients;
  }
  Task<size_t> AwaitNoClients() {
    for (int tries = 0; tries < 2000 && !Clients().empty(); ++tries) {
      co_await clock_.SleepFor(std::chrono::milliseconds(10));
    }
    co_return Clients().size();
  }

  std::string sockets() const { return dir_.path() + "/s"; }
  std::string config() const { return dir_.path() + "/config"; }
  std::string known_hosts() const { return dir_.path() + "/known_hosts"; }

  TempDir dir_;
  SshTries tries_;  // of all its logins
  Loop loop_;
  SystemClock clock_{loop_};
  SystemRandom random_;
  SshKey key_;
  std::unique_ptr<TestAccount> account_;
  std::unique_ptr<OpenSshServer> server_;
  std::unique_ptr<SshTransport> transport_;
};

}  // namespace hermes
