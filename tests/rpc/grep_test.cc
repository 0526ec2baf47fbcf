#include "daemon/rpc/grep.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "daemon/rpc/read_output.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

std::vector<std::pair<uint64_t, std::string>> Lines(const Grep& grep) {
  std::vector<std::pair<uint64_t, std::string>> lines;
  for (const Grep::Line& line : grep.matches()) lines.emplace_back(line.offset, line.text);
  return lines;
}

using Expected = std::vector<std::pair<uint64_t, std::string>>;

TEST(GrepTest, MatchesLinesHoweverTheyAreCutIntoChunks) {
  const std::string text = "one\ntwo error\n\nthree\nan error at the end";
  for (size_t chunk = 1; chunk <= text.size(); ++chunk) {
    const auto grep = *Grep::Make("error", 1000);
    for (size_t at = 0; at < text.size(); at += chunk) grep->Feed(at, text.substr(at, chunk));
    EXPECT_EQ(Lines(*grep), (Expected{{4, "two error"}})) << chunk;
    grep->Break();
    EXPECT_EQ(Lines(*grep), (Expected{{4, "two error"}, {21, "an error at the end"}})) << chunk;
    EXPECT_EQ(grep->next_offset(), text.size());
  }
}

TEST(GrepTest, AnchorsMeanTheLine) {
  const auto grep = *Grep::Make("^b$", 1000);
  grep->Feed(10, "ab\nb\nbc\n");
  EXPECT_EQ(Lines(*grep), (Expected{{13, "b"}}));
}

TEST(GrepTest, StopsAtItsLimitAndSaysWhereToGoOn) {
  const auto grep = *Grep::Make("x", 40);
  const std::string line = std::string(19, 'x') + "\n";
  grep->Feed(0, line + line + line);
  EXPECT_EQ(grep->matches().size(), 2u);
  EXPECT_TRUE(grep->full());
  EXPECT_EQ(grep->next_offset(), 40u);
}

TEST(GrepTest, ALineLongerThanTheLimitIsCutSoThatTheCallerGetsOn) {
  const auto grep = *Grep::Make("x", 5);
  grep->Feed(0, std::string(100, 'x') + "\nx\n");
  EXPECT_EQ(Lines(*grep), (Expected{{0, "xxxxx"}}));
  EXPECT_EQ(grep->next_offset(), 101u);
}

TEST(GrepTest, VeryLongLinesAreMatchedInPieces) {
  const auto grep = *Grep::Make("x", 1 << 20);
  grep->Feed(0, std::string(kMaxLineBytes + 10, 'x') + "\n");
  ASSERT_EQ(grep->matches().size(), 2u);
  EXPECT_EQ(grep->matches()[0].text.size(), kMaxLineBytes);
  EXPECT_EQ(grep->matches()[1].offset, kMaxLineBytes);
  EXPECT_EQ(grep->matches()[1].text.size(), 10u);
}

TEST(GrepTest, EmptyLinesCountSoThatAnswersEnd) {
  const auto grep = *Grep::Make("^$", 160);
  grep->Feed(0, std::string(1000, '\n'));
  EXPECT_EQ(grep->matches().size(), 10u);
  EXPECT_TRUE(grep->full());
}

TEST(GrepTest, BytesThatAreNoTextDoNoHarm) {
  const auto grep = *Grep::Make("b", 1000);
  grep->Feed(0, std::string("\xff\0b\n", 4));
  EXPECT_EQ(Lines(*grep), (Expected{{0, std::string("\xff\0b", 3)}}));
}

TEST(GrepTest, BadAndGreedyPatternsAreRefused) {
  for (const char* bad : {"(", "a{1000}{1000}{1000}", "\\1"}) {
    const absl::Status status = Grep::Make(bad, 1).status();
    EXPECT_EQ(ReasonOf(status), Reason::k_BAD_FIELD) << bad;
    EXPECT_EQ(MetadataOf(status)["field"], "re2");
  }
}

}  // namespace
}  // namespace hermes
