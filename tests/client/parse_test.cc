#include "client/parse.h"

#include <gtest/gtest.h>

#include <set>

namespace hermes::client {
namespace {

std::string Message(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

double Seconds(std::string_view text) {
  auto parsed = ParseDuration(text);
  EXPECT_TRUE(parsed.ok()) << text << ": " << Message(parsed.status());
  return parsed.ok() ? static_cast<double>(parsed->seconds()) + parsed->nanos() / 1e9 : -1;
}

TEST(ParseDurationTest, ReadsEveryUnitAndTheirSums) {
  EXPECT_EQ(Seconds("500ms"), 0.5);
  EXPECT_EQ(Seconds("5s"), 5);
  EXPECT_EQ(Seconds("1h30m"), 5400);
  EXPECT_EQ(Seconds("2d"), 172800);
  EXPECT_EQ(Seconds("1.5h"), 5400);
  EXPECT_EQ(Seconds("250us"), 0.00025);
  EXPECT_EQ(Seconds("1m1ms"), 60.001);
  EXPECT_EQ(Seconds("0s"), 0);
}

TEST(ParseDurationTest, RefusesPlainDigitsAndSaysWhatWouldBeRight) {
  auto parsed = ParseDuration("5");
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(Message(parsed.status()).find("unit is missing"), std::string::npos);
  EXPECT_NE(Message(parsed.status()).find("5s"), std::string::npos);
}

TEST(ParseDurationTest, RefusesWhatIsNoDuration) {
  for (const char* text : {"", "-5s", "s", "5x", "5s3", "1.s", ".5s", "5 s", "5S", "1e3s", "+5s",
                           "99999999999999999999s", "36601d", "999999999999d"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
}

TEST(ParseSizeTest, ReadsBytesAndPowersOf1024) {
  EXPECT_EQ(*ParseSize("0"), 0u);
  EXPECT_EQ(*ParseSize("512"), 512u);
  EXPECT_EQ(*ParseSize("512B"), 512u);
  EXPECT_EQ(*ParseSize("64k"), 65536u);
  EXPECT_EQ(*ParseSize("10M"), 10u << 20);
  EXPECT_EQ(*ParseSize("1GiB"), 1u << 30);
  EXPECT_EQ(*ParseSize("18446744073709551615"), ~uint64_t{0});
}

TEST(ParseSizeTest, RefusesWhatIsNoSizeOrTooLarge) {
  for (const char* text :
       {"", "k", "-1", "1x", "1kk", "18446744073709551616", "99999999999T", "1 k"}) {
    EXPECT_FALSE(ParseSize(text).ok()) << text;
  }
}

TEST(ParseNameTest, TakesShortAndFullForms) {
  EXPECT_EQ(*ParseSession("box"), "sessions/box");
  EXPECT_EQ(*ParseSession("sessions/box.1"), "sessions/box.1");
  EXPECT_EQ(*ParseCommand("box/c1"), "sessions/box/commands/c1");
  EXPECT_EQ(*ParseCommand("sessions/box/commands/c1"), "sessions/box/commands/c1");
  EXPECT_EQ(ShortName("sessions/box/commands/c1"), "box/c1");
  EXPECT_EQ(*ParseSync("box/s1"), "sessions/box/syncs/s1");
  EXPECT_EQ(*ParseSync("sessions/box/syncs/s1"), "sessions/box/syncs/s1");
  EXPECT_EQ(ShortName("sessions/box/syncs/s1"), "box/s1");
  EXPECT_EQ(ShortName("sessions/box"), "box");
  EXPECT_EQ(ShortName("other"), "other");
}

TEST(ParseNameTest, RefusesMalformedNames) {
  std::string too_long(64, 'a');
  for (std::string text :
       {std::string(), std::string("Box"), std::string("-box"), std::string("box-"),
        std::string("a b"), std::string("a/b"), std::string("a\0b", 3), too_long}) {
    EXPECT_FALSE(ParseSession(text).ok()) << text;
  }
  for (const char* text : {"", "box", "box/", "/c1", "box/c1/x", "sessions/box/c1", "box/C1"}) {
    EXPECT_FALSE(ParseCommand(text).ok()) << text;
    EXPECT_FALSE(ParseSync(text).ok()) << text;
  }
}

TEST(ParsePairTest, SplitsAtTheFirstEqualsSign) {
  EXPECT_EQ(ParsePair("A=b=c", "--env")->second, "b=c");
  EXPECT_EQ(ParsePair("A=", "--env")->second, "");
  EXPECT_FALSE(ParsePair("A", "--env").ok());
  EXPECT_FALSE(ParsePair("=b", "--env").ok());
}

TEST(ParseSignalTest, TakesNamesAndNumbers) {
  EXPECT_EQ(*ParseSignal("TERM"), 15);
  EXPECT_EQ(*ParseSignal("SIGKILL"), 9);
  EXPECT_EQ(*ParseSignal("hup"), 1);
  EXPECT_EQ(*ParseSignal("64"), 64);
  for (const char* text : {"", "0", "65", "SIG", "BOGUS", "-9", "999"}) {
    EXPECT_FALSE(ParseSignal(text).ok()) << text;
  }
}

TEST(RequestIdTest, IsAFreshUuidEachTime) {
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) ids.insert(NewRequestId());
  EXPECT_EQ(ids.size(), 100u);
  for (const std::string& id : ids) EXPECT_TRUE(IsUuid(id)) << id;
  EXPECT_FALSE(IsUuid("not-a-uuid"));
  EXPECT_FALSE(IsUuid("0123456789abcdef0123456789abcdef0123"));
}

}  // namespace
}  // namespace hermes::client
