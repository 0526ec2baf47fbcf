// What the configuration says reaches the running daemon: who may call, what backends there are and
// which engine each gives, how much is allowed.

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"
#include "tests/fakes/temp_dir.h"
#include "tests/hosts/processes.h"

namespace hermes {
namespace {

using testing::HasSubstr;

// hermesctl as this numeric user, who needs no account and may not read where the build lies.
class Caller {
 public:
  Caller(const std::string& open_folder, uint32_t uid)
      : program_(open_folder + "/hermesctl"),
        socket_(open_folder + "/run/hermes.sock"),
        uid_(uid) {}
  Ran operator()(std::vector<std::string> words) const {
    const std::string id = std::to_string(uid_);
    std::vector<std::string> argv = {"setpriv",        "--reuid=" + id, "--regid=" + id,
                                     "--clear-groups", "env",           "-i",
                                     program_,         "--socket",      socket_};
    argv.insert(argv.end(), words.begin(), words.end());
    return RunProgram({.argv = argv});
  }

 private:
  const std::string program_;
  const std::string socket_;
  const uint32_t uid_;
};

TEST(ConfigTest, AccessIsGivenToThoseWhoAreListedAndToNobodyElse) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  const TempDir open_folder;
  ASSERT_EQ(chmod(open_folder.path().c_str(), 0711), 0);
  std::filesystem::copy_file(BinDir() + "/hermesctl", open_folder.path() + "/hermesctl");
  DaemonProcess daemon;
  daemon.Configure("[access]\nfull = [64901]\noperate = [64902]\n", open_folder.path() + "/run");
  daemon.Start();
  const Caller full(open_folder.path(), 64901), operate(open_folder.path(), 64902),
      nobody(open_folder.path(), 64903);

  Ran ran = full({"session", "create", "s"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(full({"exec", "s", "--", "id -u"}).out, "0\n") << "it has the daemon's account";

  EXPECT_THAT(operate({"session", "ls"}).out, HasSubstr("READY"));
  ran = operate({"exec", "s", "--", "true"});
  EXPECT_EQ(ran.status, 125);
  EXPECT_THAT(ran.err, HasSubstr("ROLE_REQUIRED"));

  ran = nobody({"session", "ls"});
  EXPECT_EQ(ran.status, 125);
  EXPECT_THAT(ran.err, HasSubstr("NOT_OWNER"));
}

class ConfiguredTest : public testing::Test {
 protected:
  void Configure(const std::string& toml) {
    daemon_.Configure(toml);
    daemon_.Start();
  }
  Ran Ctl(std::vector<std::string> words) {
    std::vector<std::string> argv = {BinDir() + "/hermesctl", "--socket", daemon_.socket()};
    argv.insert(argv.end(), words.begin(), words.end());
    return RunProgram({.argv = argv});
  }

  DaemonProcess daemon_;
};

TEST_F(ConfiguredTest, LimitsHoldAndAreNamedWhereTheyAreMet) {
  Configure(
      "[limits]\nmax_sessions = 2\nmax_sessions_per_uid = 1\nmax_commands = 1\n"
      "max_run_timeout = \"5s\"\n");
  daemon_.CreateSession("s");
  Ran ran = Ctl({"session", "create", "t"});
  EXPECT_EQ(ran.status, 125);
  EXPECT_THAT(ran.err, HasSubstr("limits.max_sessions_per_uid"));
  ran = Ctl({"exec", "s", "--timeout", "6s", "--", "true"});
  EXPECT_EQ(ran.status, 125);
  EXPECT_THAT(ran.err, HasSubstr("BAD_TIMEOUT"));
  EXPECT_EQ(Ctl({"start", "s", "--", "sleep 1000"}).status, 0);
  ran = Ctl({"exec", "s", "--", "true"});
  EXPECT_EQ(ran.status, 125);
  EXPECT_THAT(ran.err, HasSubstr("limits.max_commands"));
}

TEST_F(ConfiguredTest, ABackendGivesItsEngineUnlessTheSessionSaysOtherwise) {
  Configure("[backend.local]\nrunner = \"never\"\n[backend.ssh]\nenabled = false\n");
  daemon_.CreateSession("s");
  EXPECT_EQ(daemon_.GetSession("s").engine(), "plain");
  daemon_.CreateSession("t", v1::RUNNER_REQUIRE);
  EXPECT_EQ(daemon_.GetSession("t").engine(), "runner");
  const Ran ran = Ctl({"session", "create", "u", "--backend", "ssh", "--host", "127.0.0.1"});
  EXPECT_EQ(ran.status, 125);
  EXPECT_THAT(ran.err, HasSubstr("there is no backend 'ssh'; there is: local"));
}

}  // namespace
}  // namespace hermes
