// The hosts that network tests stand on, proved with the plain ssh client.

#include <unistd.h>

#include <fstream>

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/ssh_server.h"
#include "tests/hosts/test_account.h"

namespace hermes {
namespace {

// An account, a key, and the words of an ssh that knows nothing but these.
class HostsTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const std::string& why : {TestAccount::Unsupported(), OpenSshServer::Unsupported()})
      if (!why.empty()) GTEST_SKIP() << why;
    key_ = SshKey::Make(dir_.path(), "key");
  }

  std::vector<std::string> Ssh(const SshServer& server, const std::string& user, int port = 0) {
    std::ofstream(dir_.path() + "/known_hosts") << server.KnownHosts(port);
    return {"ssh",
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "UserKnownHostsFile=" + dir_.path() + "/known_hosts",
            "-o",
            "GlobalKnownHostsFile=none",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-i",
            key_.private_path,
            "-p",
            std::to_string(port == 0 ? server.port() : port),
            user + "@" + server.host()};
  }

  Ran RunThere(const SshServer& server, const TestAccount& account, const std::string& command) {
    std::vector<std::string> words = Ssh(server, account.name());
    words.push_back(command);
    return RunProgram({.argv = words});
  }

  OpenSshOptions Serving(const TestAccount& account) {
    OpenSshOptions options;
    options.logins = {{account.name(), {key_.public_line}}};
    return options;
  }

  TempDir dir_;
  SshKey key_;
};

TEST_F(HostsTest, OpenSshServesAnAccount) {
  auto account = TestAccount::Make();
  auto server = OpenSshServer::Start(Serving(*account));
  Ran ran = RunThere(*server, *account, "id -un; pwd; echo err >&2; exit 7");
  EXPECT_EQ(ran.out, account->name() + "\n" + account->home() + "\n");
  EXPECT_EQ(ran.err, "err\n") << server->Log();
  EXPECT_EQ(ran.status, 7);
}

}  // namespace
}  // namespace hermes
