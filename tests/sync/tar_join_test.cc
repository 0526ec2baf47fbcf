#include "sync/tar_join.h"

#include <gtest/gtest.h>

#include "sync/tar_writer.h"

namespace hermes::sync {
namespace {

std::string Member(const std::string& name, const std::string& bytes) {
  return TarHeader({.name = *RelPath::Parse(name), .size = bytes.size()}) + bytes +
         std::string(TarPadding(bytes.size()));
}

std::string Zeros(size_t blocks) { return std::string(512 * blocks, '\0'); }

std::string FeedAll(TarJoin& join, std::string_view text, size_t piece) {
  std::string out;
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size())))
    out += join.Feed(text.substr(0, piece));
  return out;
}

TEST(TarJoinTest, JoinsStreamsHoweverTheyAreCut) {
  const std::string one =
      Member("a", "") +
      Member(std::string(150, 'n') + "/" + std::string(150, 'm'), std::string(513, '\0'));
  const std::string two = Member("b", std::string(512, 'x')) + Member("c", "y");
  for (size_t piece : {1, 7, 511, 512, 513, 100000}) {
    TarJoin join;
    std::string out = FeedAll(join, one + Zeros(20), piece);
    EXPECT_TRUE(join.EndStream());
    out += FeedAll(join, two + Zeros(2), piece);
    EXPECT_TRUE(join.EndStream());
    EXPECT_EQ(out, one + two) << piece;
  }
}

TEST(TarJoinTest, KnowsAStreamThatWasCut) {
  const std::string whole = Member("a", "bytes") + Zeros(1);
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    TarJoin join;
    FeedAll(join, whole.substr(0, bytes), 1000);
    EXPECT_FALSE(join.EndStream()) << bytes;
  }
}

TEST(TarJoinTest, KnowsSizesBeyondOctalOnes) {
  const std::string header = TarHeader({.name = *RelPath::Parse("big"), .size = 9ull << 30});
  TarJoin join;
  EXPECT_EQ(join.Feed(header + Zeros(40)), header + Zeros(40));
  EXPECT_FALSE(join.EndStream());
}

TEST(TarJoinTest, HidesNoTailThatIsTooLong) {
  const size_t most = kMaxJoinedTail / 512;
  for (size_t piece : {511, 512, 100000}) {
    TarJoin join;
    EXPECT_EQ(FeedAll(join, Member("a", "1") + Zeros(most), piece), Member("a", "1"));
    std::string out = FeedAll(join, Zeros(3), piece);
    EXPECT_EQ(out.size(), Zeros(most + 3).size());
    EXPECT_EQ(FeedAll(join, Zeros(5000), piece).size(), Zeros(5000).size());
    EXPECT_TRUE(join.EndStream());
  }
}

TEST(TarJoinTest, HidesNoSecondArchive) {
  const std::string text = Member("a", "1") + Zeros(4) + Member("b", "2") + Zeros(2);
  for (size_t piece : {1, 512, 100000}) {
    TarJoin join;
    EXPECT_EQ(FeedAll(join, text, piece),
              Member("a", "1") + Zeros(2) + Member("b", "2") + Zeros(2));
    EXPECT_TRUE(join.EndStream()) << "the reader says what is wrong with it, not we";
    FeedAll(join, Member("c", "3"), piece);
    EXPECT_TRUE(join.EndStream());
  }
}

}  // namespace
}  // namespace hermes::sync
