#include "sync/real_fs.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "tests/sync/land_stand.h"

namespace hermes::sync {
namespace {

namespace files = std::filesystem;

// Both ways to open a directory beneath a held one: the kernel's, and ours where it has none.
class OpenDirTest : public ::testing::TestWithParam<bool> {
 protected:
  int Open(int dir, const std::string& path) {
    int fd = GetParam() ? OpenDirByWalking(dir, path) : root_.fs().OpenDir(dir, path);
    handle_ = Handle(root_.fs(), fd);
    return fd < 0 ? fd : 0;
  }
  RealRoot root_;
  Handle handle_;
};

INSTANTIATE_TEST_SUITE_P(Ways, OpenDirTest, ::testing::Bool());

TEST_P(OpenDirTest, FollowsNoLinkAnywhere) {
  files::create_directories(root_.Path("a/b"));
  files::create_directory_symlink("a", root_.Path("link"));
  files::create_directory_symlink("/", root_.Path("a/out"));
  PutFile(root_.fs(), root_.fd(), "file", {"x"});
  EXPECT_EQ(Open(root_.fd(), ""), 0);
  EXPECT_EQ(Open(root_.fd(), "a/b"), 0);
  for (const char* path : {"link", "link/b", "a/out", "a/out/etc", "file", "file/x"}) {
    int rc = Open(root_.fd(), path);
    EXPECT_TRUE(rc == -ELOOP || rc == -ENOTDIR) << path << " " << rc;
  }
  EXPECT_EQ(Open(root_.fd(), "none"), -ENOENT);
  EXPECT_EQ(Open(root_.fd(), "a/none/b"), -ENOENT);
}

TEST_P(OpenDirTest, StaysOnOneFileSystem) {
  struct stat top = {};
  struct stat proc = {};
  ASSERT_EQ(stat("/", &top), 0);
  if (stat("/proc", &proc) != 0 || proc.st_dev == top.st_dev) GTEST_SKIP() << "no /proc here";
  Handle slash(root_.fs(), open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_EQ(Open(slash.get(), "proc"), -EXDEV);
}

TEST(RealFsTest, OpensNoFifoForLong) {
  RealRoot root;
  ASSERT_EQ(mkfifo(root.Path("fifo").c_str(), 0600), 0);
  Handle fifo(root.fs(), root.fs().OpenFile({root.fd(), "fifo"}, Fs::Access::kRead));
  ASSERT_TRUE(fifo.valid());  // at once, without a writer
  FileStat stat;
  ASSERT_EQ(root.fs().Stat(fifo.get(), &stat), 0);
  EXPECT_EQ(stat.type, FileStat::Type::kOther);
}

TEST(RealFsTest, ALockEndsWithItsHandle) {
  RealRoot root;
  Handle one(root.fs(), root.fs().OpenDir(root.fd(), ""));
  Handle two(root.fs(), root.fs().OpenDir(root.fd(), ""));
  EXPECT_EQ(root.fs().TryLock(one.get()), 0);
  EXPECT_EQ(root.fs().TryLock(two.get()), -EWOULDBLOCK);
  one.Reset();
  EXPECT_EQ(root.fs().TryLock(two.get()), 0);
}

}  // namespace
}  // namespace hermes::sync
