#include "sync/ignore.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace hermes::sync {
namespace {

bool Ignored(const std::string& pattern, std::string_view path) {
  EXPECT_TRUE(IgnoreList::CheckPatterns({pattern}).ok()) << pattern;
  return IgnoreList({pattern}).Ignores(path);
}

TEST(IgnoreTest, APlainPatternMatchesAnyPart) {
  EXPECT_TRUE(Ignored("node_modules", "node_modules"));
  EXPECT_TRUE(Ignored("node_modules", "a/node_modules/b/c"));
  EXPECT_FALSE(Ignored("node_modules", "a/node_modules2"));
  EXPECT_TRUE(Ignored("cache/", "a/cache/x"));
  EXPECT_TRUE(Ignored("*.o", "a/b.o"));
  EXPECT_TRUE(Ignored(".env*", ".env.local"));
  EXPECT_FALSE(Ignored("*.o", "a/b.os"));
}

TEST(IgnoreTest, APatternWithSlashesMatchesFromTheRoot) {
  EXPECT_TRUE(Ignored("/build", "build/x"));
  EXPECT_FALSE(Ignored("/build", "a/build"));
  EXPECT_TRUE(Ignored("a/*/c", "a/b/c/d"));
  EXPECT_FALSE(Ignored("a/*/c", "a/b"));
  EXPECT_FALSE(Ignored("a/*", "a"));
  EXPECT_FALSE(Ignored("a/*/c", "a/b/b/c"));
}

TEST(IgnoreTest, WildcardsStandForBytes) {
  EXPECT_TRUE(Ignored("a?c", "abc"));
  EXPECT_FALSE(Ignored("a?c", "ac"));
  EXPECT_TRUE(Ignored("a*b*c", "a--b--b-c"));
  EXPECT_FALSE(Ignored("a*b*c", "a--b--b-d"));
  EXPECT_TRUE(Ignored("\\*", "*"));
  EXPECT_FALSE(Ignored("\\*", "x"));
  EXPECT_TRUE(Ignored("*", "\xff\n"));
  const std::string many_stars(200, '*');
  EXPECT_FALSE(Ignored(many_stars + "b", std::string(200, 'a')));
}

TEST(IgnoreTest, AnEmptyListIgnoresOnlyOurOwnNames) {
  const IgnoreList none;
  EXPECT_FALSE(none.Ignores("a/b"));
  EXPECT_FALSE(none.Ignores(".hermes/x"));
  EXPECT_TRUE(none.Ignores(".hermesd-stage/x"));
  EXPECT_TRUE(none.Ignores("a/.hermesd-undo"));
}

TEST(IgnoreTest, RefusesPatternsThatAreNoNames) {
  for (const char* pattern : {"", "/", "a//b", "../a", "a/./b", "//a"})
    EXPECT_FALSE(IgnoreList::CheckPatterns({pattern}).ok()) << pattern;
  EXPECT_FALSE(IgnoreList::CheckPatterns({std::string(257, 'a')}).ok());
  EXPECT_TRUE(IgnoreList::CheckPatterns(std::vector<std::string>(256, "a")).ok());
  EXPECT_FALSE(IgnoreList::CheckPatterns(std::vector<std::string>(257, "a")).ok());
}

TEST(IgnoreTest, APullNeverWritesWhatTheHostWouldRun) {
  for (const char* name : {".ssh/authorized_keys",
                           "a/.ssh/x",
                           ".ssh",
                           ".git",
                           "a/.git",
                           ".git/config",
                           ".git/hooks/pre-commit",
                           ".git/modules/m/hooks/x",
                           ".git/config.worktree",
                           ".sync.lock",
                           ".git/commondir",
                           ".git/worktrees/w/commondir",
                           ".GIT/Config",
                           "a/.Git",
                           ".SSH/x",
                           ".git/HOOKS/x",
                           ".git/CommonDir",
                           ".\u017fsh/x",
                           ".git/hoo\u212as/x",
                           ".g\u200dit/config",
                           ".\u00dfh/x",
                           ".git/con\ufb01g"})
    EXPECT_TRUE(DeniedOnPull(*RelPath::Parse(name))) << name;
  for (const char* name : {"ssh", "a/hooks/x", "config", ".git/objects/ab/cd", ".git/HEAD",
                           ".gitignore", "a.sync.lock", "commondir", "x/CONFIG", "\u00e9"})
    EXPECT_FALSE(DeniedOnPull(*RelPath::Parse(name))) << name;
}

}  // namespace
}  // namespace hermes::sync
