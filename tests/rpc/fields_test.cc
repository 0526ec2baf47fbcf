#include "daemon/rpc/fields.h"

#include <gtest/gtest.h>

#include <string>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using namespace std::chrono_literals;

google::protobuf::Duration Wire(int64_t seconds, int32_t nanos) {
  google::protobuf::Duration duration;
  duration.set_seconds(seconds);
  duration.set_nanos(nanos);
  return duration;
}

TEST(FieldsTest, IdsFollowTheirPattern) {
  for (const char* good : {"a", "7", "ab", "a-b", "a.b_c-9", "0-0"})
    EXPECT_TRUE(IsId(good)) << good;
  EXPECT_TRUE(IsId(std::string(63, 'x')));
  for (const char* bad : {"", "-", "a-", "-a", ".a", "a.", "A", "a b", "a/b", "a\n", "é", "_a"}) {
    EXPECT_FALSE(IsId(bad)) << bad;
  }
  EXPECT_FALSE(IsId(std::string(64, 'x')));
  EXPECT_FALSE(IsId(std::string_view("a\0b", 3)));
}

TEST(FieldsTest, SessionNamesAreParsedOrRefusedWithTheirField) {
  EXPECT_EQ(*ParseSessionName("name", "sessions/box-1"), "box-1");
  for (const char* bad : {"", "box", "sessions/", "sessions/A", "session/a", "sessions/a/b",
                          "sessions/a/commands/b", " sessions/a", "sessions/..", "/sessions/a"}) {
    const absl::Status status = ParseSessionName("name", bad).status();
    EXPECT_EQ(ReasonOf(status), Reason::k_BAD_NAME) << bad;
    EXPECT_EQ(MetadataOf(status)["field"], "name") << bad;
  }
}

TEST(FieldsTest, CommandNamesAreParsedOrRefused) {
  const auto name = ParseCommandName("name", "sessions/s/commands/c1");
  ASSERT_TRUE(name.ok());
  EXPECT_EQ(name->session, "s");
  EXPECT_EQ(name->command, "c1");
  for (const char* bad :
       {"", "sessions/s", "sessions/s/commands/", "sessions/s/commands/C", "sessions//commands/c",
        "sessions/s/commands/c/d", "sessions/s/commands/c/commands/d", "sessions/s/command/c"}) {
    EXPECT_EQ(ReasonOf(ParseCommandName("name", bad).status()), Reason::k_BAD_NAME) << bad;
  }
}

TEST(FieldsTest, UuidsAreCanonicalAndBecomeLowerCase) {
  EXPECT_EQ(*ParseUuid("request_id", "00112233-4455-6677-8899-AABBCCDDEEFF"),
            "00112233-4455-6677-8899-aabbccddeeff");
  for (const char* bad :
       {"x", "00112233445566778899aabbccddeeff", "{00112233-4455-6677-8899-aabbccddeeff}",
        "00112233-4455-6677-8899-aabbccddeefg", "00112233-4455-6677-8899-aabbccddeeff ",
        "00112233-4455-6677-8899-aabbccddeef", "0011223-34455-6677-8899-aabbccddeeff"}) {
    const absl::Status status = ParseUuid("request_id", bad).status();
    EXPECT_EQ(ReasonOf(status), Reason::k_BAD_FIELD) << bad;
    EXPECT_EQ(MetadataOf(status)["field"], "request_id");
  }
  const std::string with_nul("00112233-4455-6677-8899-aabbccddee\0f", 36);
  EXPECT_FALSE(ParseUuid("request_id", with_nul).ok());
}

TEST(FieldsTest, DurationsAreHonouredOrRefusedNeverClamped) {
  const DurationRule rule{.limit = 60s};
  EXPECT_EQ(*ParseDuration("t", Wire(1, 500'000'000), rule), 1500ms);
  EXPECT_EQ(*ParseDuration("t", Wire(60, 0), rule), 60s);
  EXPECT_EQ(*ParseDuration("t", Wire(0, 0), rule), 0s);
  struct Row {
    int64_t seconds;
    int32_t nanos;
  };
  for (const Row& row :
       {Row{-1, 0}, Row{0, -1}, Row{-1, -1}, Row{1, -1}, Row{-1, 1}, Row{60, 1}, Row{61, 0},
        Row{0, 1'000'000'000}, Row{0, -1'000'000'000}, Row{INT64_MAX, 0}, Row{INT64_MIN, 0},
        Row{0, INT32_MAX}, Row{0, INT32_MIN}, Row{315'576'000'000, 999'999'999}}) {
    const absl::Status status = ParseDuration("t", Wire(row.seconds, row.nanos), rule).status();
    EXPECT_EQ(ReasonOf(status), Reason::k_BAD_TIMEOUT) << row.seconds << " " << row.nanos;
    EXPECT_EQ(MetadataOf(status)["field"], "t");
    EXPECT_EQ(MetadataOf(status)["limit_seconds"], "60");
  }
  EXPECT_FALSE(ParseDuration("t", Wire(0, 0), {.limit = 60s, .zero_allowed = false}).ok());
}

TEST(FieldsTest, PathsAreAbsoluteOrBelowHome) {
  for (const char* good : {"", "/", "/a b", "~/x", "/\xff"})
    EXPECT_TRUE(CheckPath("cwd", good).ok());
  EXPECT_TRUE(CheckPath("cwd", "/" + std::string(4095, 'x')).ok());
  for (const char* bad : {"a", "./a", "~", "~root/x", " /"}) {
    EXPECT_EQ(MetadataOf(CheckPath("cwd", bad))["field"], "cwd") << bad;
  }
  EXPECT_FALSE(CheckPath("cwd", "/" + std::string(4096, 'x')).ok());
  EXPECT_FALSE(CheckPath("cwd", std::string_view("/a\0b", 4)).ok());
}

TEST(FieldsTest, EnvironmentsAreCheckedEntryByEntry) {
  EnvBudget budget;
  StringMap env;
  env["B"] = "2";
  env["A_1"] = "";
  const auto pairs = ParseEnv("env", env, budget);
  ASSERT_TRUE(pairs.ok());
  EXPECT_EQ(*pairs, (EnvPairs{{"A_1", ""}, {"B", "2"}}));
  for (const char* bad : {"", "1A", "A B", "A=B", "A-B", "é"}) {
    StringMap map;
    map[bad] = "topsecret";
    EnvBudget fresh;
    const absl::Status status = ParseEnv("secret_env", map, fresh).status();
    EXPECT_EQ(ReasonOf(status), Reason::k_BAD_FIELD) << bad;
    EXPECT_EQ(MetadataOf(status)["field"].substr(0, 11), "secret_env[");
    EXPECT_EQ(status.ToString().find("topsecret"), std::string::npos);
  }
  StringMap nul;
  nul["A"] = std::string("x\0y", 3);
  EXPECT_EQ(MetadataOf(ParseEnv("env", nul, budget).status())["field"], "env[A]");
  StringMap name_nul;
  name_nul[std::string("A\0", 2)] = "x";
  EXPECT_EQ(MetadataOf(ParseEnv("env", name_nul, budget).status())["field"], "env[A?]");
}

TEST(FieldsTest, EnvironmentsHaveLimitsOverAllMapsOfARequest) {
  StringMap one;
  one["A"] = std::string(kMaxArgBytes - 2, 'x');
  EnvBudget budget;
  EXPECT_TRUE(ParseEnv("env", one, budget).ok());
  one["A"] += 'x';
  budget = {};
  EXPECT_FALSE(ParseEnv("env", one, budget).ok());

  StringMap many;
  for (size_t i = 0; i < kMaxEnvEntries; ++i) many["V" + std::to_string(i)] = "";
  budget = {};
  EXPECT_TRUE(ParseEnv("env", many, budget).ok());
  StringMap last;
  last["LAST"] = "";
  EXPECT_EQ(MetadataOf(ParseEnv("secret_env", last, budget).status())["field"], "secret_env");

  StringMap large;
  for (int i = 0; i < 61; ++i) large["V" + std::to_string(i)] = std::string(100 << 10, 'x');
  budget = {};
  EXPECT_TRUE(ParseEnv("env", large, budget).ok());
  EXPECT_EQ(MetadataOf(ParseEnv("secret_env", large, budget).status())["field"], "secret_env");
}

TEST(FieldsTest, AMillionVariablesAreRefusedBeforeTheyAreCopied) {
  StringMap env;
  for (int i = 0; i < 1'000'000; ++i) env["V" + std::to_string(i)] = "";
  EnvBudget budget;
  EXPECT_EQ(MetadataOf(ParseEnv("env", env, budget).status())["field"], "env");
}

TEST(FieldsTest, LabelsHaveKeysValuesAndANumber) {
  StringMap labels;
  labels["team/a.b_c-1"] = "Grün ✓";
  labels[std::string(63, 'k')] = std::string(256, 'v');
  EXPECT_TRUE(ParseLabels("labels", labels).ok());
  for (const char* bad : {"", "A", "a b", "é"}) {
    StringMap map;
    map[bad] = "";
    EXPECT_EQ(ReasonOf(ParseLabels("labels", map).status()), Reason::k_BAD_FIELD) << bad;
  }
  for (const std::string& bad : {std::string(257, 'v'), std::string("a\nb"), std::string("\x7f"),
                                 std::string("a\0b", 3), std::string("\xc2\x85")}) {
    StringMap map;
    map["k"] = bad;
    EXPECT_EQ(MetadataOf(ParseLabels("labels", map).status())["field"], "labels[k]");
  }
  StringMap map;
  for (int i = 0; i < 65; ++i) map["k" + std::to_string(i)] = "";
  EXPECT_EQ(MetadataOf(ParseLabels("labels", map).status())["field"], "labels");
  map.erase("k0");
  EXPECT_TRUE(ParseLabels("labels", map).ok());
}

TEST(FieldsTest, Utf8IsToldFromOtherBytes) {
  for (const char* good : {"", "abc", "é", "€", "😀", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xff"}) {
    EXPECT_FALSE(IsUtf8(bad));
  }
}

TEST(FieldsTest, TextIsCutBetweenCharacters) {
  EXPECT_EQ(CutUtf8("abc", 5), "abc");
  EXPECT_EQ(CutUtf8("abc", 2), "ab");
  EXPECT_EQ(CutUtf8("aé", 2), "a");
  EXPECT_EQ(CutUtf8("aéb", 3), "aé");
  EXPECT_EQ(CutUtf8("a€b", 3), "a");
  EXPECT_EQ(CutUtf8("é", 1), "") << "the first character does not fit";
  EXPECT_EQ(CutUtf8("😀", 3), "");
  EXPECT_EQ(CutUtf8("é", 0), "");
  EXPECT_EQ(CutUtf8("😀😀", 7), "😀");
  EXPECT_EQ(CutUtf8("😀😀", 4), "😀");
  EXPECT_EQ(CutUtf8("\x80\x80\x80\x80\x80\x80", 5).size(), 5u);
}

TEST(FieldsTest, PageTokensComeBackOnlyToTheirList) {
  const std::string token = EncodePageToken("sessions", "box");
  EXPECT_EQ(*DecodePageToken("sessions", token), "box");
  EXPECT_EQ(*DecodePageToken("sessions", ""), "");
  for (const std::string& bad : {std::string("x"), std::string("zz"), token + "0", token + "zz",
                                 EncodePageToken("commands/", "box"),
                                 EncodePageToken("sessions", ""), std::string(514, '0')}) {
    EXPECT_EQ(MetadataOf(DecodePageToken("sessions", bad).status())["field"], "page_token") << bad;
  }
}

TEST(FieldsTest, PageSizesHaveADefaultAndALimit) {
  EXPECT_EQ(*ParsePageSize(0, 100, 1000), 100u);
  EXPECT_EQ(*ParsePageSize(1000, 100, 1000), 1000u);
  EXPECT_FALSE(ParsePageSize(1001, 100, 1000).ok());
  EXPECT_FALSE(ParsePageSize(-1, 100, 1000).ok());
  EXPECT_FALSE(ParsePageSize(INT32_MIN, 100, 1000).ok());
}

TEST(FieldsTest, ShownTextIsShortAndPrintable) {
  EXPECT_EQ(Shown("a\nb\x80"), "a?b?");
  EXPECT_EQ(Shown("a\xc2\x9b"
                  "2Jé"),
            "a?2Jé")
      << "a control character of two bytes";
  EXPECT_LT(Shown(std::string(10'000, 'x')).size(), 100u);
}

}  // namespace
}  // namespace hermes
