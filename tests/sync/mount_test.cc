#include "sync/mount.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

constexpr std::string_view kHome = "/home/me";

Mount Parsed(std::string_view text) {
  const absl::StatusOr<Mount> mount = ParseMount(text, kHome);
  EXPECT_TRUE(mount.ok()) << text << ": " << mount.status();
  return mount.ok() ? *mount : Mount{};
}

// The field that was refused; empty: nothing was.
std::string Refused(const absl::Status& status) {
  if (status.ok()) return "";
  EXPECT_EQ(ReasonOf(status), Reason::k_BAD_FIELD) << status;
  return MetadataOf(status)["field"];
}

std::string RefusedText(std::string_view text) { return Refused(ParseMount(text, kHome).status()); }

std::string RefusedTable(const std::vector<std::string>& texts, std::string_view remote_home) {
  std::vector<Mount> mounts;
  for (const std::string& text : texts) mounts.push_back(Parsed(text));
  return Refused(MountTable::Make(mounts, remote_home).status());
}

TEST(MountTest, ReadsTheShortForm) {
  const Mount mount = Parsed("/srv/data:/data");
  EXPECT_EQ(mount.host_root, "/srv/data");
  EXPECT_EQ(mount.remote_root, "/data");
  EXPECT_EQ(mount.policy, Policy::kTwoWay);
  EXPECT_EQ(mount.conflict, ConflictPolicy::kRemote);
  EXPECT_EQ(mount.deletes, DeletePolicy::kGuarded);
  EXPECT_EQ(mount.links, LinkPolicy::kSkip);
  EXPECT_EQ(mount.kind, MountKind::kAny);
}

TEST(MountTest, ReadsPoliciesInAnyOrderBehindTheDirection) {
  const Mount mount = Parsed("~/a b/:~/x/:pull,deletes=report,conflict=both");
  EXPECT_EQ(mount.host_root, "/home/me/a b");
  EXPECT_EQ(mount.remote_root, "~/x");
  EXPECT_EQ(mount.policy, Policy::kPull);
  EXPECT_EQ(mount.conflict, ConflictPolicy::kBoth);
  EXPECT_EQ(mount.deletes, DeletePolicy::kReport);
  EXPECT_FALSE(mount.WritesRemote());
  EXPECT_FALSE(Parsed("/a:/b:push,conflict=abort").WritesHost());
}

TEST(MountTest, ReadsBackWhatItWrites) {
  for (const char* direction : {"push", "pull", "two-way"}) {
    for (const char* conflict : {"remote", "host", "both", "abort"}) {
      for (const char* deletes : {"guarded", "never", "report"}) {
        const std::string text =
            std::string("/a:~/b:") + direction + ",conflict=" + conflict + ",deletes=" + deletes;
        const bool contradiction = text.find("push,conflict=both") != std::string::npos;
        if (contradiction) {
          EXPECT_EQ(RefusedText(text), "conflict");
        } else {
          EXPECT_EQ(FormatMount(Parsed(text)), text);
        }
      }
    }
  }
}

TEST(MountTest, RefusesWhatItDoesNotUnderstand) {
  for (const char* text :
       {"", "/a", "/a:/b:", "/a:/b:both", "/a:/b:push,", "/a:/b:push:pull", "/a:/b:conflict=host",
        "/a:/b:push,conflict=", "/a:/b:push,deletes=all", "/a:/b:push,color=red"}) {
    EXPECT_EQ(RefusedText(text), "mount") << text;
  }
}

TEST(MountTest, RefusesPathsThatAreNoRoots) {
  for (const char* host : {"", "a", "/", "//", "/a//b", "/a/../b", "/a/.", "~", "~you/a"})
    EXPECT_EQ(RefusedText(std::string(host) + ":/b"), "host_root") << host;
  for (const char* remote : {"", "b", "/", "~", "~/", "~/../b", "/b/..", "~you/b"})
    EXPECT_EQ(RefusedText("/a:" + std::string(remote)), "remote_root") << remote;
  EXPECT_EQ(Refused(ParseMount("~/a:/b", "").status()), "host_root");
}

TEST(MountTest, RefusesRulesThatContradictEachOther) {
  Mount mount = Parsed("/a:/b");
  mount.links = LinkPolicy::kFollowHost;
  EXPECT_EQ(Refused(CheckedMount(mount).status()), "links");
  mount.policy = Policy::kPush;
  EXPECT_TRUE(CheckedMount(mount).ok());
  mount.max_bytes = 0;
  EXPECT_EQ(Refused(CheckedMount(mount).status()), "max_files");
  mount = Parsed("/a/x:/b/y");
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
  EXPECT_EQ(FormatMount((*mounts)[0]),
            "/home/me/.hermes/skills:~/.hermes/skills:two-way,conflict=remote,deletes=guarded");
  EXPECT_EQ((*mounts)[1].host_root, "/home/me/.hermes/cache");
  EXPECT_EQ((*mounts)[2].host_root, "/home/me/.hermes/token.json");
  EXPECT_EQ((*mounts)[3].remote_root, "~/.hermes/a/b.json");
  for (size_t i : {2u, 3u}) {
    EXPECT_EQ((*mounts)[i].kind, MountKind::kFile);
    EXPECT_EQ((*mounts)[i].policy, Policy::kPush);
    EXPECT_EQ((*mounts)[i].beneath, "/home/me/.hermes");
  }
  EXPECT_TRUE(MountTable::Make(*mounts, "/home/user").ok());
}

TEST(MountTest, ProfileRefusesCredentialsOutsideTheAgentsHome) {
  for (const char* name : {"/etc/shadow", "../.ssh/id", "a/../../b", ""}) {
    EXPECT_EQ(ReasonOf(ExpandProfile({.home = "/h", .credentials = {name}}).status()),
              Reason::k_PATH_ESCAPES_ROOT);
  }
}

TEST(MountTableTest, FindsPlacesPartByPart) {
  Mount file = Parsed("/h/token:~/.hermes/token:push");
  file.kind = MountKind::kFile;
  const absl::StatusOr<MountTable> table =
      MountTable::Make({Parsed("/h/skills:~/.hermes/skills"), file}, "/home/user");
  ASSERT_TRUE(table.ok()) << table.status();
  const auto place = table->Find("/home/user/.hermes/skills/a/b.md");
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->mount->host_root, "/h/skills");
  EXPECT_EQ(place->path.str(), "a/b.md");
  EXPECT_EQ(table->Find("/home/user/.hermes/token")->path.str(), "token");
  for (const char* elsewhere :
       {"/home/user/.hermes/skills", "/home/user/.hermes/skills-evil/x",
        "/home/user/.hermes/memories/x.md", "/home/user/.hermes/skills/../token",
        "/home/user/.hermes/skills/", "/home/user/.hermes/token/x", "/", "",
        "root/.hermes/skills/a", "/home/user/.hermes/skills//a"}) {
    EXPECT_FALSE(table->Find(elsewhere).has_value()) << elsewhere;
  }
}

TEST(MountTableTest, NamesMountsByTheirRemoteRoots) {
  const absl::StatusOr<MountTable> table = MountTable::Make(
      {Parsed("/1:/x/Skills"), Parsed("/2:/y/skills"), Parsed("/3:/x/-\xff-")}, "");
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->mounts()[0].id, "skills");
  EXPECT_EQ(table->mounts()[1].id, "skills-2");
  EXPECT_EQ(table->mounts()[2].id, "mount");
}

TEST(MountTableTest, RefusesWhatOverlaps) {
  EXPECT_EQ(RefusedTable({"/a:/x", "/b:/x"}, ""), "remote_root");
  EXPECT_EQ(RefusedTable({"/a:/x", "/b:/x/y"}, ""), "remote_root");
  EXPECT_EQ(RefusedTable({"/a:/x", "/b:/xy"}, ""), "");
  EXPECT_EQ(RefusedTable({"/a:~/x", "/b:/home/user/x/y"}, ""), "");
  EXPECT_EQ(RefusedTable({"/a:~/x", "/b:/home/user/x/y"}, "/home/user"), "remote_root");
  EXPECT_EQ(RefusedTable({"/a:/x:push", "/a/b:/y:push"}, ""), "");
  EXPECT_EQ(RefusedTable({"/a:/x:push", "/a/b:/y:pull"}, ""), "host_root");
  EXPECT_EQ(RefusedTable({"/a:/x", "/a:/y:push"}, ""), "host_root");
}

TEST(MountTableTest, RefusesDuplicateIdsAndTooMany) {
  Mount a = Parsed("/a:/x");
  Mount b = Parsed("/b:/y");
  a.id = b.id = "twin";
  EXPECT_EQ(Refused(MountTable::Make({a, b}, "").status()), "id");
  std::vector<Mount> mounts;
  for (size_t i = 0; i <= kMaxMounts; ++i)
    mounts.push_back(Parsed("/a" + std::to_string(i) + ":/x" + std::to_string(i)));
  EXPECT_EQ(Refused(MountTable::Make(mounts, "").status()), "mounts");
  mounts.pop_back();
  EXPECT_TRUE(MountTable::Make(mounts, "").ok());
}

}  // namespace
}  // namespace hermes::sync
