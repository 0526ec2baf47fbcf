#include "backends/ssh/mux_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backends/ssh/mux_stream.h"
#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/status.h"

namespace hermes::mux {
namespace {

std::string Bytes(std::initializer_list<uint32_t> words) {
  std::string bytes;
  for (const uint32_t word : words) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(word >> shift));
  }
  return bytes;
}

std::string Reply(Type type, uint32_t id, const std::string& text) {
  const auto size = static_cast<uint32_t>(text.size());
  return Bytes({12 + size, static_cast<uint32_t>(type), id, size}) + text;
}

std::vector<Message> DecodeAll(Decoder& decoder) {
  std::vector<Message> messages;
  while (true) {
    auto next = decoder.Next();
    EXPECT_TRUE(next.ok()) << next.status();
    if (!next.ok() || !next->has_value()) return messages;
    messages.push_back(**next);
  }
}

TEST(MuxWireTest, EncodesWhatTheProtocolAsksFor) {
  EXPECT_EQ(EncodeHello(), Bytes({8, 1, 4}));
  EXPECT_EQ(EncodeRequest(Type::kAliveCheck, 7), Bytes({8, 0x10000004, 7}));
  EXPECT_EQ(EncodeRequest(Type::kTerminate, 7), Bytes({8, 0x10000005, 7}));
  // Empty reserved text, four flags as numbers, no escape character, no terminal, the command.
  EXPECT_EQ(EncodeNewSession(3, "true"),
            Bytes({44, 0x10000002, 3, 0, 0, 0, 0, 0, 0xffffffff, 0, 4}) + "true");
}

TEST(MuxWireTest, DecodesEveryReplyHoweverItIsCut) {
  const std::string bytes =
      EncodeHello() + Bytes({12, 0x80000006, 1, 5}) + Bytes({12, 0x80000004, 5, 255}) +
      Bytes({8, 0x80000008, 5}) + Bytes({12, 0x80000005, 2, 4711}) + Bytes({8, 0x80000001, 3}) +
      Reply(Type::kFailure, 4, "no") + Reply(Type::kPermissionDenied, 5, "never");
  const std::vector<Message> expected = {
      {Type::kHello, 0, 4, ""},     {Type::kOpened, 1, 5, ""},
      {Type::kExit, 5, 255, ""},    {Type::kTtyAllocFail, 5, 0, ""},
      {Type::kAlive, 2, 4711, ""},  {Type::kOk, 3, 0, ""},
      {Type::kFailure, 4, 0, "no"}, {Type::kPermissionDenied, 5, 0, "never"}};
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    Decoder decoder;
    std::vector<Message> messages;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      decoder.Append(std::string_view(bytes).substr(at, piece));
      for (Message& message : DecodeAll(decoder)) messages.push_back(message);
    }
    ASSERT_EQ(messages, expected) << piece;
  }
}

TEST(MuxWireTest, LeavesOutWhatNobodyAskedFor) {
  Decoder decoder;
  decoder.Append(Bytes({12, 0x80000007, 1, 2}) + Bytes({4, 99}) + EncodeHello());
  EXPECT_EQ(DecodeAll(decoder), (std::vector<Message>{{Type::kHello, 0, 4, ""}}));
}

TEST(MuxWireTest, CutsALongReason) {
  Decoder decoder;
  decoder.Append(Reply(Type::kFailure, 1, std::string(kMaxText + 1, 'x')));
  EXPECT_EQ(DecodeAll(decoder).front().text.size(), kMaxText);
}

TEST(MuxWireTest, WhatCannotBeIsFinal) {
  for (const std::string& bytes :
       {Bytes({0}), Bytes({3}), Bytes({0xffffffff}), Bytes({kMaxMessage + 1}),
        Bytes({8, 0x80000004, 1}), Bytes({12, 0x80000003, 1, 5}), Bytes({4, 1})}) {
    Decoder decoder;
    decoder.Append(bytes);
    EXPECT_EQ(ReasonOf(decoder.Next().status()), Reason::k_BACKEND_UNREACHABLE);
    decoder.Append(EncodeHello());
    EXPECT_FALSE(decoder.Next().ok());
  }
}

TEST(MuxWireTest, OnlyARefusalOfTheHostIsABusySlot) {
  EXPECT_EQ(StatusOfReply({.type = Type::kOpened}), absl::OkStatus());
  EXPECT_TRUE(
      IsSlotBusy(StatusOfReply({.type = Type::kFailure, .text = "Session open refused by peer"})));
  const auto status =
      StatusOfReply({.type = Type::kFailure, .text = "did not receive file descriptors"});
  EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_FALSE(IsSlotBusy(status));
  EXPECT_EQ(ReasonOf(StatusOfReply({.type = Type::kHello, .value = 5})),
            Reason::k_CAPABILITY_MISSING);
}

}  // namespace
}  // namespace hermes::mux
