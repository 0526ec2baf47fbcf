#include "sync/tree_state.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace hermes::sync {
namespace {

TreeState::File File(uint64_t size, bool apart = false) {
  return {.content = {DigestOf(std::string(size, 'x')), size, false}, .apart = apart};
}

using Names = std::vector<std::string>;

TreeState Some() {
  TreeState state;
  for (const char* name : {"", "a", "a/b", "a-b"}) state.SetDirectory(name);
  state.SetFile("a/b/1", File(1));
  state.SetFile("a/b/2", File(2, true));
  state.SetFile("a-b/3", File(3));
  state.SetFile("a0", File(4));
  state.SetOdd("a/odd", Oddity::kLink);
  return state;
}

TEST(TreeStateTest, KnowsWhatLiesDirectlyInADirectory) {
  const TreeState state = Some();
  EXPECT_EQ(state.ChildrenOf(""), (Names{"a", "a-b", "a0"}));
  EXPECT_EQ(state.ChildrenOf("a"), (Names{"a/b", "a/odd"}));
  EXPECT_EQ(state.ChildrenOf("a/b"), (Names{"a/b/1", "a/b/2"}));
  EXPECT_EQ(state.ChildrenOf("none"), Names{});
}

TEST(TreeStateTest, CountsFilesBytesAndDirectories) {
  TreeState state = Some();
  EXPECT_EQ(state.bytes(), 10u);
  EXPECT_EQ(state.directories(), 4u);
  EXPECT_EQ(state.apart(), (std::set<std::string>{"a/b/2"}));
  state.SetFile("a/b/2", File(5));
  EXPECT_EQ(state.bytes(), 13u);
  EXPECT_TRUE(state.apart().empty());
  state.Drop("a");
  EXPECT_EQ(state.bytes(), 7u);
  EXPECT_EQ(state.directories(), 2u);
  EXPECT_TRUE(state.manifest().oddities.empty());
  EXPECT_EQ(state.ChildrenOf(""), (Names{"a-b", "a0"}));
  state.Clear();
  EXPECT_EQ(state.manifest(), Manifest{});
  EXPECT_EQ(state.bytes(), 0u);
}

TEST(TreeStateTest, AFileHasNothingBelowIt) {
  TreeState state = Some();
  state.SetFile("a", File(1));
  EXPECT_EQ(state.ChildrenOf(""), (Names{"a", "a-b", "a0"}));
  EXPECT_EQ(state.manifest().files.size(), 3u);
  EXPECT_FALSE(state.HasDirectory("a/b"));
  state.SetDirectory("a");
  EXPECT_EQ(state.manifest().files.size(), 2u);
  state.SetOdd("a-b", Oddity::kUnreadable);
  EXPECT_EQ(state.manifest().files.size(), 1u);
}

TEST(TreeStateTest, GenerationGrowsWithTheManifestOnly) {
  TreeState state = Some();
  uint64_t generation = state.generation();
  TreeState::File same = File(1);
  same.trusted = true;
  state.SetFile("a/b/1", same);
  state.SetOdd("a/odd", Oddity::kLink);
  state.SetDirectory("new");
  state.Drop("none");
  EXPECT_EQ(state.generation(), generation);
  state.SetFile("a/b/1", File(2));
  EXPECT_GT(state.generation(), generation);
  generation = state.generation();
  state.SetOdd("a/odd", Oddity::kSpecial);
  EXPECT_GT(state.generation(), generation);
  generation = state.generation();
  state.Drop("a/odd");
  EXPECT_GT(state.generation(), generation);
}

}  // namespace
}  // namespace hermes::sync
