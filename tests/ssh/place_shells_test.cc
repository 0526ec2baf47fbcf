// The SSH backend on accounts as people have them: every login shell, noisy and broken start files,
// accounts that may run one thing only, hosts with nothing but busybox.

#include <map>
#include <string>
#include <vector>

#include "backends/ssh/ssh_place.h"
#include "daemon/runtime/status.h"
#include "tests/contract/far_tree.h"
#include "tests/hosts/busybox_root.h"
#include "tests/ssh/place_stand.h"

namespace hermes {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class PlaceShells : public PlaceStand, public testing::WithParamInterface<const char*> {
 protected:
  int FileServices();
};
class PlaceNoise : public PlaceStand {};

// The three lines that a login shell is given.
TEST(PlaceCommandTest, MeansTheSameInEveryLoginShell) {
  ssh::PlaceQuestion question = {.directory = "daemon-0123abcd",
                                 .nonce = "0123456789ab",
                                 .x86_64 = {std::string(64, 'a'), 70'000},
                                 .aarch64 = {std::string(64, 'b'), 70'000}};
  const std::string link = ssh::PlaceCommand(question);
  question.files = true;
  for (const std::string& command :
       {link, ssh::PlaceCommand(question), ssh::LeaveCommand(question.directory)}) {
    SCOPED_TRACE(command);
    constexpr std::string_view kStart = "sh -c '";
    ASSERT_TRUE(command.starts_with(kStart));
    const size_t end = command.find('\'', kStart.size());
    ASSERT_NE(end, std::string::npos);
    EXPECT_EQ(command.find_first_of("\\!\n\r"), std::string::npos);
    // What follows the script is words of harmless characters.
    EXPECT_EQ(command.find_first_not_of(" abcdefghijklmnopqrstuvwxyz0123456789-", end + 1),
              std::string::npos);
    // Dropbear ends the connection of who says more than it expects.
    EXPECT_LT(command.size(), 8u << 10);
  }
}

TEST_P(PlaceShells, BothEnginesWorkWithTheLoginShell) {
  const std::string shell = GetParam();
  MakeAccount({.shell = shell});
  Serve();
  ExpectBothWork();
}

// Of this account only: others may be serving files at the same time.
int PlaceShells::FileServices() {
  using std::string_view_literals::operator""sv;
  int count = 0;
  for (const pid_t pid : account().Processes()) {
    const std::string words = ReadWholeFile("/proc/" + std::to_string(pid) + "/cmdline");
    if (words.find("\0files\0"sv) != std::string::npos) ++count;
  }
  return count;
}

// A mount's files over the runner's link, and a file service as a program of its own; and the Close
// of the last session takes away all that came.
TEST_P(PlaceShells, FilesAreServedAndTheLastCloseLeavesNothing) {
  MakeAccount({.shell = GetParam()});
  Serve();
  ExpectEcho(Open("plain"));
  EndWorld();  // what a shell made for itself at its first start is its own
  const std::vector<std::string> before = Files();
  contract::TestSession& session = Open("runner");
  {
    contract::FarTree tree(world(), session);
    EXPECT_EQ(tree.Apply({{.name = "a", .wanted = "one"}, {.name = "d/b", .wanted = "two"}}), "pp");
    EXPECT_EQ(tree.In("cat a d/b"), "onetwo");
    EXPECT_EQ(tree.Fetch({"d/b"}), (std::map<std::string, std::string>{{"d/b", "two"}}));
  }
  auto files = world().Await(session.sandbox->OpenFiles(Lane::kBulk, nullptr));
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_TRUE(Eventually([this] { return FileServices() == 1; })) << "a program of its own";
  (*files)->CloseStdin();
  EXPECT_TRUE(Eventually([this] { return FileServices() == 0; }));
  files->reset();
  EXPECT_FALSE(RunnerPaths().empty());
  ASSERT_TRUE(world().Await(session.engine->Close(Duration(0))).ok());
  EXPECT_EQ(world().Await(session.sandbox->Close(true)), absl::OkStatus());
  session.engine.reset();
  EXPECT_TRUE(Eventually([this] { return RunnerPaths().empty(); }));
  EXPECT_EQ(Files(), before);
}

INSTANTIATE_TEST_SUITE_P(LoginShells, PlaceShells,
                         testing::Values("/bin/bash", "/bin/dash", "/usr/bin/zsh", "/usr/bin/fish",
                                         "/usr/bin/tcsh", "/bin/rbash"),
                         [](const auto& info) {
                           const std::string path = info.param;
                           return path.substr(path.rfind('/') + 1);
                         });

// What both engines say of an account whose login shell does not do as it is told, and of what to
// do about it.
class PlaceRefusals : public PlaceStand {
 protected:
  void ExpectRefused(const std::string& said) {
    const char* const wrong[] = {"the login shell did not run our command",
                                 "the place's login shell runs neither bash nor sh"};
    const char* const next[] = {"See what `ssh HOST 'echo ok'` says", "needs bash or sh"};
    for (const bool plain : {false, true}) {
      const char* engine = plain ? "plain" : "runner";
      SCOPED_TRACE(engine);
      const absl::Status opened = TryOpen(engine);
      EXPECT_EQ(ReasonOf(opened), Reason::k_CAPABILITY_MISSING) << opened;
      EXPECT_THAT(std::string(opened.message()), AllOf(StartsWith(wrong[plain]), HasSubstr(said)));
      EXPECT_THAT(MetadataOf(opened)["next"],
                  AllOf(HasSubstr(next[plain]), HasSubstr("no nologin, no forced command")));
    }
  }
};

TEST_F(PlaceRefusals, NologinIsSaid) {
  MakeAccount({.shell = "/usr/sbin/nologin"});
  Serve();
  ExpectRefused("it said: This account is currently not available");
}

TEST_F(PlaceRefusals, AForcedCommandIsSaid) {
  Serve({"ForceCommand echo only backups here"});
  ExpectRefused("it said: only backups here");
}

TEST_F(PlaceRefusals, ASilentForcedCommandIsSaid) {
  Serve({"ForceCommand cat >/dev/null"});
  ExpectRefused("it said nothing");
}

TEST_F(PlaceRefusals, AnAccountForFilesOnlyIsSaid) {
  Serve({"ForceCommand internal-sftp"});
  ExpectRefused("it said: This service allows sftp connections only.");
}

TEST_F(PlaceRefusals, StartFilesThatExitAreSaid) {
  MakeAccount();
  account().WriteHomeFile(".bashrc", "echo the start file gives up\nexit 3\n");
  Serve();
  ExpectRefused("it said: the start file gives up");
}

// Nothing that is not text reaches who reads the error.
TEST_F(PlaceRefusals, OddBytesOfAHostAreShownAsNone) {
  MakeAccount();
  account().WriteHomeFile(".bashrc", "printf 'odd \\033[31m \\374 \\302\\205 bytes'\nexit 3\n");
  Serve();
  for (const char* engine : {"runner", "plain"}) {
    const absl::Status opened = TryOpen(engine);
    const std::string text(opened.message());
    EXPECT_THAT(text, AllOf(HasSubstr("it said: odd "), HasSubstr("bytes")));
    for (const char c : text) EXPECT_TRUE(c >= 0x20 && c <= 0x7e) << engine << ": " << text;
  }
}

// A host that knows how we ask and answers what suits it.
TEST_F(PlaceRefusals, AHostThatAnswersWhatIsNotSoIsSaid) {
  struct Case {
    const char* answer;  // a line of shell; $2: the nonce
    const char* wrong;
    const char* next;
  };
  const Case cases[] = {
      {"echo @$2:put:mips:Linux:::/x", "asks for a program that it was not offered",
       "--runner never"},
      {"echo @$2:put:x86_64:Plan9:::/x", "asks for a program that it was not offered",
       "--runner never"},
      {"echo @$2:put:x86_64:Linux:::/x; cat >/dev/null & echo @$2:bad",
       "could not be stored undamaged below /x: is the disk full?", "Give it room"},
      {"echo @$2:none:mips:Linux:::no program for mips", "no program for mips", "--runner never"},
      {"echo @$2:ok; echo @$2:none; exit 5", "(it ended with 5); it said: @", "a login shell"},
  };
  MakeAccount();
  Serve({"ForceCommand sh " + account().home() + "/answer"});
  for (const Case& one : cases) {
    SCOPED_TRACE(one.answer);
    account().WriteHomeFile(
        "answer", "set -- ${SSH_ORIGINAL_COMMAND##*hermes }\n" + std::string(one.answer) + "\n");
    const absl::Status opened = TryOpen("runner");
    EXPECT_EQ(ReasonOf(opened), Reason::k_CAPABILITY_MISSING) << opened;
    EXPECT_THAT(std::string(opened.message()), HasSubstr(one.wrong));
    EXPECT_THAT(MetadataOf(opened)["next"], HasSubstr(one.next));
  }
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
