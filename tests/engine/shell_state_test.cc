#include "backends/engine/shell_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hermes::shell {
namespace {

using namespace std::string_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(QuoteTest, GivesOneWordThatUnquoteUndoes) {
  EXPECT_EQ(Quote("it's"), "'it'\\''s'");
  EXPECT_EQ(Quote(""), "''");
  for (const char* text : {"", "'", "''", "a b", "$x `y` \\", "\n\t\x01\xff", "'a'b'"})
    EXPECT_EQ(Unquote(Quote(text)), text);
}

TEST(UnquoteTest, ReadsEveryFormThatShellsPrint) {
  EXPECT_EQ(Unquote("plain"), "plain");
  EXPECT_EQ(Unquote("'it'\"'\"'s'"), "it's");
  EXPECT_EQ(Unquote("''\"''''\""), "''''");
  EXPECT_EQ(Unquote("\"\\$(x)\\`y\\`\\\"q\\\"\\\\z\\n\""), "$(x)`y`\"q\"\\z\\n");
  EXPECT_EQ(Unquote("$'a\\nb\\t\\'\\\\\\E\\a\\001\\377'"), "a\nb\t'\\\033\a\001\377");
  EXPECT_EQ(Unquote("$'\\x41\\u00fc\\u65e5\\U0001f600\\cA'"), "Aü日😀\001");
  EXPECT_EQ(Unquote("a\\ b\\'c"), "a b'c");
  EXPECT_EQ(Unquote("\"two\nlines\""), "two\nlines");
  EXPECT_EQ(Unquote("'a'\"b\"$'c'd"), "abcd");
}

TEST(UnquoteTest, RefusesWhatIsNotOneWord) {
  for (const char* text : {"", "a b", "a\nb", "a;b", "a|b", "a&b", "a>b", "(a)", "'a", "\"a", "$'a",
                           "a\\", "\"a\\", "$'a\\", "$'\\", "$'\\x'", "$'\\c"})
    EXPECT_FALSE(Unquote(text)) << text;
}

TEST(UnquoteTest, RefusesWhatAShellWouldExpand) {
  for (const char* text : {"$x", "\"$x\"", "`x`", "\"`x`\"", "$(x)", "\"$(x)\"", "*", "a?", "[a]",
                           "~", "{a,b}", "#", "!x", "$"})
    EXPECT_FALSE(Unquote(text)) << text;
}

TEST(UnquoteTest, RefusesWhatNoVariableCanHold) {
  EXPECT_FALSE(Unquote("$'\\0'"));
  EXPECT_FALSE(Unquote("$'\\x00'"));
  EXPECT_FALSE(Unquote("$'\\400'"));
  EXPECT_FALSE(Unquote("$'\\U00110000'"));
  EXPECT_FALSE(Unquote("a\0b"s));
}

// A capture as the hook writes it.
struct Sections {
  std::string exports;
  std::string names;
  std::string bodies;
  std::string aliases;
  std::string cwd = "/\n";
};

std::string Captured(const Sections& s) {
  std::string nul(1, '\0');
  return "N" + nul + s.exports + nul + s.names + nul + s.bodies + nul + s.aliases + nul + s.cwd +
         nul + "N" + nul;
}

std::optional<State> Parse(const Sections& sections, std::string* why) {
  why->clear();
  return ParseCapture(Kind::kBash, Captured(sections), "N", why);
}

TEST(ParseCaptureTest, ReadsAnEmptyState) {
  std::string why;
  auto state = Parse({}, &why);
  ASSERT_TRUE(state) << why;
  EXPECT_EQ(state->cwd, "/");
  EXPECT_THAT(state->env, IsEmpty());
}

TEST(ParseCaptureTest, WantsTheWholeCaptureAndNothingElse) {
  std::string why;
  std::string whole = Captured({"declare -x A=\"1\"\n", "", "", "", "/\n"});
  ASSERT_TRUE(ParseCapture(Kind::kBash, whole, "N", &why)) << why;
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(ParseCapture(Kind::kBash, whole.substr(0, size), "N", &why)) << size;
  EXPECT_FALSE(ParseCapture(Kind::kBash, whole + "x", "N", &why));
  EXPECT_FALSE(ParseCapture(Kind::kBash, whole + whole, "N", &why));
  EXPECT_FALSE(ParseCapture(Kind::kBash, whole, "M", &why));
  EXPECT_FALSE(ParseCapture(Kind::kBash, whole, "", &why));
  EXPECT_FALSE(ParseCapture(Kind::kSh, whole, "N", &why));
}

TEST(ParseCaptureTest, SaysWhyNot) {
  std::string why;
  EXPECT_FALSE(ParseCapture(Kind::kBash, "", "N", &why));
  EXPECT_EQ(why, "nothing captured");
  EXPECT_FALSE(ParseCapture(Kind::kBash, "N\0declare"s, "N", &why));
  EXPECT_EQ(why, "no trailer");
  EXPECT_FALSE(ParseCapture(Kind::kBash, "X\0declare"s, "N", &why));
  EXPECT_EQ(why, "no header");
  EXPECT_FALSE(ParseCapture(Kind::kBash, std::string(kMaxStateBytes + 1, 'x'), "N", &why));
  EXPECT_EQ(why, "too large");
  EXPECT_FALSE(Parse({.exports = "nonsense\n", .names = "", .bodies = "", .aliases = ""}, &why));
  EXPECT_EQ(why, "malformed variables");
}

TEST(ParseCaptureTest, RefusesMalformedListings) {
  std::string why;
  for (const char* exports : {"declare", "declare \n", "declare -x\n", "declare -x A=\"1\n",
                              "declare -x A=$x\n", "declare -x A=1 2\n", "declare -x A=\"1\"",
                              "declare -x =1\n", "x=1\n", "\n", "export A='1'; touch x\n"})
    EXPECT_FALSE(Parse({exports, "", "", "", "/\n"}, &why)) << exports;
  for (const char* aliases : {"alias a\n", "alias a=$(x)\n", "alias\n", "a='b'\n", "alias a='b"})
    EXPECT_FALSE(Parse({"", "", "", aliases, "/\n"}, &why)) << aliases;
  for (const char* cwd : {"", "\n", "/", "tmp\n"}) EXPECT_FALSE(Parse({"", "", "", "", cwd}, &why));
}

TEST(ParseCaptureTest, ReadsValuesOfOldShellsThatPrintNewlinesPlainly) {
  std::string why;
  auto state =
      Parse({"declare -x A=\"1\ndeclare -x B=\\\"2\\\"\"\nexport C=''\n", "", "", "", "/\n"}, &why);
  ASSERT_TRUE(state) << why;
  EXPECT_THAT(state->env, ElementsAre(Pair("A", "1\ndeclare -x B=\"2\""), Pair("C", "")));
}

TEST(ParseCaptureTest, LeavesOutWhatIsNotKept) {
  std::string why;
  auto state = Parse(
      {"declare -rx R=\"1\"\ndeclare -ax L=([0]=\"a b\" [1]=$'c\\n')\ndeclare -nx N=\"x\"\n"
       "declare -x U\ndeclare -x SHLVL=\"2\"\ndeclare -x HERMES_RUN_r=\"0\"\ndeclare -x PWD=\"/\"\n"
       "declare -x BASH_FUNC_f=\"1\"\ndeclare -x a-b=\"1\"\ndeclare -ix K=\"7\"\n",
       "", "", "", "/\n"},
      &why);
  ASSERT_TRUE(state) << why;
  EXPECT_THAT(state->env, ElementsAre(Pair("K", "7")));
}

TEST(ParseCaptureTest, KeepsVariablesUpToTheKernelsLimit) {
  std::string why;
  std::string fits = "A=" + std::string(kMaxVariableBytes - 2, 'x');
  std::string over = "B=" + std::string(kMaxVariableBytes - 1, 'x');
  auto state =
      Parse({"declare -x " + fits + "\ndeclare -x " + over + "\n", "", "", "", "/\n"}, &why);
  ASSERT_TRUE(state) << why;
  EXPECT_TRUE(state->env.contains("A"));
  EXPECT_FALSE(state->env.contains("B"));
}

constexpr const char* kTwoBodies = "a () \n{ \n    :\n}\nb () \n{ \n    :\n}\ndeclare -fx b\n";

TEST(ParseCaptureTest, CutsFunctionsByTheirNames) {
  std::string why;
  auto state = Parse({"", "declare -f a\ndeclare -fx b\n", kTwoBodies, "", "/\n"}, &why);
  ASSERT_TRUE(state) << why;
  EXPECT_THAT(state->functions, ElementsAre(Pair("a", Function{"a () \n{ \n    :\n}", false}),
                                            Pair("b", Function{"b () \n{ \n    :\n}", true})));
}

TEST(ParseCaptureTest, RefusesFunctionTextThatDoesNotFitTheNames) {
  std::string why;
  for (const char* names :
       {"declare -fx b\n", "declare -fx b\ndeclare -f a\n",
        "declare -f a\ndeclare -f b\ndeclare -f c\n", "declare -fr a\ndeclare -fx b\n", "",
        "declare -f a\ndeclare -f\n", "declare -f a\nx\n"})
    EXPECT_FALSE(Parse({"", names, kTwoBodies, "", "/\n"}, &why)) << names;
  EXPECT_FALSE(Parse({"", "declare -f a\n", "a () \n{ \n'\na () \n'\n}\n", "", "/\n"}, &why));
  EXPECT_EQ(why, "ambiguous function text");
}

TEST(ParseCaptureTest, LeavesOutOurSudoAndReservedNames) {
  std::string why;
  std::string sudo(kAskpassSudo);
  std::string command = "command () \n{ \n    :\n}\n";
  auto state =
      Parse({"", "declare -f command\ndeclare -f sudo\n", command + sudo + "\n", "", "/\n"}, &why);
  ASSERT_TRUE(state) << why;
  EXPECT_THAT(state->functions, IsEmpty());
}

TEST(ParseCaptureTest, ReadsTheSmallerCaptureOfSh) {
  std::string why;
  std::string captured =
      "N\0export A='1'\nexport R='2'\nexport U\n\0readonly R='2'\n\0/a\nb\n\0N\0"s;
  auto state = ParseCapture(Kind::kSh, captured, "N", &why);
  ASSERT_TRUE(state) << why;
  EXPECT_THAT(state->env, ElementsAre(Pair("A", "1")));
  EXPECT_EQ(state->cwd, "/a\nb");
}

State Make(std::map<std::string, std::string> env, std::string cwd = "/") {
  State state;
  state.env = std::move(env);
  state.cwd = std::move(cwd);
  return state;
}

TEST(MergeTest, AppliesOnlyWhatTheCommandChanged) {
  State session = Make({{"SAME", "theirs"}, {"GONE", "1"}, {"NEW_THERE", "1"}}, "/theirs");
  State base = Make({{"SAME", "1"}, {"GONE", "1"}, {"CHANGED", "1"}});
  State after = Make({{"SAME", "1"}, {"CHANGED", "2"}, {"ADDED", "3"}});
  EXPECT_TRUE(Merge(base, after, {}, true, &session));
  EXPECT_EQ(
      session,
      Make({{"SAME", "theirs"}, {"NEW_THERE", "1"}, {"CHANGED", "2"}, {"ADDED", "3"}}, "/theirs"));
}

TEST(MergeTest, SaysWhenNothingChanged) {
  State session = Make({{"A", "1"}});
  State base = Make({{"A", "1"}, {"B", "1"}});
  EXPECT_FALSE(Merge(base, base, {}, true, &session));
  EXPECT_FALSE(Merge(base, Make({{"A", "1"}}), {}, true, &session));  // B is gone already
  EXPECT_FALSE(Merge(Make({}), Make({{"A", "1"}}), {}, true, &session));
}

TEST(MergeTest, PassesOverWhatIsNotKept) {
  State session = Make({{"OLD", "1"}});
  State base = Make({{"OLD", "1"}});
  EXPECT_FALSE(Merge(base, Make({{"SECRET", "x"}}), {"SECRET", "OLD"}, true, &session));
  EXPECT_EQ(session, base);
}

TEST(MergeTest, MovesTheDirectoryOnlyWhenAsked) {
  State session = Make({}, "/a");
  EXPECT_FALSE(Merge(Make({}, "/a"), Make({}, "/b"), {}, false, &session));
  EXPECT_EQ(session.cwd, "/a");
  EXPECT_TRUE(Merge(Make({}, "/a"), Make({}, "/b"), {}, true, &session));
  EXPECT_EQ(session.cwd, "/b");
}

TEST(MergeTest, TakesAFunctionThatOnlyBecameExported) {
  State base;
  base.functions["f"] = {"f () \n{ \n    :\n}", false};
  State after = base;
  after.functions["f"].exported = true;
  after.aliases["l"] = "ls";
  State session = base;
  EXPECT_TRUE(Merge(base, after, {"f", "l"}, true, &session));
  EXPECT_EQ(session, after);
}

State Full() {
  State state = Make({{"A", "1"}, {"B", "x\0y"s}}, "/tmp");
  state.functions["f"] = {"f () \n{ \n    :\n}", true};
  state.functions["g"] = {"", false};
  state.aliases["l"] = "ls";
  return state;
}

TEST(EncodeTest, GivesBackTheSameState) {
  EXPECT_EQ(Decode(Encode(Full())), Full());
  EXPECT_EQ(Decode(Encode(State{})), State{});
}

TEST(EncodeTest, DecodesNothingElse) {
  std::string text = Encode(Full());
  for (size_t size = 0; size < text.size(); ++size) EXPECT_FALSE(Decode(text.substr(0, size)));
  EXPECT_FALSE(Decode(text + '\0'));
  for (size_t i = 0; i < text.size(); ++i) {
    for (char flip : {'\x01', '\x80'}) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      auto state = Decode(changed);
      if (state) EXPECT_EQ(Encode(*state), changed);
    }
  }
}

}  // namespace
}  // namespace hermes::shell
