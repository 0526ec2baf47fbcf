// Mounts of one session whose paths do not say that they lead to the same files.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class MountAliasTest : public SyncStand {
 protected:
  MountAliasTest() { fs::create_directories(Host("real/sub")); }

  Mount Of(const std::string& id, const std::string& host, Policy policy) const {
    Mount mount{.id = id, .host_root = Host(host), .remote_root = dir_ + "/far/" + id};
    mount.policy = policy;
    return mount;
  }
  absl::Status Check(const std::vector<Mount>& mounts) {
    const absl::StatusOr<MountTable> table = MountTable::Make(mounts);
    EXPECT_TRUE(table.ok()) << "their texts say nothing: " << table.status();
    return Run(pairs_->Check(mounts));
  }
};

TEST_F(MountAliasTest, ALinkToARootThatAPullWritesIsRefusedWithBothNames) {
  fs::create_symlink(Host("real"), Host("link"));
  fs::create_symlink(Host("real/sub"), Host("deep"));
  fs::create_symlink(Host(""), Host("up"));
  for (const char* alias : {"link", "deep"}) {
    const absl::Status refused =
        Check({Of("keys", "real", Policy::kPush), Of("work", alias, Policy::kTwoWay)});
    ASSERT_EQ(ReasonOf(refused), Reason::k_BAD_FIELD) << alias << refused;
    EXPECT_EQ(MetadataOf(refused)["field"], "mounts[1].host_root");
    EXPECT_EQ(MetadataOf(refused)["mount"], "work");
    EXPECT_THAT(refused.message(), HasSubstr("'work'"));
    EXPECT_THAT(refused.message(), HasSubstr("'keys'"));
    EXPECT_EQ(ReasonOf(Check({Of("out", alias, Policy::kPull), Of("keys", "real", Policy::kPush)})),
              Reason::k_BAD_FIELD);
  }
  EXPECT_EQ(
      ReasonOf(Check({Of("keys", "real/sub", Policy::kPush), Of("w", "link", Policy::kPull)})),
      Reason::k_BAD_FIELD)
      << "what lies below it is written, too";
  EXPECT_TRUE(Check({Of("a", "real", Policy::kPush), Of("b", "link", Policy::kPush)}).ok());
}

TEST_F(MountAliasTest, ACredentialThatIsALinkIntoATwoWayMountIsRefused) {
  fs::create_directories(Host("h/skills"));
  fs::create_directories(Host("h/cache"));
  Spit(Host("h/skills/token"), "secret");
  fs::create_symlink("skills/token", Host("h/token"));
  std::vector<Mount> mounts = *ExpandProfile({.home = Host("h"), .credentials = {"token"}});
  mounts = MountTable::Make(mounts)->mounts();
  const absl::Status refused = Run(pairs_->Check(mounts));
  EXPECT_EQ(ReasonOf(refused), Reason::k_BAD_FIELD) << refused;
  EXPECT_EQ(MetadataOf(refused)["mount"], "token");
  fs::remove(Host("h/token"));
  Spit(Host("h/token"), "secret");
  EXPECT_TRUE(Run(pairs_->Check(mounts)).ok());
}

TEST_F(MountAliasTest, APathThatBecameAnAliasSinceIsRefusedWhenItIsOpened) {
  fs::create_directory(Host("link"));
  const std::vector<Mount> mounts = {Of("keys", "real", Policy::kPush),
                                     Of("work", "link", Policy::kTwoWay)};
  ASSERT_TRUE(Check(mounts).ok());
  EXPECT_TRUE(TryManager(mounts, "session").ok());
  fs::remove(Host("link"));
  fs::create_symlink("real", Host("link"));
  const auto manager = TryManager(mounts, "session");
  EXPECT_EQ(ReasonOf(manager.status()), Reason::k_BAD_FIELD) << manager.status();
}

TEST_F(MountAliasTest, FarRootsThatOverlapAreRefusedOnceTheHomeThereIsKnown) {
  fs::create_directory(Host("other"));
  std::vector<Mount> mounts = {Of("one", "real", Policy::kPush), Of("two", "other", Policy::kPull)};
  mounts[0].remote_root = "~/x";
  mounts[1].remote_root = "/home/user/x/y";
  ASSERT_TRUE(Check(mounts).ok());
  EXPECT_TRUE(CheckFarApart(mounts, "").ok()) << "nobody knows";
  for (const char* home : {"/home/user/", "/home/user"}) {
    far_home_ = home;
    const absl::Status refused = TryManager(mounts, "session").status();
    ASSERT_EQ(ReasonOf(refused), Reason::k_BAD_FIELD) << refused;
    EXPECT_EQ(MetadataOf(refused)["field"], "mounts[1].remote_root");
    EXPECT_THAT(refused.message(), HasSubstr("'one'"));
    EXPECT_THAT(refused.message(), HasSubstr("'two'"));
  }
  for (const char* home : {"/home/use", "/home/user/x", "/home", "home/user", "~", "/"})
    EXPECT_TRUE(CheckFarApart(mounts, home).ok()) << home;
  mounts[1].remote_root = "/x/y";
  EXPECT_FALSE(CheckFarApart(mounts, "/").ok());
}

}  // namespace
}  // namespace hermes::sync
