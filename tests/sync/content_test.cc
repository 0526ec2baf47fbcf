#include "sync/content.h"

#include <gtest/gtest.h>

namespace hermes::sync {
namespace {

TEST(ContentTest, DigestsAsSha256Does) {
  EXPECT_EQ(Hex(DigestOf("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Hasher hasher;
  hasher.Update("a");
  hasher.Update("");
  hasher.Update("bc");
  EXPECT_EQ(hasher.Finish(), DigestOf("abc"));
}

TEST(ContentTest, ReadsOnlyWhatItWrites) {
  Digest digest = DigestOf("x");
  EXPECT_EQ(ParseDigest(Hex(digest)), digest);
  EXPECT_EQ(ParseDigest(Hex(digest) + "0"), std::nullopt);
  EXPECT_EQ(ParseDigest(Hex(digest).substr(1)), std::nullopt);
  EXPECT_EQ(ParseDigest(std::string(64, 'A')), std::nullopt);
  EXPECT_EQ(ParseDigest(std::string(64, 'g')), std::nullopt);
}

TEST(ContentTest, VersionsDifferByBytesAndByExecutability) {
  Content plain{DigestOf("x"), 1, false};
  Content executable = plain;
  executable.executable = true;
  EXPECT_EQ(plain, plain);
  EXPECT_NE(plain, executable);
}

}  // namespace
}  // namespace hermes::sync
