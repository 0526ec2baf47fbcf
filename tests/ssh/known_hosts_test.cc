#include "backends/ssh/known_hosts.h"

#include <gtest/gtest.h>

#include "backends/ssh/libssh2_wire.h"

namespace hermes {
namespace {

std::string Blob(const std::string& type, const std::string& body) {
  std::string blob;
  PutString(blob, type);
  PutString(blob, body);
  return blob;
}

std::string Line(const std::string& names, const std::string& blob) {
  return names + " " + KeyTypeOf(blob) + " " + EncodeBase64(blob) + "\n";
}

const std::string kOne = Blob("ssh-ed25519", "one");
const std::string kTwo = Blob("ssh-ed25519", "two");
const std::string kRsa = Blob("ssh-rsa", "three");

HostKeyVerdict Judge(const std::string& text, const std::string& host, uint32_t port,
                     const std::string& shown) {
  return JudgeHostKey(FindKnownHost(text, "f", host, port), shown).verdict;
}

TEST(KnownHostsTest, KnowsAHostByNameListAndAnyCase) {
  const std::string text = Line("a.example,B.example", kOne);
  EXPECT_EQ(Judge(text, "b.EXAMPLE", 22, kOne), HostKeyVerdict::kKnown);
  EXPECT_EQ(Judge(text, "c.example", 22, kOne), HostKeyVerdict::kUnknown);
}

TEST(KnownHostsTest, TellsAChangedKeyFromOneOfAnotherType) {
  const std::string text = "# comment\n\n" + Line("h", kOne);
  EXPECT_EQ(Judge(text, "h", 22, kTwo), HostKeyVerdict::kChanged);
  EXPECT_EQ(Judge(text, "h", 22, kRsa), HostKeyVerdict::kOtherType);
  EXPECT_EQ(JudgeHostKey(FindKnownHost(text, "f", "h", 22), kTwo).line.where, "f:3");
}

TEST(KnownHostsTest, OneOfSeveralKeysOfATypeIsEnough) {
  const std::string text = Line("h", kOne) + Line("h", kTwo);
  EXPECT_EQ(Judge(text, "h", 22, kTwo), HostKeyVerdict::kKnown);
}

TEST(KnownHostsTest, APortIsPartOfTheName) {
  const std::string text = Line("[h]:2222", kOne);
  EXPECT_EQ(Judge(text, "h", 2222, kOne), HostKeyVerdict::kKnown);
  EXPECT_EQ(Judge(text, "h", 2222, kTwo), HostKeyVerdict::kChanged);
  EXPECT_EQ(Judge(text, "h", 22, kOne), HostKeyVerdict::kUnknown);
  EXPECT_EQ(KnownHostName("H", 22), "h");
  EXPECT_EQ(KnownHostName("H", 2222), "[h]:2222");
}

TEST(KnownHostsTest, ALineWithoutPortConfirmsButDoesNotContradictAnother) {
  const std::string text = Line("h", kOne);
  EXPECT_EQ(Judge(text, "h", 2222, kOne), HostKeyVerdict::kKnown);
  EXPECT_EQ(Judge(text, "h", 2222, kTwo), HostKeyVerdict::kUnknown);
}

TEST(KnownHostsTest, PatternsMatchAndNegationWins) {
  const std::string text = Line("*.example,!bad.example,10.0.0.?", kOne);
  EXPECT_EQ(Judge(text, "a.b.example", 22, kOne), HostKeyVerdict::kKnown);
  EXPECT_EQ(Judge(text, "bad.example", 22, kOne), HostKeyVerdict::kUnknown);
  EXPECT_EQ(Judge(text, "10.0.0.7", 22, kOne), HostKeyVerdict::kKnown);
  EXPECT_EQ(Judge(text, "10.0.0.77", 22, kOne), HostKeyVerdict::kUnknown);
  EXPECT_EQ(Judge(Line("!h", kOne), "h", 22, kOne), HostKeyVerdict::kUnknown);
}

TEST(KnownHostsTest, ManyStarsTakeNoExponentialTime) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  EXPECT_EQ(Judge(Line(pattern + "b", kOne), std::string(250, 'a'), 22, kOne),
            HostKeyVerdict::kUnknown);
}

// Made by ssh-keygen -H from "[127.0.0.1]:2222".
TEST(KnownHostsTest, HashedNamesMatch) {
  const std::string hashed = "|1|tNZ+bkzmeDj4zvKpcqGJoHMiRLI=|0bt5eFKVxdOiOJ1UtvQ05XVHZgw=";
  EXPECT_EQ(Judge(Line(hashed, kOne), "127.0.0.1", 2222, kOne), HostKeyVerdict::kKnown);
  EXPECT_EQ(Judge(Line(hashed, kOne), "127.0.0.1", 2223, kOne), HostKeyVerdict::kUnknown);
  EXPECT_EQ(Judge(Line("|1|????|x", kOne), "127.0.0.1", 2222, kOne), HostKeyVerdict::kUnknown);
}

TEST(KnownHostsTest, ARevokedKeyIsNeverKnown) {
  const std::string text = Line("h", kOne) + Line("@revoked *", kOne);
  EXPECT_EQ(Judge(text, "h", 22, kOne), HostKeyVerdict::kRevoked);
  EXPECT_EQ(Judge(Line("@revoked *", kTwo), "h", 22, kOne), HostKeyVerdict::kUnknown);
}

TEST(KnownHostsTest, AuthoritiesAndNonsenseAreSkipped) {
  EXPECT_EQ(Judge(Line("@cert-authority *", kOne), "h", 22, kOne), HostKeyVerdict::kUnknown);
  EXPECT_EQ(Judge(Line("@else *", kOne), "h", 22, kOne), HostKeyVerdict::kUnknown);
  const std::string wrong_type = "h ssh-rsa " + EncodeBase64(kOne) + "\n";
  const std::string text = "h\nh ssh-ed25519\nh ssh-ed25519 ***\n" + wrong_type;
  EXPECT_TRUE(FindKnownHost(text, "f", "h", 22).empty());
}

TEST(KnownHostsTest, FingerprintsAreThoseOfSshKeygen) {
  EXPECT_EQ(DecodeBase64("YWI="), "ab");
  EXPECT_EQ(DecodeBase64("YWI"), "ab");
  EXPECT_EQ(DecodeBase64("Y"), std::nullopt);
  EXPECT_EQ(DecodeBase64("Y WI"), std::nullopt);
  EXPECT_EQ(KeyFingerprint("abc"), "SHA256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0");
}

}  // namespace
}  // namespace hermes
