#pragma once

// What the tests of the whole SSH backend stand on: an SshStand with a real sshd, optionally a
// network between, and both engines, as the daemon has them. At the end nothing may be left but an
// idle runner, which the stand ends. Test thread only.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/runtime/fd.h"
#include "tests/contract/driver.h"
#include "tests/contract/ssh_stand.h"
#include "tests/fakes/eventually.h"
#include "tests/hosts/delay_proxy.h"
#include "tests/hosts/processes.h"

namespace hermes {

// Limits for what takes seconds here at most, on a machine that is busy with something else.
inline constexpr Duration kLongPatience = std::chrono::seconds(120);

// One of many commands at once.
struct Together {
  CommandSpec spec;
  absl::Status status = absl::OkStatus();  // of Start, then of Read
  std::string out;
  Outcome outcome;
  bool done = false;
};

// Told after each end of such a command how many are left, after each output how many of them have
// said something.
struct CrowdWatcher {
  std::function<void(size_t left)> ended = {};
  std::function<void(size_t heard)> heard = {};
};

class PlaceStand : public testing::Test, protected SshStand {
 protected:
  void SetUp() override;
  void TearDown() override;

  // An account is made if there is none yet.
  void Serve(std::vector<std::string> lines = {}, OpenSshOptions options = {});
  DelayProxy& PutProxy(std::chrono::microseconds rtt = {});

  // Made on first use; the place is read then.
  contract::World& world();
  void EndWorld() { world_.reset(); }
  void UseLibssh2() { transport_ = SshTransportChoice::kLibssh2; }
  void UseWhatIsThere() { transport_ = SshTransportChoice::kAuto; }

  // With "runner" or "plain". Aborts when it does not open.
  contract::TestSession& Open(const std::string& engine);
  // What says that it cannot open. What opened nevertheless stays over there.
  absl::Status TryOpen(const std::string& engine);
  // Opens, runs `echo` once with each engine, and expects what it says.
  void ExpectBothWork();
  void ExpectEcho(contract::TestSession& session);

  // Starts all before it waits for any.
  std::vector<std::unique_ptr<Together>> RunTogether(contract::TestSession& session,
                                                     std::vector<std::string> scripts,
                                                     CrowdWatcher watcher = {});

  // A gate over there: what runs kWaitAtGate waits until as many are let through. Each who passes
  // takes one byte, so it does not matter who is there already.
  static constexpr const char* kWaitAtGate = "read -r _ <~/gate";
  void MakeGate();
  void LetThrough(size_t commands);

  // Of the account, as the server's processes see them: path, mode and size per line, sorted.
  std::vector<std::string> Files() const;
  // A command with the server's mounts, as root where the test is.
  Ran Inside(const std::vector<std::string>& argv) const;
  // The program files that the account's runners were started from.
  std::vector<std::string> RunnerPaths() const;
  int Logins() const;  // that the server accepted so far
  std::vector<ProcessFacts> Clients() const;

  std::unique_ptr<DelayProxy> proxy_;
  Duration place_limit_ = ssh::kPlaceLimit;  // of the world that is made

 private:
  struct Crowd;
  static Task<void> RunOne(Engine* engine, Together* one, Crowd* crowd);

  SshTransportChoice transport_ = SshTransportChoice::kOpenSsh;
  contract::Place place_;
  Fd gate_;
  std::unique_ptr<contract::World> world_;
};

}  // namespace hermes
