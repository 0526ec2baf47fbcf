// What is made of the lines that a host answers with: the hosts that tell the truth, and the
// others.

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backends/ssh/ssh_place.h"

namespace hermes::ssh {
namespace {

using Verdict = PlaceAnswer::Verdict;

const std::string kNonce = "0123456789ab";
const std::string kMark = "@" + kNonce + ":";

std::optional<PlaceAnswer> Parse(const std::string& line) { return ParsePlaceAnswer(line, kNonce); }

TEST(PlaceAnswerTest, EveryFieldIsTaken) {
  const auto answer =
      Parse(kMark + "put:x86_64:Linux:,bash,tar,sudo:/bin/zsh:/home/me/.cache/hermesd/d");
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->verdict, Verdict::kPut);
  EXPECT_EQ(answer->arch, "x86_64");
  EXPECT_EQ(answer->os, "Linux");
  EXPECT_EQ(answer->tools, "bash,tar,sudo");
  EXPECT_EQ(answer->shell, "/bin/zsh");
  EXPECT_EQ(answer->text, "/home/me/.cache/hermesd/d");
}

TEST(PlaceAnswerTest, EveryVerdictIsTaken) {
  EXPECT_EQ(Parse(kMark + "run:a:b:::d")->verdict, Verdict::kRun);
  EXPECT_EQ(Parse(kMark + "put:a:b:::d")->verdict, Verdict::kPut);
  EXPECT_EQ(Parse(kMark + "none:a:b:::why")->verdict, Verdict::kNone);
}

TEST(PlaceAnswerTest, WhatIsEmptyStaysEmpty) {
  const auto answer = Parse(kMark + "none:::::");
  ASSERT_TRUE(answer.has_value());
  for (const std::string& field :
       {answer->arch, answer->os, answer->tools, answer->shell, answer->text}) {
    EXPECT_EQ(field, "");
  }
}

TEST(PlaceAnswerTest, ATerminalsReturnIsNoPartOfIt) {
  EXPECT_EQ(Parse(kMark + "run:a:b:::/d\r")->text, "/d");
  EXPECT_EQ(ParsePutAnswer(kMark + "ok\r", kNonce), true);
}

TEST(PlaceAnswerTest, TheLastFieldMayHoldColons) {
  EXPECT_EQ(Parse(kMark + "none:a:b:c:d:no: such: thing")->text, "no: such: thing");
}

TEST(PlaceAnswerTest, OtherLinesAreNotIt) {
  const std::string others[] = {
      "",
      "@",
      "@:run:a:b:::d",
      kNonce + ":run:a:b:::d",
      " " + kMark + "run:a:b:::d",
      "@@" + kNonce + ":run:a:b:::d",
      "@" + kNonce,
      kMark,
      kMark + "run",
      kMark + "run:a:b:c:d",  // a field too few
      kMark + "RUN:a:b:::d",
      kMark + "runs:a:b:::d",
      kMark + "ok",
      "@0123456789aB:run:a:b:::d",
      "@" + kNonce + "c:run:a:b:::d",
      "@" + kNonce.substr(0, 11) + ":run:a:b:::d",
      "@000000000000:run:a:b:::d",
  };
  for (const std::string& line : others) EXPECT_FALSE(Parse(line).has_value()) << line;
}

// None of it is longer than its limit, and none but text.
TEST(PlaceAnswerTest, WhatAHostSaysIsShortAndClean) {
  std::string every;
  for (int byte = 0; byte < 256; ++byte) {
    if (byte != ':') every += static_cast<char>(byte);
  }
  for (const std::string& odd :
       {every, std::string(1 << 20, 'x'), std::string("\xff\xfe\n\x1b[2J")}) {
    const auto answer =
        Parse(kMark + "none:" + odd + ":" + odd + ":" + odd + ":" + odd + ":" + odd);
    ASSERT_TRUE(answer.has_value());
    for (const std::string& field :
         {answer->arch, answer->os, answer->tools, answer->shell, answer->text}) {
      EXPECT_EQ(field.size(), std::min<size_t>(odd.size(), 256));
      for (const char c : field) EXPECT_TRUE(c >= 0x20 && c <= 0x7e);
    }
  }
}

TEST(PutAnswerTest, KnowsBothAndNothingElse) {
  EXPECT_EQ(ParsePutAnswer(kMark + "ok", kNonce), true);
  EXPECT_EQ(ParsePutAnswer(kMark + "bad", kNonce), false);
  for (const std::string& line :
       {std::string(), kMark, kMark + "OK", kMark + "ok ", kMark + "okay", kMark + "run:a:b:::d",
        std::string("@:ok"), " " + kMark + "ok", std::string("@000000000000:ok")}) {
    EXPECT_EQ(ParsePutAnswer(line, kNonce), std::nullopt) << line;
  }
}

}  // namespace
}  // namespace hermes::ssh
