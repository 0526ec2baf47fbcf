#include "sync/unpack/wire.h"

#include <gtest/gtest.h>

namespace hermes::sync::unpack {
namespace {

TEST(UnpackWireTest, ARequestComesBackAsItWas) {
  Request request{.max_total_bytes = 1ull << 40, .max_members = 7, .salvage = true};
  request.wanted = {
      {"a", 1}, {std::string("b\xff/\n", 4), 1ull << 33}, {std::string(4096, 'c'), 0}};
  std::string bytes;
  Encode(bytes, request);
  EXPECT_EQ(RequestBytes(bytes), bytes.size());
  std::optional<Request> again = DecodeRequest(bytes);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->max_total_bytes, request.max_total_bytes);
  EXPECT_EQ(again->max_members, request.max_members);
  EXPECT_TRUE(again->salvage);
  ASSERT_EQ(again->wanted.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(again->wanted[i].name, request.wanted[i].name);
    EXPECT_EQ(again->wanted[i].max_bytes, request.wanted[i].max_bytes);
  }
}

TEST(UnpackWireTest, ACutRequestIsNone) {
  Request request{.max_total_bytes = 1, .max_members = 1};
  request.wanted = {{"name", 1}};
  std::string bytes;
  Encode(bytes, request);
  const size_t without_names = bytes.size() - 14;
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_EQ(DecodeRequest(bytes.substr(0, cut)).has_value(), cut == without_names) << cut;
  }
}

TEST(UnpackWireTest, RecordsAreTakenOneByOneAndOnlyWhole) {
  const Record records[] = {Hello{31, 7},
                            File{1, 5, true},
                            Data{"bytes"},
                            Copy{2, 1},
                            Odd{3, Oddity::kFifo, "fifo"},
                            Lie{LieKind::kTwoNames, "name"},
                            End{End::How::kCut}};
  std::string bytes;
  for (const Record& record : records) Encode(bytes, record);
  for (const Record& expected : records) {
    Record record;
    size_t consumed = 0;
    ASSERT_EQ(ParseRecord(bytes, &record, &consumed), Parse::kRecord);
    EXPECT_EQ(record.index(), expected.index());
    for (size_t cut = 0; cut < consumed; ++cut) {
      EXPECT_EQ(ParseRecord(bytes.substr(0, cut), &record, &consumed), Parse::kMore) << cut;
    }
    bytes.erase(0, consumed);
  }
  EXPECT_TRUE(bytes.empty());
}

TEST(UnpackWireTest, WhatIsNoRecordIsRefused) {
  auto parse = [](std::string_view bytes) {
    Record record;
    size_t consumed = 0;
    return ParseRecord(bytes, &record, &consumed);
  };
  EXPECT_EQ(parse(std::string_view("\0\0\0\0", 4)), Parse::kBad);                 // no type
  EXPECT_EQ(parse("\xff\xff\xff\xff"), Parse::kBad);                              // too long
  EXPECT_EQ(parse(std::string_view("\1\0\0\0\x09", 5)), Parse::kBad);             // unknown
  EXPECT_EQ(parse(std::string_view("\1\0\0\0\3", 5)), Parse::kBad);               // no bytes
  EXPECT_EQ(parse(std::string_view("\2\0\0\0\7\x63", 6)), Parse::kBad);           // no such end
  EXPECT_EQ(parse(std::string_view("\3\0\0\0\7\0\0", 7)), Parse::kBad);           // more than it
  EXPECT_EQ(parse(std::string_view("\6\0\0\0\5\0\0\0\0\x63", 10)), Parse::kBad);  // no oddity
}

TEST(UnpackWireTest, NamesAreCutToTheirLimit) {
  std::string bytes;
  Encode(bytes, Lie{LieKind::kUnrequested, std::string(70'000, 'n')});
  Record record;
  size_t consumed = 0;
  ASSERT_EQ(ParseRecord(bytes, &record, &consumed), Parse::kRecord);
  EXPECT_EQ(std::get<Lie>(record).name.size(), kMaxNameBytes);
}

TEST(UnpackWireTest, EveryOddityAndLieHasWords) {
  for (uint8_t i = 0; i < static_cast<uint8_t>(Oddity::kCount); ++i) {
    EXPECT_FALSE(Text(static_cast<Oddity>(i)).empty());
  }
  for (uint8_t i = 0; i < static_cast<uint8_t>(LieKind::kCount); ++i) {
    EXPECT_FALSE(Text(static_cast<LieKind>(i)).empty());
  }
  EXPECT_TRUE(IsLimit(LieKind::kTooMuch));
  EXPECT_FALSE(IsLimit(LieKind::kUnrequested));
}

}  // namespace
}  // namespace hermes::sync::unpack
