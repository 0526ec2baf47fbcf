#pragma once

// AccountDaemon: a real hermesd --dev that runs as a test account, and hermesctl as the same
// account: how a person uses it on a machine of many. The account's removal ends what is left.
// Test thread only.

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/fakes/eventually.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/test_account.h"

namespace hermes {

class AccountDaemon {
 public:
  explicit AccountDaemon(const TestAccount& account);
  ~AccountDaemon();
  AccountDaemon(const AccountDaemon&) = delete;
  AccountDaemon& operator=(const AccountDaemon&) = delete;

  void Start();  // returns when it is READY
  void Kill();   // SIGKILL; its runner and the commands live on

  // hermesctl of this account with these words, to its end.
  Ran Ctl(std::vector<std::string> words, const std::string& input = "") const;
  // A session; with a sudo password unless that is empty.
  void CreateSession(const std::string& id, const std::string& sudo_password = "") const;
  Ran Execute(const std::string& session, const std::string& script) const {
    return Ctl({"exec", session, "--", script});
  }
  // Starts a command that goes on; its name.
  std::string StartCommand(const std::string& session, const std::string& script) const;

  // All that the daemon keeps: socket, store, output, logs, the runner's directory.
  const std::string& dir() const { return dir_; }

 private:
  std::vector<std::string> AsAccount() const;

  const TestAccount& account_;
  std::string bin_;
  std::string dir_;
  pid_t pid_ = 0;
};

}  // namespace hermes
