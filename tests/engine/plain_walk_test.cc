// The plain engine's walk over real processes, by real shells.

#include <signal.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "backends/engine/plain_text.h"
#include "tests/fakes/temp_dir.h"

namespace hermes::plain {
namespace {

class PlainWalk : public testing::TestWithParam<const char*> {
 protected:
  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name), std::ios::binary) << text;
  }
  std::string Read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(Path(name), std::ios::binary).rdbuf();
    return text.str();
  }

  TempDir dir_;
};

// A child whose number comes first where numbers are sorted as text: 99 starts 100. Numbers of our
// own are those of a namespace; `kill` only tells whom it would meet.
TEST_P(PlainWalk, AParentIsSignalledBeforeItsChildWhateverTheirNumbers) {
  if (std::system("unshare --pid --fork --mount-proc true 2>/dev/null") != 0) {
    GTEST_SKIP() << "no process numbers of our own here";
  }
  Write("signal.sh", "kill() { echo \"$*\"; }\n" +
                         SignalText("-", {.roots = " 99 ", .cookie = "no such"}, SIGHUP, true));
  Write("world.sh",
        "cd " + dir_.path() + "\nmkfifo started\necho 98 >/proc/sys/kernel/ns_last_pid\n" +
            "/bin/sh -c 'sleep 60 & echo $! >child; echo >started; wait' & echo $! >parent\n" +
            "read go <started\n" + GetParam() + " signal.sh >told\n");
  ASSERT_EQ(
      std::system(
          ("unshare --pid --fork --kill-child --mount-proc /bin/sh " + Path("world.sh")).c_str()),
      0);
  ASSERT_EQ(Read("parent"), "99\n");
  ASSERT_EQ(Read("child"), "100\n");
  EXPECT_EQ(Read("told"), "-1 99\n-1 100\n-e0 0 0\n");
}

INSTANTIATE_TEST_SUITE_P(Shells, PlainWalk,
                         testing::Values("/bin/dash", "/bin/bash", "/bin/busybox sh"),
                         [](const auto& info) { return "Shell" + std::to_string(info.index); });

}  // namespace
}  // namespace hermes::plain
