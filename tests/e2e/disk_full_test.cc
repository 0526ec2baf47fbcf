// A real full disk: a small tmpfs in a mount namespace of the test's own.

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"

namespace hermes {
namespace {

TEST(DiskFullTest, OutputIsDroppedResultsAreKeptAndNothingStartsUnrecorded) {
  if (::unshare(CLONE_NEWNS) != 0) GTEST_SKIP() << "mounting needs root: " << std::strerror(errno);
  ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  DaemonProcess daemon;
  ASSERT_EQ(::mount("tmpfs", daemon.dir().c_str(), "tmpfs", 0, "size=6m"), 0);
  daemon.Start();
  daemon.CreateSession("s");

  v1::ExecuteRequest big = Shell("s", "head -c 20000000 /dev/zero; exit 3");
  Seen seen = ExecuteToEnd(daemon, big);
  EXPECT_EQ(seen.finished, 1);
  EXPECT_EQ(seen.command.exit().code(), 3);
  EXPECT_TRUE(seen.gap) << "more was kept than the disk holds";

  std::string filler = daemon.dir() + "/filler";
  std::ofstream fill(filler, std::ios::binary);
  while (fill.write(std::string(4096, 'x').data(), 4096).flush()) {
  }
  seen = ExecuteToEnd(daemon, Shell("s", "echo ran >>" + daemon.dir() + "/ran"), 1);
  EXPECT_EQ(seen.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(seen.status.error_message().find("full"), std::string::npos);
  EXPECT_FALSE(std::ifstream(daemon.dir() + "/ran").good()) << "started without a record";

  fill.close();  // an open file keeps its space
  ::unlink(filler.c_str());
  EXPECT_EQ(ExecuteToEnd(daemon, Shell("s", "echo small")).out, "small\n");
  seen = ExecuteToEnd(daemon, big);
  EXPECT_EQ(seen.command.exit().code(), 3) << "an acknowledged result was forgotten";
  EXPECT_EQ(daemon.Terminate(), 0);
  ::umount2(daemon.dir().c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace hermes
