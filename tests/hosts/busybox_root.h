#pragma once

// BusyboxRoot: a root directory that holds busybox, its applets, an account and nothing else: what
// a router or a small container looks like. An OpenSshServer that is configured with it puts every
// login into it; /proc and three devices are mounted in a namespace that only this server sees.
// Removed with the account. Root only.

#include <string>

#include "tests/hosts/ssh_server.h"
#include "tests/hosts/test_account.h"

namespace hermes {

class BusyboxRoot {
 public:
  static std::string Unsupported();  // empty, or why not: for GTEST_SKIP

  // The account needs the shell /bin/sh.
  explicit BusyboxRoot(const TestAccount& account);
  void Configure(OpenSshOptions* options) const;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace hermes
