#include "client/mounts.h"

#include <gtest/gtest.h>

#include <string>

namespace hermes::client {
namespace {

const Whereabouts& Here() {
  static const auto* const at = new Whereabouts{.cwd = "/home/me/work", .home = "/home/me"};
  return *at;
}

v1::Mount Parsed(std::string_view text) {
  const absl::StatusOr<v1::Mount> mount = ParseMount(text, Here());
  EXPECT_TRUE(mount.ok()) << text << ": " << mount.status();
  return mount.ok() ? *mount : v1::Mount();
}

std::string Host(std::string_view path) { return Parsed(std::string(path) + ":/r").host_root(); }

// What is said of a text that is refused.
std::string Refusal(std::string_view text, const Whereabouts& at = Here()) {
  const absl::Status status = ParseMount(text, at).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
  return std::string(status.message().data(), status.message().size());
}

TEST(MountFormTest, ReadsTheShortForm) {
  const v1::Mount mount = Parsed("/srv/data:/data");
  EXPECT_EQ(mount.host_root(), "/srv/data");
  EXPECT_EQ(mount.remote_root(), "/data");
  EXPECT_EQ(mount.policy(), v1::Mount::POLICY_UNSPECIFIED);
  EXPECT_EQ(mount.conflict(), v1::Mount::CONFLICT_UNSPECIFIED);
  EXPECT_EQ(mount.deletes(), v1::Mount::DELETES_UNSPECIFIED);
}

TEST(MountFormTest, ReadsPoliciesInAnyOrderBehindTheDirection) {
  const v1::Mount mount = Parsed("~/a b/:~/x/:pull,deletes=report,conflict=both");
  EXPECT_EQ(mount.host_root(), "/home/me/a b/");
  EXPECT_EQ(mount.remote_root(), "~/x/");
  EXPECT_EQ(mount.policy(), v1::Mount::PULL);
  EXPECT_EQ(mount.conflict(), v1::Mount::KEEP_BOTH);
  EXPECT_EQ(mount.deletes(), v1::Mount::REPORT);
}

TEST(MountFormTest, HostPathsAreTheCallers) {
  EXPECT_EQ(Host("src"), "/home/me/work/src");
  EXPECT_EQ(Host("./src/"), "/home/me/work/src");
  EXPECT_EQ(Host("."), "/home/me/work");
  EXPECT_EQ(Host("../out/./x"), "/home/me/out/x");
  EXPECT_EQ(Host("../../.."), "/");
  EXPECT_EQ(Host("~/x"), "/home/me/x");
  EXPECT_EQ(Host("a~"), "/home/me/work/a~");
  EXPECT_EQ(Host("/a/../b"), "/a/../b") << "an absolute path is the daemon's to judge";
  EXPECT_EQ(Host("b\xff\x1b"), "/home/me/work/b\xff\x1b");
}

TEST(MountFormTest, AColonOfAPathStandsBehindABackslash) {
  const v1::Mount mount = Parsed(R"(/a\:b\\c\d:/x\:y:push)");
  EXPECT_EQ(mount.host_root(), R"(/a:b\c\d)");
  EXPECT_EQ(mount.remote_root(), "/x:y");
  EXPECT_EQ(mount.policy(), v1::Mount::PUSH);
}

TEST(MountFormTest, ReadsBackWhatItWrites) {
  for (const char* paths : {"/a:~/b", R"(/a\:b:/c\\\:d)"}) {
    for (const char* direction : {"push", "pull", "two-way"}) {
      for (const char* conflict : {"remote", "host", "both", "abort"}) {
        for (const char* deletes : {"guarded", "never", "report"}) {
          const std::string text = std::string(paths) + ":" + direction + ",conflict=" + conflict +
                                   ",deletes=" + deletes;
          EXPECT_EQ(FormatMount(Parsed(text)), text);
          EXPECT_EQ(FormatMount(Parsed(text + ",secrets=include")), text + ",secrets=include");
        }
      }
    }
  }
}

TEST(MountFormTest, RefusalsSayWhatTheFormIs) {
  for (const char* text :
       {"", "/a", R"(/a\:/b)", "/a:/b:", "/a:/b:both", "/a:/b:push,", "/a:/b:push:pull",
        "/a:/b:conflict=host", "/a:/b:push,conflict=", "/a:/b:push,deletes=all",
        "/a:/b:push,secrets=all", "/a:/b:push,color=red", "/a:/b,conflict=host",
        "/a:/b,deletes=never", "/a:/b:push, conflict=host"}) {
    const std::string refusal = Refusal(text);
    EXPECT_NE(refusal.find("--mount '" + std::string(text) + "'"), std::string::npos) << refusal;
    EXPECT_NE(refusal.find("the form is HOST:REMOTE["), std::string::npos) << refusal;
  }
}

TEST(MountFormTest, RefusesPathsThatCanMeanNothing) {
  for (const char* text : {":/b", "~:/b", "~you/a:/b"}) {
    EXPECT_NE(Refusal(text).find("HOST '"), std::string::npos) << text;
  }
  for (const char* text : {"/a:", "/a:b", "/a:~", "/a:~you/b", "/a:./b"}) {
    EXPECT_NE(Refusal(text).find("REMOTE must begin with"), std::string::npos) << text;
  }
  EXPECT_NE(Refusal("~/a:/b", {.cwd = "/", .home = ""}).find("HOME"), std::string::npos);
  EXPECT_NE(Refusal("a:/b", {.cwd = "", .home = "/h"}).find("directory"), std::string::npos);
}

}  // namespace
}  // namespace hermes::client
