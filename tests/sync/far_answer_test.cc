#include "sync/far_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr std::string_view kMark = "@0123456789abcdef";

std::string Marked(std::string_view rest) { return std::string(kMark) + " " + std::string(rest); }

std::string Block(char kind, std::string_view bytes) {
  return std::string(1, kind) + " " + std::to_string(bytes.size()) + "\n" + std::string(bytes);
}

FarAnswer Of(FarVerb verb, size_t changes = 0, size_t max_files = 10) {
  return FarAnswer(
      {.verb = verb, .mark = std::string(kMark), .changes = changes, .max_files = max_files});
}

FileMap SomeFiles() {
  FileMap files;
  files.emplace(*RelPath::Parse("run"), Content{DigestOf("x"), 1, true});
  files.emplace(*RelPath::Parse("a/b c\xff"), Content{DigestOf("yy"), 2, false});
  files.emplace(*RelPath::Parse("a.txt"), Content{DigestOf("zzz"), 3, false});
  return files;
}

std::string LookText(const FileMap& files, bool with_sizes) {
  const std::string text = CanonicalText(files);
  std::string answer = "Welcome!\n" + Marked("h A 1 00ffee\n");
  answer += "d " + Hex(DigestOf(text)) + "\n" + Block('m', text);
  if (with_sizes) answer += Block('s', "1\n3\n2\n");
  answer += std::string("o l\n./a/link\0two\0\0", 18) + std::string("o u\n\0", 5);
  return answer + Marked("e\n");
}

absl::Status Feed(FarAnswer& answer, std::string_view text, size_t piece = 1000) {
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) {
    if (absl::Status status = answer.Feed(text.substr(0, piece)); !status.ok()) return status;
  }
  return answer.Finish();
}

Reason ReasonFor(FarVerb verb, std::string_view text, size_t changes = 0) {
  FarAnswer answer = Of(verb, changes);
  const absl::Status status = Feed(answer, text);
  EXPECT_FALSE(status.ok()) << text;
  return ReasonOf(status).value_or(Reason::k_BUG);
}

TEST(FarAnswerTest, ReadsALookHoweverItIsCut) {
  const std::string text = LookText(SomeFiles(), true);
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    FarAnswer answer = Of(FarVerb::kLook);
    ASSERT_TRUE(Feed(answer, text, piece).ok()) << piece;
    ASSERT_TRUE(answer.done());
    const absl::StatusOr<RemoteLook> look = answer.TakeLook(std::nullopt);
    ASSERT_TRUE(look.ok()) << look.status();
    EXPECT_EQ(look->level, ToolLevel::kRunner);
    EXPECT_TRUE(look->exists);
    EXPECT_EQ(look->epoch, "00ffee");
    EXPECT_FALSE(look->same);
    EXPECT_EQ(look->manifest.files, SomeFiles());
    EXPECT_EQ(look->manifest.files.at(*RelPath::Parse("a.txt")).size, 3u);
    EXPECT_EQ(look->manifest.files.at(*RelPath::Parse("a/b c\xff")).size, 2u);
    EXPECT_THAT(look->manifest.oddities,
                ElementsAre(Pair("a/link", Oddity::kLink), Pair("two", Oddity::kLink)));
  }
}

TEST(FarAnswerTest, KnowsTheSameManifestByItsDigest) {
  const Digest digest = DigestOf("-\n");
  FarAnswer answer = Of(FarVerb::kLook);
  ASSERT_TRUE(Feed(answer, Marked("h B 0 -\n") + "d " + Hex(digest) + "\n" + Marked("e\n")).ok());
  const absl::StatusOr<RemoteLook> look = answer.TakeLook(digest);
  ASSERT_TRUE(look.ok());
  EXPECT_TRUE(look->same);
  EXPECT_FALSE(look->exists);
  EXPECT_EQ(look->epoch, "");
  EXPECT_EQ(look->level, ToolLevel::kShell);
}

TEST(FarAnswerTest, RefusesAManifestThatIsNotThatOfItsDigest) {
  const std::string text = CanonicalText(SomeFiles());
  for (const bool with : {false, true}) {
    FarAnswer answer = Of(FarVerb::kLook);
    const std::string list = with ? Block('m', text) : "";
    ASSERT_TRUE(Feed(answer, Marked("h B 1 -\n") + "d " + Hex(DigestOf("other")) + "\n" + list +
                                 Marked("e\n"))
                    .ok());
    EXPECT_EQ(ReasonOf(answer.TakeLook(DigestOf("third")).status()), Reason::k_SYNC_FAILED);
  }
}

TEST(FarAnswerTest, RefusesSizesThatDoNotFitTheFiles) {
  const std::string text = CanonicalText(SomeFiles());
  for (const std::string_view sizes : {"1\n2\n", "1\n2\n3\n4\n", "1\nx\n3\n", "1\n-2\n3\n", ""}) {
    FarAnswer answer = Of(FarVerb::kLook);
    ASSERT_TRUE(Feed(answer, Marked("h A 1 -\n") + "d " + Hex(DigestOf(text)) + "\n" +
                                 Block('m', text) + Block('s', sizes) + Marked("e\n"))
                    .ok());
    EXPECT_FALSE(answer.TakeLook(std::nullopt).ok()) << sizes;
  }
}

TEST(FarAnswerTest, ACutAnswerConcludesNothing) {
  const std::string text = LookText(SomeFiles(), true);
  for (size_t bytes = 0; bytes < text.size(); ++bytes) {
    EXPECT_EQ(ReasonFor(FarVerb::kLook, text.substr(0, bytes)), Reason::k_BACKEND_UNREACHABLE)
        << bytes;
  }
}

TEST(FarAnswerTest, SaysWhatCameInsteadOfAnAnswer) {
  FarAnswer answer = Of(FarVerb::kLook);
  EXPECT_THAT(std::string(Feed(answer, "sh: \x1b[1mnot found").message()),
              HasSubstr("sh: ?[1mnot found"));
}

TEST(FarAnswerTest, ReadsWhatBecameOfEachChange) {
  FarAnswer answer = Of(FarVerb::kApply, 3);
  ASSERT_TRUE(
      Feed(answer, Marked("h A 1 -\n") + "p 2\nf 0\nc 1\n" + Block('t', "rm: no\n") + Marked("e\n"))
          .ok());
  EXPECT_EQ(answer.text(), "rm: no\n");
  EXPECT_THAT(answer.TakeApplied().placed,
              ElementsAre(Placed::kFailed, Placed::kConflict, Placed::kDone));
}

TEST(FarAnswerTest, OneLineStandsForAllOtherChanges) {
  FarAnswer answer = Of(FarVerb::kApply, 3);
  ASSERT_TRUE(Feed(answer, Marked("h B 1 -\n") + "c 1\nP\n" + Marked("e\n")).ok());
  EXPECT_THAT(answer.TakeApplied().placed,
              ElementsAre(Placed::kDone, Placed::kConflict, Placed::kDone));
}

TEST(FarAnswerTest, RefusesChangesThatWereNotAskedForOrComeTwiceOrAreLeftOut) {
  const std::string head = Marked("h B 1 -\n");
  for (const std::string_view lines :
       {"p 2\np 0\np 1\n", "p 0\np 0\np 1\n", "p 0\n", "p -1\nP\n", "p 0x\nP\n", "p \nP\n",
        "p 99999999999999999999\nP\n", "q 0\nP\n", "d 0\nP\n", "o l\n", "m 3\nabcP\n"}) {
    EXPECT_EQ(ReasonFor(FarVerb::kApply, head + std::string(lines) + Marked("e\n"), 2),
              Reason::k_SYNC_FAILED)
        << lines;
  }
}

TEST(FarAnswerTest, WithoutADigestTheTreeIsTheExpectedOne) {
  const std::string text = Marked("h A 1 -\n") + Marked("e\n");
  const Digest expected = DigestOf("-\n");
  FarAnswer answer = Of(FarVerb::kLook);
  ASSERT_TRUE(Feed(answer, text).ok());
  const absl::StatusOr<RemoteLook> look = answer.TakeLook(expected);
  ASSERT_TRUE(look.ok()) << look.status();
  EXPECT_TRUE(look->same);
  EXPECT_EQ(look->digest, expected);
  FarAnswer unasked = Of(FarVerb::kLook);
  ASSERT_TRUE(Feed(unasked, text).ok());
  EXPECT_EQ(ReasonOf(unasked.TakeLook(std::nullopt).status()), Reason::k_SYNC_FAILED);
  EXPECT_EQ(ReasonFor(FarVerb::kLook, Marked("h A 1 -\n") + Block('m', "-\n") + Marked("e\n")),
            Reason::k_SYNC_FAILED);
}

TEST(FarAnswerTest, RefusesNonsense) {
  const std::string head = Marked("h B 1 -\n");
  const std::string digest = "d " + Hex(DigestOf("-\n")) + "\n";
  const std::string end = Marked("e\n");
  for (const std::string& text : {Marked("h C 1 -\n"),
                                  Marked("h B 2 -\n"),
                                  Marked("h B 1\n"),
                                  Marked("h B 1 XY\n"),
                                  Marked("h B 1 " + std::string(65, 'a') + "\n"),
                                  Marked("e\n"),
                                  Marked("y\n"),
                                  head + digest + digest + end,
                                  head + "d 12\n" + end,
                                  head + digest + "p 0\n" + end,
                                  head + digest + "P\n" + end,
                                  head + digest + "\n" + end,
                                  head + digest + "m 999999999\n",
                                  head + digest + "m 18446744073709551617\n",
                                  head + digest + Block('m', "-\n") + Block('m', "-\n") + end,
                                  head + digest + "o q\n",
                                  head + std::string("o l\n../up\0\0", 11),
                                  head + std::string("o l\n/etc\0\0", 10),
                                  head + std::string("o l\n.//a\0\0", 10),
                                  head + digest + Marked("e \n"),
                                  head + digest + "t 70000\n",
                                  Marked("x other thing\n"),
                                  head + std::string(kMaxFarLine + 1, 'd'),
                                  std::string(kMaxFarNoise + 1, '.'),
                                  Marked(std::string(kMaxFarLine + 1, 'h')),
                                  head + "o n\n" + std::string(kMaxFarBytesPerFile + 1, 'n')}) {
    EXPECT_EQ(ReasonFor(FarVerb::kLook, text), Reason::k_SYNC_FAILED) << text.substr(0, 100);
  }
}

TEST(FarAnswerTest, ListsAndLinesHaveAnEnd) {
  const std::string head = Marked("h B 1 -\n");
  FarAnswer many = Of(FarVerb::kLook, 0, 200'000);
  EXPECT_EQ(ReasonOf(Feed(many, head + "m " + std::to_string(kMaxFarListBytes + 1) + "\n")),
            Reason::k_SYNC_FAILED);
  for (const std::string& line : {std::string("t 0\n"), std::string("o l\n\0", 5)}) {
    std::string text = head;
    for (size_t i = 0; i <= kMaxFarLines; ++i) text += line;
    EXPECT_EQ(ReasonFor(FarVerb::kLook, text), Reason::k_SYNC_FAILED) << line;
  }
}

TEST(FarAnswerTest, ABreakOfTheRulesIsFinal) {
  FarAnswer answer = Of(FarVerb::kLook);
  EXPECT_FALSE(answer.Feed(Marked("nonsense\n")).ok());
  EXPECT_FALSE(answer.Feed(LookText(SomeFiles(), false)).ok());
  EXPECT_FALSE(answer.done());
}

TEST(FarAnswerTest, GivesTroubleItsReason) {
  const std::string head = Marked("h B 1 -\n");
  EXPECT_EQ(ReasonFor(FarVerb::kFetch, Marked("x notools tar\n")), Reason::k_CAPABILITY_MISSING);
  EXPECT_EQ(ReasonFor(FarVerb::kLook, head + Marked("x noroot gone\n")), Reason::k_SYNC_FAILED);
  EXPECT_EQ(ReasonFor(FarVerb::kApply, head + Marked("x nospace tar\n")), Reason::k_DISK_FULL);
  FarAnswer answer = Of(FarVerb::kApply);
  const absl::Status status = Feed(answer, head +
                                               Block('t',
                                                     "tar: b\x1b"
                                                     "d") +
                                               Marked("x failed digests differ\n"));
  EXPECT_EQ(ReasonOf(status), Reason::k_SYNC_FAILED);
  EXPECT_THAT(std::string(status.message()), HasSubstr("digests differ: tar: b?d"));
}

TEST(FarAnswerTest, HandsAStreamOverFromItsFirstByte) {
  const std::string text = "motd " + Marked("h B 1 -\n") + "first\n" + Marked("e\n") + "last";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    FarAnswer answer = Of(FarVerb::kFetch);
    std::string stream;
    for (std::string_view rest = text; !rest.empty();
         rest.remove_prefix(std::min(piece, rest.size()))) {
      std::string_view given;
      ASSERT_TRUE(answer.Feed(rest.substr(0, piece), &given).ok());
      stream += given;
    }
    EXPECT_TRUE(answer.streaming());
    EXPECT_TRUE(answer.Finish().ok());
    EXPECT_EQ(stream, "first\n" + Marked("e\n") + "last") << piece;
  }
}

}  // namespace
}  // namespace hermes::sync
