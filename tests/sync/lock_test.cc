#include "sync/lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"
#include "tests/sync/python_holder.h"

namespace hermes::sync {
namespace {

namespace files = std::filesystem;

class LockTest : public ::testing::Test {
 protected:
  LockTest() {
    std::string name = ::testing::TempDir() + "hermes-lock-XXXXXX";
    CHECK(mkdtemp(name.data()) != nullptr);
    dir_ = name;
    path_ = dir_ + "/.sync.lock";
  }
  ~LockTest() override { files::remove_all(dir_); }

  std::optional<Reason> ReasonNow(const LockRequest& request) {
    return ReasonOf(locks_.TryAcquire(request).status());
  }

  std::string dir_;
  std::string path_;
  SyncLocks locks_;
};

TEST_F(LockTest, IsRefusedWhileALivePythonProcessHoldsIt) {
  PythonHolder python(path_);
  ASSERT_TRUE(python.Says('L'));
  absl::Status held = locks_.TryAcquire({path_, {}}).status();
  EXPECT_EQ(ReasonOf(held), Reason::k_SYNC_HELD);
  if (Metadata told = MetadataOf(held); told.contains("pid")) {  // not every kernel tells
    EXPECT_EQ(told["pid"], std::to_string(python.pid()));
  }
  python.Tell();
  ASSERT_TRUE(python.Says('U'));
  EXPECT_TRUE(locks_.TryAcquire({path_, {}}).ok());
}

TEST_F(LockTest, KeepsALivePythonProcessWaiting) {
  auto lock = std::make_unique<SyncLock>(*locks_.TryAcquire({path_, {}}));
  PythonHolder python(path_);
  ASSERT_TRUE(python.Says('H'));  // it truncated the file, which nobody minds, and found it held
  lock.reset();
  EXPECT_TRUE(python.Says('L'));
}

TEST_F(LockTest, NeitherWritesNorRemovesTheFile) {
  {
    std::ofstream(path_) << "somebody's notes";
  }
  const auto time = files::last_write_time(path_);
  {
    ASSERT_TRUE(locks_.TryAcquire({path_, {}}).ok());
  }
  std::ifstream in(path_);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "somebody's notes");
  EXPECT_EQ(files::last_write_time(path_), time);
}

TEST_F(LockTest, MakesTheFileForThisAccountAlone) {
  const std::string path = dir_ + "/.hermes/.sync.lock";
  ASSERT_TRUE(locks_.TryAcquire({path, {}}).ok());
  struct stat st = {};
  ASSERT_EQ(stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
  ASSERT_EQ(stat((dir_ + "/.hermes").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0700u);
}

TEST_F(LockTest, RefusesALinkAFifoADirectoryAndAnotherAccountsFile) {
  files::create_symlink(dir_ + "/elsewhere", path_);
  EXPECT_EQ(ReasonNow({path_, {}}), Reason::k_SYNC_FAILED);
  EXPECT_FALSE(files::exists(dir_ + "/elsewhere"));
  files::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(ReasonNow({path_, {}}), Reason::k_SYNC_FAILED);
  files::remove(path_);
  files::create_directory(path_);
  EXPECT_EQ(ReasonNow({path_, {}}), Reason::k_SYNC_FAILED);
  files::remove(path_);
  EXPECT_EQ(ReasonNow({dir_ + "/no/such/dir", {}}), Reason::k_SYNC_FAILED);
  if (geteuid() == 0) {
    {
      std::ofstream file(path_);
    }
    ASSERT_EQ(chown(path_.c_str(), 65534, 65534), 0);
    EXPECT_EQ(ReasonNow({path_, {}}), Reason::k_SYNC_FAILED);
  }
}

TEST_F(LockTest, ExcludesItselfAndLetsGo) {
  {
    auto first = locks_.TryAcquire({path_, {{1, 2}}});
    ASSERT_TRUE(first.ok());
    SyncLock moved = *std::move(first);
    EXPECT_EQ(ReasonNow({path_, {{1, 3}}}), Reason::k_SYNC_HELD);
    EXPECT_EQ(ReasonNow({"", {{1, 2}}}), Reason::k_SYNC_HELD);
  }
  EXPECT_TRUE(locks_.TryAcquire({path_, {{1, 2}}}).ok());
}

TEST_F(LockTest, RootsExcludeOnlyThemselves) {
  auto one = locks_.TryAcquire({"", {{1, 1}, {1, 2}}});
  ASSERT_TRUE(one.ok());
  auto other = locks_.TryAcquire({"", {{1, 3}}});
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(ReasonNow({"", {{1, 2}, {1, 4}}}), Reason::k_SYNC_HELD);
  EXPECT_TRUE(locks_.TryAcquire({"", {{1, 4}}}).ok());  // a refused request claims nothing
}

TEST_F(LockTest, AFailedFileClaimsNoRoot) {
  files::create_directory(path_);
  EXPECT_EQ(ReasonNow({path_, {{1, 1}}}), Reason::k_SYNC_FAILED);
  EXPECT_TRUE(locks_.TryAcquire({"", {{1, 1}}}).ok());
}

TEST_F(LockTest, OneAtATimeAmongManyThreads) {
  std::atomic<int> inside = 0;
  std::atomic<int> turns = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 5; ++turn) {
        std::optional<absl::StatusOr<SyncLock>> lock;
        do {
          lock.emplace(locks_.TryAcquire({path_, {{1, 1}}}));
        } while (ReasonOf(lock->status()) == Reason::k_SYNC_HELD);
        ASSERT_TRUE(lock->ok()) << lock->status();
        EXPECT_EQ(++inside, 1);
        ++turns;
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(turns, 40);
}

}  // namespace
}  // namespace hermes::sync
