#include "sync/host_root.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "daemon/runtime/status.h"
#include "tests/fakes/temp_dir.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

class HostRootTest : public ::testing::Test {
 protected:
  HostRootTest() {
    for (const char* name : {"home/me/.ssh", "home/me/data/in", "home/you/x", "state/db", "srv/d"})
      fs::create_directories(At(name));
    std::ofstream(At("home/me/token")) << "t";
    fence_ = {.homes = {At("home/me"), At("home/you")}, .own = {At("state")}};
  }

  std::string At(const std::string& name) const { return base_ + "/" + name; }

  absl::StatusOr<HostRoot> Open(const std::string& name, Policy policy = Policy::kPush,
                                MountKind kind = MountKind::kAny) const {
    Mount mount;
    mount.host_root = At(name);
    mount.remote_root = remote_root_;
    mount.policy = policy;
    mount.kind = kind;
    return HostRoot::Open(mount, fence_);
  }

  std::string Refusal(const std::string& name, Policy policy = Policy::kPush) const {
    const absl::StatusOr<HostRoot> root = Open(name, policy);
    EXPECT_EQ(ReasonOf(root.status()), Reason::k_BAD_FIELD) << name;
    return std::string(root.status().message());
  }

  TempDir dir_;
  std::string base_ = fs::canonical(dir_.path()).string();
  HostFence fence_;
  std::string remote_root_ = "/r";
};

TEST_F(HostRootTest, HoldsADirectory) {
  const absl::StatusOr<HostRoot> root = Open("home/me/data");
  ASSERT_TRUE(root.ok()) << root.status();
  EXPECT_EQ(root->path(), At("home/me/data"));
  EXPECT_EQ(root->only(), std::nullopt);
  struct stat held;
  ASSERT_EQ(fstatat(root->fd(), "in", &held, 0), 0);
  EXPECT_TRUE(root->CheckSame().ok());
}

TEST_F(HostRootTest, HoldsAFileByItsDirectory) {
  remote_root_ = "/r/token";
  const absl::StatusOr<HostRoot> root = Open("home/me/token");
  ASSERT_TRUE(root.ok()) << root.status();
  EXPECT_EQ(root->path(), At("home/me"));
  EXPECT_EQ(root->only()->str(), "token");
  EXPECT_EQ(root->kind(), MountKind::kFile);
  remote_root_ = "/r/other";
  EXPECT_NE(Refusal("home/me/token").find("keeps its name"), std::string::npos);
}

// In a child with mounts of its own: 0 they overlap, 1 they do not, 77 there are no mounts.
int OverlapByBind(const std::string& from, const std::string& to, const std::string& other) {
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", "", MS_REC | MS_PRIVATE, "") != 0 ||
        mount(from.c_str(), to.c_str(), "", MS_BIND, "") != 0)
      _exit(77);
    Mount one{.host_root = to, .remote_root = "/one"};
    Mount two{.host_root = other, .remote_root = "/two"};
    const absl::StatusOr<HostRoot> first = HostRoot::Open(one, {});
    const absl::StatusOr<HostRoot> second = HostRoot::Open(two, {});
    _exit(first.ok() && second.ok() && Overlap(*first, *second) ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(HostRootTest, KnowsADirectoryUnderAnotherNameByABindMount) {
  const int same = OverlapByBind(At("home/me/data"), At("srv/d"), At("home/me/data"));
  if (same == 77) GTEST_SKIP() << "no mounts of our own here";
  EXPECT_EQ(same, 0);
  EXPECT_EQ(OverlapByBind(At("home/me/data"), At("srv/d"), At("home/me/data/in")), 0);
  EXPECT_EQ(OverlapByBind(At("home/me/data/in"), At("srv/d"), At("home/me/data")), 0)
      << "only the file system itself still knows where that lies";
  EXPECT_EQ(OverlapByBind(At("home/me/data"), At("srv/d"), At("home/you/x")), 1);
}

TEST_F(HostRootTest, ResolvesLinksOnce) {
  fs::create_directory_symlink(At("srv/d"), At("link"));
  const absl::StatusOr<HostRoot> root = Open("link");
  ASSERT_TRUE(root.ok()) << root.status();
  EXPECT_EQ(root->path(), At("srv/d"));
  fs::remove(At("link"));
  EXPECT_TRUE(root->CheckSame().ok());
}

TEST_F(HostRootTest, RefusesHomesAndWhatLiesAboveThem) {
  for (const char* name : {"home/me", "home/you", "home"})
    EXPECT_NE(Refusal(name).find("home"), std::string::npos) << name;
  Mount mount;
  mount.host_root = "/";
  EXPECT_FALSE(HostRoot::Open(mount, {}).ok());
}

TEST_F(HostRootTest, RefusesTheDaemonsOwnAndSshFromAboveAndBelow) {
  for (const char* name : {"state", "state/db", "home/me/.ssh"})
    EXPECT_NE(Refusal(name).find("no mount may"), std::string::npos) << name;
  fence_.homes.clear();
  EXPECT_NE(Refusal("home/me").find(".ssh"), std::string::npos);
  EXPECT_NE(Refusal(".").find("no mount may"), std::string::npos);
  std::ofstream(At("state/file")) << "x";
  EXPECT_NE(Refusal("state/file").find("no mount may"), std::string::npos);
}

TEST_F(HostRootTest, RefusesThemThroughLinksToo) {
  fs::create_directory_symlink(At("home/me/.ssh"), At("srv/d/keys"));
  fs::create_directory_symlink(At("home/me"), At("srv/d/home"));
  Refusal("srv/d/keys");
  Refusal("srv/d/home");
  fs::create_directory_symlink(At("state"), At("alias"));
  fence_.own = {At("alias")};
  Refusal("state/db");
}

TEST_F(HostRootTest, RefusesWhatIsNotThereOrOfAnotherKind) {
  EXPECT_NE(Refusal("srv/none").find("No such file"), std::string::npos);
  ASSERT_EQ(mkfifo(At("pipe").c_str(), 0600), 0);
  EXPECT_NE(Refusal("pipe").find("kind"), std::string::npos);
  EXPECT_FALSE(Open("srv/d", Policy::kPush, MountKind::kFile).ok());
  EXPECT_FALSE(Open("home/me/token", Policy::kPush, MountKind::kDirectory).ok());
}

TEST_F(HostRootTest, MakesTheLastPartOfWhatAPullMayWrite) {
  const absl::StatusOr<HostRoot> made = Open("srv/new", Policy::kPull);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(fs::status(At("srv/new")).permissions(), fs::perms::owner_all);
  Refusal("srv/two/parts", Policy::kPull);
  EXPECT_FALSE(fs::exists(At("srv/two")));
}

TEST_F(HostRootTest, KeepsAFileBeneathItsDirectory) {
  Mount mount;
  mount.policy = Policy::kPush;
  mount.beneath = At("home/me/data");
  fs::create_symlink(At("home/me/token"), At("home/me/data/out"));
  mount.host_root = At("home/me/data/out");
  EXPECT_NE(HostRoot::Open(mount, fence_).status().message().find("leads out"), std::string::npos);
  std::ofstream(At("home/me/data/in/key")) << "k";
  fs::create_symlink("in/key", At("home/me/data/ok"));
  mount.host_root = At("home/me/data/ok");
  mount.remote_root = "/r/key";
  EXPECT_TRUE(HostRoot::Open(mount, fence_).ok());
}

TEST_F(HostRootTest, NoticesThatItWasMovedReplacedOrRemoved) {
  const absl::StatusOr<HostRoot> root = Open("srv/d");
  ASSERT_TRUE(root.ok());
  fs::rename(At("srv/d"), At("srv/e"));
  EXPECT_EQ(ReasonOf(root->CheckSame()), Reason::k_SYNC_FAILED);
  fs::create_directory(At("srv/d"));
  EXPECT_FALSE(root->CheckSame().ok());
  fs::remove(At("srv/d"));
  fs::rename(At("srv/e"), At("srv/d"));
  EXPECT_TRUE(root->CheckSame().ok());
}

TEST_F(HostRootTest, KnowsTheHomesOfPeople) {
  const std::vector<std::string> homes = HomesOfPeople();
  EXPECT_FALSE(homes.empty());
  EXPECT_EQ(std::count(homes.begin(), homes.end(), "/nonexistent"), 0);
}

}  // namespace
}  // namespace hermes::sync
