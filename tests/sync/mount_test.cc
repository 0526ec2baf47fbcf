#include "sync/mount.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

// "HOST:REMOTE" or "HOST:REMOTE:push|pull|two-way".
Mount Made(std::string_view text) {
  const size_t first = text.find(':');
  const size_t second = std::min(text.find(':', first + 1), text.size());
  Mount mount;
  mount.host_root = text.substr(0, first);
  mount.remote_root = text.substr(first + 1, second - first - 1);
  const std::string_view policy = text.substr(second);
  if (policy == ":push") mount.policy = Policy::kPush;
  if (policy == ":pull") mount.policy = Policy::kPull;
  return mount;
}

// The field that was refused; empty: nothing was.
std::string Refused(const absl::Status& status) {
  if (status.ok()) return "";
  EXPECT_EQ(ReasonOf(status), Reason::k_BAD_FIELD) << status;
  return MetadataOf(status)["field"];
}

std::string RefusedTable(const std::vector<std::string>& texts) {
  std::vector<Mount> mounts;
  for (const std::string& text : texts) mounts.push_back(Made(text));
  return Refused(MountTable::Make(mounts).status());
}

TEST(MountTest, PutsPathsInNormalForm) {
  const absl::StatusOr<Mount> mount = CheckedMount(Made("/srv/a b/:~/x//:pull"));
  EXPECT_EQ(mount->host_root, "/srv/a b");
  EXPECT_EQ(mount->remote_root, "~/x");
  EXPECT_FALSE(mount->WritesRemote());
  EXPECT_FALSE(CheckedMount(Made("/a:/b:push"))->WritesHost());
}

TEST(MountTest, RefusesPathsThatAreNoRoots) {
  for (const std::string& host :
       std::vector<std::string>{"", "a", "/", "//", "/a//b", "/a/../b", "/a/.", "~", "~you/a",
                                "~/a", std::string("/a\0b", 4)}) {
    EXPECT_EQ(Refused(CheckedMount(Made(host + ":/b")).status()), "host_root") << host;
  }
  for (const std::string remote : {"", "b", "/", "~", "~/", "~/../b", "/b/..", "~you/b"})
    EXPECT_EQ(Refused(CheckedMount(Made("/a:" + remote)).status()), "remote_root") << remote;
}

TEST(MountTest, RefusesRulesThatContradictEachOther) {
  Mount mount = Made("/a:/b");
  mount.links = LinkPolicy::kFollowHost;
  EXPECT_EQ(Refused(CheckedMount(mount).status()), "links");
  mount.policy = Policy::kPush;
  EXPECT_TRUE(CheckedMount(mount).ok());
  mount.max_bytes = 0;
  EXPECT_EQ(Refused(CheckedMount(mount).status()), "max_files");
  mount = Made("/a/x:/b/y");
  mount.kind = MountKind::kFile;
  EXPECT_EQ(Refused(CheckedMount(mount).status()), "remote_root");
  mount.kind = MountKind::kDirectory;
  mount.ignore = {"a/../b"};
  EXPECT_EQ(Refused(CheckedMount(mount).status()), "ignore");
}

TEST(MountTest, ProfileNamesSkillsAndCacheTwoWayAndCredentialsPushOnly) {
  const absl::StatusOr<std::vector<Mount>> mounts =
      ExpandProfile({.home = "/home/me/.hermes", .credentials = {"token.json", "a/b.json"}});
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  ASSERT_EQ(mounts->size(), 4u);
  EXPECT_EQ((*mounts)[0].host_root, "/home/me/.hermes/skills");
  EXPECT_EQ((*mounts)[0].remote_root, "~/.hermes/skills");
  EXPECT_EQ((*mounts)[0].policy, Policy::kTwoWay);
  EXPECT_EQ((*mounts)[1].host_root, "/home/me/.hermes/cache");
  EXPECT_EQ((*mounts)[2].host_root, "/home/me/.hermes/token.json");
  EXPECT_EQ((*mounts)[3].remote_root, "~/.hermes/a/b.json");
  for (size_t i : {2u, 3u}) {
    EXPECT_EQ((*mounts)[i].kind, MountKind::kFile);
    EXPECT_EQ((*mounts)[i].policy, Policy::kPush);
    EXPECT_EQ((*mounts)[i].beneath, "/home/me/.hermes");
  }
  EXPECT_TRUE(MountTable::Make(*mounts).ok());
}

TEST(MountTest, ProfileRefusesCredentialsOutsideTheAgentsHome) {
  for (const char* name : {"/etc/shadow", "../.ssh/id", "a/../../b", ""}) {
    const absl::Status status = ExpandProfile({.home = "/h", .credentials = {"ok", name}}).status();
    EXPECT_EQ(ReasonOf(status), Reason::k_PATH_ESCAPES_ROOT);
    EXPECT_EQ(MetadataOf(status)["field"], "credentials[1]");
  }
  EXPECT_EQ(Refused(ExpandProfile({.home = "h"}).status()), "home");
  EXPECT_EQ(Refused(ExpandProfile({.home = "/h", .remote_home = "~"}).status()), "remote_home");
}

TEST(MountTableTest, NamesMountsByTheirRemoteRoots) {
  const absl::StatusOr<MountTable> table =
      MountTable::Make({Made("/1:/x/Skills"), Made("/2:/y/skills"), Made("/3:/x/-\xff-")});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->mounts()[0].id, "skills");
  EXPECT_EQ(table->mounts()[1].id, "skills-2");
  EXPECT_EQ(table->mounts()[2].id, "mount");
}

TEST(MountTableTest, RefusesWhatOverlaps) {
  EXPECT_EQ(RefusedTable({"/a:/x", "/b:/x"}), "mounts[1].remote_root");
  EXPECT_EQ(RefusedTable({"/a:/x", "/b:/x/y"}), "mounts[1].remote_root");
  EXPECT_EQ(RefusedTable({"/a:/x", "/b:/xy"}), "");
  EXPECT_EQ(RefusedTable({"/a:~/x", "/b:/home/user/x/y"}), "");
  EXPECT_EQ(RefusedTable({"/a:/x:push", "/a/b:/y:push"}), "");
  EXPECT_EQ(RefusedTable({"/a:/x:push", "/a/b:/y:pull"}), "mounts[1].host_root");
  EXPECT_EQ(RefusedTable({"/a:/x", "/a:/y:push"}), "mounts[1].host_root");
}

TEST(MountTableTest, RefusesDuplicateIdsAndTooMany) {
  Mount a = Made("/a:/x");
  Mount b = Made("/b:/y");
  a.id = b.id = "twin";
  EXPECT_EQ(Refused(MountTable::Make({a, b}).status()), "mounts[1].id");
  std::vector<Mount> mounts;
  for (size_t i = 0; i <= kMaxMounts; ++i)
    mounts.push_back(Made("/a" + std::to_string(i) + ":/x" + std::to_string(i)));
  EXPECT_EQ(Refused(MountTable::Make(mounts).status()), "mounts");
  mounts.pop_back();
  EXPECT_TRUE(MountTable::Make(mounts).ok());
}

}  // namespace
}  // namespace hermes::sync
