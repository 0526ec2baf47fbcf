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

class PlaceStand : public testing::Test, protected SshStand {
 protected:
  void SetUp() override;
  void TearDown() override;

  void MakeAccount(AccountSpec spec = {});
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

  // Starts all before it waits for any; says after each end how many are left.
  std::vector<std::unique_ptr<Together>> RunTogether(contract::TestSession& session,
                                                     std::vector<std::string> scripts,
                                                     std::function<void(size_t)> ended = {});

  // Of the account, as the server's processes see them: path, mode and size per line, sorted.
  std::vector<std::string> Files() const;
  // A command with the server's mounts, as root where the test is.
  Ran Inside(const std::vector<std::string>& argv) const;
  // The program files that the account's runners were started from.
  std::vector<std::string> RunnerPaths() const;
  int Logins() const;  // that the server accepted so far
  std::vector<ProcessFacts> Clients() const;

  std::unique_ptr<DelayProxy> proxy_;

 private:
  void RemoveRemains() const;

  SshTransportChoice transport_ = SshTransportChoice::kOpenSsh;
  contract::Place place_;
  std::unique_ptr<contract::World> world_;
};

}  // namespace hermes
