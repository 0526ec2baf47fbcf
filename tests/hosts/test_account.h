#pragma once

// TestAccount: a real Unix account of this machine, made for one test and removed with everything
// that ran as it. The one place that makes accounts. Only root can; any thread, any process: ctest
// may run several at once, a lock keeps them apart. What a crashed test left is removed by the next
// one, by exact uid from the list in /run/hermes-tests.
//
// A test that `as_test_account` started runs as such an account itself, which is its Own: its
// processes are then all of that uid but the test and what descends from it.

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/hosts/processes.h"

namespace hermes {

enum class Sudo { kNone, kPassword, kNoPassword };

struct AccountSpec {
  std::string shell = "/bin/bash";
  std::string password = {};  // empty: none fits, but the account is not locked
  Sudo sudo = Sudo::kNone;
  mode_t home_mode = 0755;
  std::string home_base = {};                   // where the home is made; empty: a temporary folder
  std::vector<std::string> sudoers_lines = {};  // more of them; %u becomes the account's name
};

// Folders here named as an account are removed with it. Root owns every folder of the path and it
// can hold programs, as sshd's ChrootDirectory needs.
inline constexpr const char* kAccountRoots = "/var/lib/hermes-tests";
// In the environment of a test that runs as a test account: its name.
inline constexpr const char* kOwnAccount = "HERMES_TEST_ACCOUNT";

class TestAccount {
 public:
  // Empty, or why no account can be made here: for GTEST_SKIP.
  static std::string Unsupported();

  // Aborts when the machine refuses.
  static std::unique_ptr<TestAccount> Make(AccountSpec spec = {});

  static bool IsOwn();  // whether this process is one's
  static std::unique_ptr<TestAccount> Own();

  // Remove(), and a test failure for what it could not remove. Own: its processes are ended, its
  // home is emptied, and what it left in public folders goes.
  ~TestAccount();
  TestAccount(const TestAccount&) = delete;
  TestAccount& operator=(const TestAccount&) = delete;

  const std::string& name() const { return name_; }
  uid_t uid() const { return uid_; }
  gid_t gid() const { return uid_; }
  const std::string& home() const { return home_; }

  // A file in the home (folders made as needed), owned by the account.
  void WriteHomeFile(const std::string& path, const std::string& text, mode_t mode = 0644) const;
  // Adds to ~/.ssh/authorized_keys.
  void AuthorizeKey(const std::string& public_line) const;

  // Processes whose real or effective uid is this, and what they started with sudo.
  std::vector<pid_t> Processes() const;
  void KillProcesses() const;

  // Ends all processes, removes account, group, home, sudo rules, and what it owns in public
  // folders as /tmp. Returns what is left, in words; safe to call twice.
  std::vector<std::string> Remove();

 private:
  TestAccount() = default;
  bool Has(const ProcessFacts& facts) const;

  std::string name_;
  uid_t uid_ = 0;
  std::string home_;
  bool own_ = false;
  bool removed_ = false;
};

}  // namespace hermes
