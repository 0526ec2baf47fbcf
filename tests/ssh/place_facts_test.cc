// What a real host says of itself when it is asked for its runner: machine, system, login shell,
// tools and the directory; and that each is what a person finds there.

#include <sys/utsname.h>

#include <fstream>
#include <string>
#include <vector>

#include "backends/runner/blob.h"
#include "backends/ssh/ssh_runner.h"
#include "tests/hosts/busybox_root.h"
#include "tests/ssh/openssh_stand.h"

namespace hermes {
namespace {

using ssh::PlaceAnswer;
using testing::HasSubstr;

class PlaceFacts : public OpenSshStand {
 protected:
  void TearDown() override {
    if (account_ != nullptr) account_->KillProcesses();
    OpenSshStand::TearDown();
  }

  // As a link is made, without a session. `sent`: what arrives of the program, if that is not it.
  absl::StatusOr<ssh::FarRunner> Ask(ssh::Programs programs, ssh::Programs sent = {}) {
    if (sent.x86_64.empty()) sent = programs;
    const Connection connection = MustConnect(Target());
    const std::string nonce = random_.Hex(12);
    auto stream = RunTask(
        loop_,
        connection->Run(ssh::PlaceCommand(ssh::QuestionFor(programs, "facts-00000000", nonce))));
    if (!stream.ok()) GiveUp(std::string(stream.status().message()));
    return RunTask(loop_, ssh::AwaitRunner(clock_, *std::move(stream),
                                           {.programs = sent, .nonce = nonce, .wish = nullptr}));
  }
  static ssh::Programs Ours() { return {RunnerBinary("x86_64"), RunnerBinary("aarch64")}; }

  // Those of the tools that the account finds, in the order of the answer.
  std::string ToolsThere() {
    const Connection connection = MustConnect(Target());
    std::string tools = Execute(connection,
                                "sh -c 'PATH=$PATH:/usr/local/bin:/usr/bin:/bin; for t in bash "
                                "setsid tar rsync git sudo python3; do type $t >/dev/null 2>&1 && "
                                "printf ,$t; done'")
                            .out;
    return tools.empty() ? tools : tools.substr(1);
  }
};

TEST_F(PlaceFacts, AreWhatThereIs) {
  for (const std::string shell : {"/bin/bash", "/usr/bin/fish"}) {
    SCOPED_TRACE(shell);
    if (!TestAccount::IsOwn()) account_ = TestAccount::Make({.shell = shell});
    Serve();
    absl::StatusOr<ssh::FarRunner> far = Ask(Ours());
    ASSERT_TRUE(far.ok()) << far.status();
    utsname machine{};
    ASSERT_EQ(uname(&machine), 0);
    EXPECT_EQ(far->place.verdict, PlaceAnswer::Verdict::kPut);
    EXPECT_TRUE(far->uploaded);
    EXPECT_EQ(far->place.arch, machine.machine);
    EXPECT_EQ(far->place.os, machine.sysname);
    if (!TestAccount::IsOwn()) EXPECT_EQ(far->place.shell, shell);
    EXPECT_EQ(far->place.text, account_->home() + "/.cache/hermesd/facts-00000000");
    // This machine has them: the tests themselves need some.
    for (const char* tool : {"bash", "setsid", "tar"})
      EXPECT_THAT(far->place.tools, HasSubstr(tool));
    EXPECT_EQ(far->place.tools, ToolsThere());
    far->stream->Abort();
    far->stream.reset();
    far = Ask(Ours());  // it is there by now
    ASSERT_TRUE(far.ok()) << far.status();
    EXPECT_EQ(far->place.verdict, PlaceAnswer::Verdict::kRun);
    EXPECT_FALSE(far->uploaded);
    far->stream->Abort();
    far->stream.reset();
    account_->KillProcesses();
    server_.reset();
    if (TestAccount::IsOwn()) break;
  }
}

TEST_F(PlaceFacts, SudoIsTheAccountsToFind) {
  if (RunProgram({.argv = {"sh", "-c", "command -v sudo"}}).status != 0) {
    GTEST_SKIP() << "there is no sudo here";
  }
  Serve();
  absl::StatusOr<ssh::FarRunner> far = Ask(Ours());
  ASSERT_TRUE(far.ok()) << far.status();
  EXPECT_THAT(far->place.tools, HasSubstr("sudo"));
  far->stream->Abort();
}

TEST_F(PlaceFacts, AHostWithNothingButBusyboxHasOnlyItsTools) {
  if (std::string why = BusyboxRoot::Unsupported(); !why.empty()) GTEST_SKIP() << why;
  account_ = TestAccount::Make({.shell = "/bin/sh"});
  BusyboxRoot root(*account_);
  OpenSshOptions options;
  root.Configure(&options);
  Serve(options.lines, options);
  absl::StatusOr<ssh::FarRunner> far = Ask(Ours());
  ASSERT_TRUE(far.ok()) << far.status();
  EXPECT_EQ(far->place.shell, "/bin/sh");
  for (const char* tool : {"rsync", "git", "sudo", "python3"}) {
    EXPECT_THAT(far->place.tools, testing::Not(HasSubstr(tool)));
  }
  EXPECT_EQ(far->place.tools, ToolsThere());
  far->stream->Abort();
}

// As on a small system that has none of them: what the account finds under their names is no
// program.
class PlaceWithoutDigests : public PlaceFacts {
 protected:
  void SetUp() override {
    PlaceFacts::SetUp();
    if (IsSkipped()) return;
    if (RunProgram({.argv = {"unshare", "--mount", "true"}}).status != 0) {
      GTEST_SKIP() << "mount namespaces are refused here";
    }
    OpenSshOptions options;
    for (const char* tool : {"sha256sum", "openssl", "shasum"}) {
      for (const char* folder : {"/usr/local/bin/", "/usr/bin/", "/bin/"}) {
        const std::string path = std::string(folder) + tool;
        options.in_namespace += "[ ! -x " + path + " ] || mount --bind /dev/null " + path + "\n";
      }
    }
    Serve({}, options);
    const Connection connection = MustConnect(Target());
    ASSERT_EQ(Execute(connection, "for t in sha256sum openssl shasum; do $t </dev/null; done").out,
              "");
  }
};

// The one that was sent is asked for its own digest.
TEST_F(PlaceWithoutDigests, TheProgramIsBelievedByItsOwn) {
  for (const bool uploaded : {true, false}) {
    absl::StatusOr<ssh::FarRunner> far = Ask(Ours());
    ASSERT_TRUE(far.ok()) << far.status();
    EXPECT_EQ(far->uploaded, uploaded);
    far->stream->Abort();
    far->stream.reset();
    account_->KillProcesses();
  }
  const std::string path = RunProgram({.argv = {"find", account_->home() + "/.cache/hermesd/bin",
                                                "-type", "f", "-printf", "%p"}})
                               .out;
  std::string program = ReadWholeFile(path);
  program.back() = static_cast<char>(program.back() ^ 1);
  std::ofstream(path) << program;
  absl::StatusOr<ssh::FarRunner> far = Ask(Ours());
  ASSERT_TRUE(far.ok()) << far.status();
  EXPECT_TRUE(far->uploaded) << "it was damaged, and of the right size";
  far->stream->Abort();
}

// A byte that makes no difference to how it runs.
TEST_F(PlaceWithoutDigests, ADamagedOneIsRefusedAsItComes) {
  const ssh::Programs ours = Ours();
  std::string x86(ours.x86_64.begin(), ours.x86_64.end());
  std::string arm(ours.aarch64.begin(), ours.aarch64.end());
  for (std::string* image : {&x86, &arm}) {
    if (!image->empty()) image->back() = static_cast<char>(image->back() ^ 1);
  }
  const absl::Status refused = Ask(ours, {x86, arm}).status();
  EXPECT_EQ(ReasonOf(refused), Reason::k_CAPABILITY_MISSING) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("could not be stored undamaged"));
}

// A daemon that was built without a program for the machine says so, and the way out.
TEST_F(PlaceFacts, AMachineWithoutAProgramIsNamed) {
  Serve();
  const absl::Status none = Ask({}).status();
  utsname machine{};
  ASSERT_EQ(uname(&machine), 0);
  EXPECT_EQ(ReasonOf(none), Reason::k_CAPABILITY_MISSING) << none;
  EXPECT_THAT(std::string(none.message()),
              HasSubstr(std::string("no hermes-runner for Linux on ") + machine.machine));
  EXPECT_THAT(MetadataOf(none)["next"], HasSubstr("--runner never"));
}

}  // namespace
}  // namespace hermes
