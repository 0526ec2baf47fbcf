#include "sync/rel_path.h"

#include <gtest/gtest.h>

#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

RelPath Path(std::string_view text) { return *RelPath::Parse(text); }

TEST(RelPathTest, TellsALieFromAnOddity) {
  for (std::string_view lie : {"", "/", "/etc/passwd", "../x", "a/..", "a/../b", "..", ".", "./a",
                               "a//b", "a/", "a/./b"}) {
    EXPECT_EQ(CheckPath(lie), PathFault::kEscapes) << lie;
    EXPECT_EQ(ReasonOf(RelPath::Parse(lie).status()), Reason::k_PATH_ESCAPES_ROOT) << lie;
  }
  EXPECT_EQ(CheckPath(std::string_view("a\0b", 3)), PathFault::kEscapes);
  EXPECT_EQ(CheckPath(std::string(256, 'x')), PathFault::kTooLong);
  EXPECT_EQ(ReasonOf(RelPath::Parse(std::string(256, 'x')).status()), Reason::k_BAD_FIELD);
}

TEST(RelPathTest, ALieIsALieHoweverLong) {
  EXPECT_EQ(CheckPath(std::string(5000, 'x') + "/../y"), PathFault::kEscapes);
}

TEST(RelPathTest, LimitsAreInclusive) {
  EXPECT_EQ(CheckPath(std::string(255, 'x')), PathFault::kNone);
  std::string deep = "d";
  for (size_t i = 1; i < kMaxDepth; ++i) deep += "/d";
  EXPECT_EQ(CheckPath(deep), PathFault::kNone);
  EXPECT_EQ(CheckPath(deep + "/d"), PathFault::kTooLong);
  std::string wide;
  while (wide.size() < kMaxPathBytes - 256) wide += std::string(255, 'x') + "/";
  wide += std::string(kMaxPathBytes - wide.size(), 'y');
  EXPECT_EQ(CheckPath(wide), PathFault::kTooLong);  // its last part has 256 bytes
  wide = wide.substr(0, wide.size() - 1);
  EXPECT_EQ(CheckPath(wide), PathFault::kNone);
}

TEST(RelPathTest, TakesAnyOtherBytes) {
  EXPECT_EQ(Path("\x1b[31m\n\xff\\ '\"").str(), "\x1b[31m\n\xff\\ '\"");
  EXPECT_EQ(Path("...").str(), "...");
  EXPECT_EQ(Path("..a/b..").str(), "..a/b..");
}

TEST(RelPathTest, KnowsItsPartsAndWhatItIsWithin) {
  RelPath path = Path("a/bc/d");
  EXPECT_EQ(path.parts(), (std::vector<std::string_view>{"a", "bc", "d"}));
  EXPECT_EQ(path.leaf(), "d");
  EXPECT_EQ(path.parent(), "a/bc");
  EXPECT_EQ(Path("a").parent(), "");
  EXPECT_TRUE(path.Within(path));
  EXPECT_TRUE(path.Within(Path("a/bc")));
  EXPECT_FALSE(path.Within(Path("a/b")));
  EXPECT_FALSE(Path("a").Within(path));
}

}  // namespace
}  // namespace hermes::sync
