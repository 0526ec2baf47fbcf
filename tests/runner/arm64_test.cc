#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

// The arm64 program under user-mode emulation: what it starts are programs of this machine.
class Arm64Test : public RunnerTest {
 protected:
  void SetUp() override {
    std::string program = RunnerProgram() + "-aarch64";
    std::string emulator = "/usr/bin/qemu-aarch64";
    if (!std::filesystem::exists(program)) GTEST_SKIP() << "no arm64 runner in this build";
    if (!std::filesystem::exists(emulator)) GTEST_SKIP() << "no qemu-aarch64";
    char name[] = "/tmp/hermes-runner-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory = name;
    home = directory + "/home";
    std::filesystem::create_directory(home);
    ASSERT_EQ(RunProgram({emulator, program, "serve", directory}, home), 0);
    Connect();
    OpenSession();
  }
  void TearDown() override {
    if (!directory.empty()) RunnerTest::TearDown();
  }
};

TEST_F(Arm64Test, RunsACommandToItsEnd) {
  const Result& result = Run("echo out; echo err >&2; exit 7");
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(result.exit->value, 7);
}

TEST_F(Arm64Test, KeepsState) {
  EXPECT_EQ(Run("export A='x y'; cd /usr; f() { echo f$1; }").exit->state_committed, 1);
  EXPECT_EQ(Run("echo $A; pwd; f 1").out, "x y\n/usr\nf1\n");
}

TEST_F(Arm64Test, KillsATree) {
  uint32_t command = client->Start(Shell("setsid sleep 1000 & sleep 1000 & echo ready; wait"));
  ASSERT_TRUE(client->Until(command, [](const Result& r) { return r.out == "ready\n"; }));
  client->Kill(command, 100);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].killed->survivors, 0u);
  EXPECT_EQ(client->results[command].exit->cause, frames::Cause::kCancelled);
}

TEST_F(Arm64Test, OpensATerminal) {
  frames::Start start = Shell("stty size");
  start.pty = 1;
  start.cols = 90;
  start.rows = 20;
  EXPECT_EQ(client->Finish(start).out, "20 90\r\n");
}

TEST_F(Arm64Test, CarriesOutputBeyondTheWindow) {
  EXPECT_EQ(Run("head -c 5000000 /dev/zero").out.size(), 5'000'000u);
}

}  // namespace
}  // namespace hermes::test
