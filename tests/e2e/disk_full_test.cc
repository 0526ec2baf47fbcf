// A real full disk: a small tmpfs in a mount namespace of the test's own.

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"
#include "tests/e2e/flood.h"

namespace hermes {
namespace {

class DiskFullTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::unshare(CLONE_NEWNS) != 0)
      GTEST_SKIP() << "mounting needs root: " << std::strerror(errno);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(::mount("tmpfs", daemon_.dir().c_str(), "tmpfs", 0, "size=6m"), 0);
    daemon_.Start();
    daemon_.CreateSession("s");
    small_ = Shell("s", "echo small; exit 4");
    EXPECT_EQ(ExecuteToEnd(daemon_, small_).out, "small\n");
  }
  // What was acknowledged before is there, also for the next daemon.
  void TearDown() override {
    if (IsSkipped()) return;
    for (int round = 0; round < 2; ++round) {
      const Seen seen = ExecuteToEnd(daemon_, small_);
      EXPECT_EQ(seen.out, "small\n");
      EXPECT_EQ(seen.command.exit().code(), 4);
      EXPECT_EQ(daemon_.Terminate(), 0);
      if (round == 0) daemon_.Start();
    }
    ::umount2(daemon_.dir().c_str(), MNT_DETACH);
  }

  // Writes 20 MB, of which the disk takes 5 at most.
  v1::ExecuteRequest Flood(v1::OutputPolicy::Overflow overflow) const {
    v1::ExecuteRequest request = Shell("s", "seq 10000000 | head -c 20000000; exit 3");
    (*request.mutable_env())["FLOOD"] = cookie_;
    request.mutable_output()->set_overflow(overflow);
    return request;
  }
  bool Waits() const {
    return Eventually([this] { return LacksRoom() && AllWait("FLOOD=" + cookie_); });
  }
  bool LacksRoom() const {
    const std::string log = ReadWholeFile(daemon_.dir() + "/hermesd.log");
    return log.find("no room for its output") != std::string::npos;
  }
  // What was kept is the beginning, and it is the same for the next who asks.
  void ExpectBeginning(const v1::ExecuteRequest& request, const Seen& seen) const {
    EXPECT_GT(seen.out.size(), 1u << 20);
    EXPECT_TRUE(seen.out == Numbers(seen.out.size()));
    EXPECT_TRUE(seen.gap);
    EXPECT_TRUE(ExecuteToEnd(daemon_, request).out == seen.out);
  }

  DaemonProcess daemon_;
  v1::ExecuteRequest small_;
  const std::string cookie_ = NewUuid();
};

TEST_F(DiskFullTest, OutputIsDroppedResultsAreKeptAndNothingStartsUnrecorded) {
  v1::ExecuteRequest big = Flood(v1::OutputPolicy::DROP_MIDDLE);
  Seen seen = ExecuteToEnd(daemon_, big);
  EXPECT_EQ(seen.finished, 1);
  EXPECT_EQ(seen.command.exit().code(), 3);
  EXPECT_TRUE(seen.gap) << "more was kept than the disk holds";

  std::string filler = daemon_.dir() + "/filler";
  std::ofstream fill(filler, std::ios::binary);
  while (fill.write(std::string(4096, 'x').data(), 4096).flush()) {
  }
  seen = ExecuteToEnd(daemon_, Shell("s", "echo ran >>" + daemon_.dir() + "/ran"), 1);
  EXPECT_EQ(seen.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(seen.status.error_message().find("full"), std::string::npos);
  EXPECT_FALSE(std::ifstream(daemon_.dir() + "/ran").good()) << "started without a record";

  fill.close();  // an open file keeps its space
  ::unlink(filler.c_str());
  EXPECT_EQ(ExecuteToEnd(daemon_, Shell("s", "echo small")).out, "small\n");
  seen = ExecuteToEnd(daemon_, big);
  EXPECT_EQ(seen.command.exit().code(), 3) << "an acknowledged result was forgotten";
}

TEST_F(DiskFullTest, UnderKillTheCommandIsKilledAndOthersRun) {
  const v1::ExecuteRequest big = Flood(v1::OutputPolicy::KILL);
  const Seen seen = ExecuteToEnd(daemon_, big);
  EXPECT_EQ(seen.command.state(), v1::Command::KILLED);
  EXPECT_EQ(seen.command.exit().cause(), v1::Exit::OUTPUT_LIMIT);
  EXPECT_TRUE(seen.command.exit().tree().verified());
  ExpectBeginning(big, seen);
  EXPECT_EQ(ExecuteToEnd(daemon_, Shell("s", "echo on")).out, "on\n");
}

TEST_F(DiskFullTest, UnderBlockProcessTheCommandWaitsForRoomAndNothingOfItIsLost) {
  const v1::ExecuteRequest big = Flood(v1::OutputPolicy::BLOCK_PROCESS);
  Seen seen;
  std::thread client([&] { seen = ExecuteToEnd(daemon_, big); });
  EXPECT_TRUE(Waits());
  EXPECT_EQ(ExecuteToEnd(daemon_, Shell("s", "echo on")).out, "on\n");
  EXPECT_TRUE(Waits()) << "it did not wait";
  EXPECT_EQ(::mount("tmpfs", daemon_.dir().c_str(), "tmpfs", MS_REMOUNT, "size=64m"), 0);
  client.join();
  EXPECT_EQ(seen.command.exit().code(), 3);
  EXPECT_FALSE(seen.gap);
  EXPECT_TRUE(seen.out == Numbers(20'000'000)) << seen.out.size() << " bytes";
  EXPECT_EQ(ExecuteToEnd(daemon_, big).out.size(), 20'000'000u);
}

TEST_F(DiskFullTest, UnderBlockProcessACancelDoesNotWaitForRoom) {
  const v1::ExecuteRequest big = Flood(v1::OutputPolicy::BLOCK_PROCESS);
  Seen seen;
  std::thread client([&] { seen = ExecuteToEnd(daemon_, big); });
  EXPECT_TRUE(Waits());
  CancelOrTerminate(daemon_);
  client.join();
  EXPECT_EQ(seen.command.state(), v1::Command::KILLED);
  EXPECT_EQ(seen.command.exit().cause(), v1::Exit::CANCELLED);
  ExpectBeginning(big, seen);
}

}  // namespace
}  // namespace hermes
