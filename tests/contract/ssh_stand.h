#pragma once

// SshStand: another host for tests: an account of this machine, a key that opens it, a real server
// that the account is served by, and the SSH backend that reaches it, made as hermesd makes it. As
// root the account is a new one and the server is root's; a test that `as_test_account` runs is its
// own account, and the server is the account's, too. Test thread only.

#include <memory>
#include <optional>
#include <string>

#include "backends/backend.h"
#include "backends/ssh/ssh_runner.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "tests/fakes/temp_dir.h"
#include "tests/hosts/ssh_server.h"
#include "tests/hosts/test_account.h"

namespace hermes {

class SshStand {
 public:
  // Empty, or why there can be none here: for GTEST_SKIP.
  static std::string Unsupported();

  // Made on first use; a new one replaces the key, not what the server knows.
  const SshKey& key();
  void NewKey() { key_ = SshKey::Make(dir_.path(), RandomName("key")); }

  // Only root can make another one than the standard's.
  void MakeAccount(AccountSpec spec = {});
  bool has_account() const { return account_ != nullptr; }
  TestAccount& account() const { return *account_; }

  // These make the account if there is none yet, and let the key in.
  void ServeOpenSsh(OpenSshOptions options = {});
  void ServeDropbear();
  bool has_server() const { return server_ != nullptr; }
  SshServer& server() const { return *server_; }
  void EndServer() { server_.reset(); }

  const TempDir& dir() const { return dir_; }

  // The backend, with its files in `dir`. What it refers to lives until the process ends.
  static std::unique_ptr<Backend> MakeBackend(Loop& loop, Clock& clock, const std::string& dir) {
    return MakeHastyBackend(loop, clock, dir, ssh::kPlaceLimit);
  }
  static std::unique_ptr<Backend> MakeHastyBackend(Loop& loop, Clock& clock, const std::string& dir,
                                                   Duration place_limit);
  // The account at the server; `port` of a proxy before it, or 0.
  void Fill(SandboxSpec& spec, SshTransportChoice transport, int port = 0);

 private:
  TempDir dir_;
  std::optional<SshKey> key_;
  std::unique_ptr<TestAccount> account_;
  std::unique_ptr<SshServer> server_;  // goes before the account
};

}  // namespace hermes
