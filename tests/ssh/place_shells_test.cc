// The SSH backend on accounts as people have them: every login shell, noisy and broken start files,
// accounts that may run one thing only, hosts with nothing but busybox.

#include <algorithm>
#include <string>

#include "backends/ssh/ssh_place.h"
#include "daemon/runtime/status.h"
#include "tests/hosts/busybox_root.h"
#include "tests/ssh/place_stand.h"

namespace hermes {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

class PlaceShells : public PlaceStand, public testing::WithParamInterface<const char*> {};
class PlaceNoise : public PlaceStand {};

TEST(PlaceCommandTest, MeansTheSameInEveryLoginShell) {
  const std::string command = ssh::PlaceCommand({.directory = "daemon",
                                                 .nonce = "0123456789ab",
                                                 .x86_64 = {std::string(64, 'a'), 70'000},
                                                 .aarch64 = {std::string(64, 'b'), 70'000}});
  constexpr std::string_view kStart = "sh -c '";
  ASSERT_TRUE(command.starts_with(kStart));
  const size_t end = command.find('\'', kStart.size());
  ASSERT_NE(end, std::string::npos);
  EXPECT_EQ(command.find_first_of("\\!\n\r"), std::string::npos);
  // What follows the script is words of harmless characters.
  EXPECT_EQ(command.find_first_not_of(" abcdefghijklmnopqrstuvwxyz0123456789", end + 1),
            std::string::npos);
  // Dropbear ends the connection of who says more than it expects.
  EXPECT_LT(command.size(), 8u << 10);
}

TEST_P(PlaceShells, BothEnginesWorkWithTheLoginShell) {
  const std::string shell = GetParam();
  MakeAccount({.shell = shell});
  Serve();
  ExpectBothWork();
}

INSTANTIATE_TEST_SUITE_P(LoginShells, PlaceShells,
                         testing::Values("/bin/bash", "/bin/dash", "/usr/bin/zsh", "/usr/bin/fish",
                                         "/usr/bin/tcsh", "/bin/rbash"),
                         [](const auto& info) {
                           const std::string path = info.param;
                           return path.substr(path.rfind('/') + 1);
                         });

// What both engines say of an account whose login shell does not do as it is told.
class PlaceRefusals : public PlaceStand {
 protected:
  void ExpectRefused(const std::string& said) {
    for (const char* engine : {"runner", "plain"}) {
      SCOPED_TRACE(engine);
      const absl::Status opened = TryOpen(engine);
      EXPECT_EQ(ReasonOf(opened), Reason::k_CAPABILITY_MISSING) << opened;
      EXPECT_THAT(std::string(opened.message()), HasSubstr(said));
    }
  }
};

TEST_F(PlaceRefusals, NologinIsSaid) {
  MakeAccount({.shell = "/usr/sbin/nologin"});
  Serve();
  ExpectRefused("This account is currently not available");
}

TEST_F(PlaceRefusals, AForcedCommandIsSaid) {
  Serve({"ForceCommand echo only backups here"});
  ExpectRefused("only backups here");
}

TEST_F(PlaceRefusals, ASilentForcedCommandIsSaid) {
  Serve({"ForceCommand cat >/dev/null"});
  ExpectRefused("");
}

TEST_F(PlaceRefusals, AnAccountForFilesOnlyIsSaid) {
  Serve({"ForceCommand internal-sftp"});
  ExpectRefused("");
}

TEST_F(PlaceRefusals, StartFilesThatExitAreSaid) {
  MakeAccount();
  account().WriteHomeFile(".bashrc", "echo the start file gives up\nexit 3\n");
  Serve();
  ExpectRefused("the start file gives up");
}

TEST_F(PlaceNoise, MuchNoiseIsSkipped) {
  MakeAccount();
  account().WriteHomeFile(".bashrc",
                          "for i in $(seq 1 1024); do printf '%064d' $i; done\n"
                          "echo; echo '@000000000000000000000000:none:x:Linux::/bin/sh:not ours'\n"
                          "echo '@:run:::::'; echo complaint >&2\n");
  Serve();
  ExpectBothWork();
}

TEST_F(PlaceNoise, NoiseWithoutANewlineIsSkipped) {
  MakeAccount();
  account().WriteHomeFile(".bashrc", "printf 'no newline'; printf complaint >&2\n");
  Serve();
  ExpectBothWork();
}

TEST_F(PlaceNoise, EndlessNoiseIsSaid) {
  MakeAccount();
  account().WriteHomeFile(".bashrc", "yes over and over\n");
  Serve();
  for (const char* engine : {"runner", "plain"}) {
    SCOPED_TRACE(engine);
    const absl::Status opened = TryOpen(engine);
    EXPECT_FALSE(opened.ok());
    EXPECT_THAT(std::string(opened.message()), HasSubstr("over and over"));
  }
  account().KillProcesses();
}

TEST_F(PlaceNoise, SlowStartFilesAreWaitedFor) {
  MakeAccount();
  account().WriteHomeFile(".bashrc", "sleep 0.5\n");
  Serve();
  ExpectBothWork();
}

TEST_F(PlaceNoise, BannersAndMessagesOfTheDayAreNotForUs) {
  MakeAccount();
  account().WriteHomeFile("banner", "Authorized users only\nand more of it\n");
  Serve({"Banner " + account().home() + "/banner", "PrintMotd yes"});
  ExpectBothWork();
}

TEST_F(PlaceNoise, AHostWithNothingButBusyboxServesBothEngines) {
  if (std::string why = BusyboxRoot::Unsupported(); !why.empty()) GTEST_SKIP() << why;
  MakeAccount({.shell = "/bin/sh"});
  BusyboxRoot root(account());
  OpenSshOptions options;
  root.Configure(&options);
  Serve({}, options);
  ExpectBothWork();
}

}  // namespace
}  // namespace hermes
