#pragma once

// What the tests of the libssh2 transport stand on: an account on a real sshd, a home of our own
// for known_hosts and keys, a loop, and a clock that runs faster than the wall so that limits of
// seconds take less.

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/ssh/libssh2_transport.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/temp_dir.h"
#include "tests/hosts/delay_proxy.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/ssh_server.h"
#include "tests/hosts/test_account.h"
#include "tests/runtime/run.h"
#include "tests/ssh/fast_clock.h"

namespace hermes {

class Libssh2Test : public testing::Test {
 protected:
  void SetUp() override {
    const bool own = TestAccount::IsOwn();
    for (const std::string& why :
         {own ? "" : TestAccount::Unsupported(), OpenSshServer::Unsupported()})
      if (!why.empty()) GTEST_SKIP() << why;
    ::setenv("HOME", dir_.path().c_str(), 1);
    ::unsetenv("SSH_AUTH_SOCK");
    ::mkdir((dir_.path() + "/.ssh").c_str(), 0700);
    key_ = SshKey::Make(dir_.path(), "key");
    account_ = own ? TestAccount::Own() : TestAccount::Make();
  }

  OpenSshOptions Serving() const {
    OpenSshOptions options;
    options.logins = {{account_->name(), {key_.public_line}}};
    return options;
  }
  void Start() { Start(Serving()); }
  void Start(OpenSshOptions options) {
    server_ = OpenSshServer::Start(std::move(options));
    Know(server_->KnownHosts());
  }

  // The whole of the user's known_hosts.
  void Know(const std::string& lines) { std::ofstream(dir_.path() + "/.ssh/known_hosts") << lines; }

  // The server, or the proxy before it.
  SshTarget Target(int port = 0) const {
    SshTarget target;
    target.spec.host = "127.0.0.1";
    target.spec.port = static_cast<uint32_t>(port == 0 ? server_->port() : port);
    target.spec.user = account_->name();
    target.spec.key_file = key_.private_path;
    target.learned_known_hosts = dir_.path() + "/learned";
    return target;
  }

  absl::StatusOr<std::unique_ptr<SshConnection>> Connect(SshTarget target) {
    return RunTask(loop_, transport_->Connect(std::move(target), nullptr, &tries_));
  }
  std::unique_ptr<SshConnection> MustConnect(SshTarget target) {
    auto connection = Connect(std::move(target));
    if (connection.ok()) return *std::move(connection);
    ADD_FAILURE() << connection.status() << server_->Log();
    return nullptr;
  }
  absl::Status ConnectError(SshTarget target) { return Connect(std::move(target)).status(); }

  std::unique_ptr<Stream> MustRun(SshConnection& connection, const std::string& command) {
    auto stream = RunTask(loop_, connection.Run(command));
    if (stream.ok()) return *std::move(stream);
    ADD_FAILURE() << stream.status();
    return nullptr;
  }

  struct Ended {
    absl::Status status;
    std::string out;
    std::string err;
    std::optional<Stream::End> end;
  };
  static Task<absl::Status> ReadToEnd(Stream* stream, bool of_stderr, std::string* text) {
    std::vector<char> buffer(65536);
    for (;;) {
      absl::StatusOr<size_t> got =
          of_stderr ? co_await stream->ReadStderr(buffer) : co_await stream->ReadStdout(buffer);
      if (!got.ok()) co_return got.status();
      if (*got == 0) co_return absl::OkStatus();
      text->append(buffer.data(), *got);
    }
  }
  static Task<Ended> Finish(Stream* stream) {
    Ended ended;
    ended.status = co_await ReadToEnd(stream, false, &ended.out);
    absl::Status second = co_await ReadToEnd(stream, true, &ended.err);
    if (ended.status.ok()) ended.status = second;
    ended.end = co_await stream->WaitEnd();
    co_return ended;
  }
  static Task<Ended> Execute(SshConnection* connection, std::string command) {
    auto stream = co_await connection->Run(std::move(command));
    if (!stream.ok()) {
      Ended refused;
      refused.status = stream.status();
      co_return refused;
    }
    (*stream)->CloseStdin();
    co_return co_await Finish(stream->get());
  }
  Ended Execute(SshConnection& connection, const std::string& command) {
    return RunTask(loop_, Execute(&connection, command));
  }

  // Runs the loop until `done`, which is looked at every few milliseconds; false after 60 s.
  bool Until(std::function<bool()> done) {
    SystemClock clock(loop_);
    return RunTask(loop_, Poll(&clock, std::move(done)));
  }
  static Task<bool> Poll(SystemClock* clock, std::function<bool()> done) {
    const SteadyTime limit = clock->Now() + std::chrono::seconds(60);
    while (!done()) {
      if (clock->Now() > limit) co_return false;
      co_await clock->SleepFor(std::chrono::milliseconds(5));
    }
    co_return true;
  }

  // For waits of whole seconds: built before anything connects.
  void RunClockFast(int speed) {
    clock_ = std::make_unique<FastClock>(loop_, speed);
    transport_ = MakeLibssh2Transport(loop_, *clock_, workers_);
  }

  TempDir dir_;
  SshTries tries_;  // of all its logins
  SshKey key_;
  std::unique_ptr<TestAccount> account_;
  std::unique_ptr<OpenSshServer> server_;
  Loop loop_;
  std::unique_ptr<Clock> clock_ = std::make_unique<SystemClock>(loop_);
  ThreadWorkers workers_{loop_, 2};
  std::unique_ptr<SshTransport> transport_ = MakeLibssh2Transport(loop_, *clock_, workers_);
};

}  // namespace hermes
