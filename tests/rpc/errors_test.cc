#include "daemon/rpc/errors.h"

#include <google/protobuf/any.pb.h>
#include <gtest/gtest.h>

#include <string>

#include "daemon/rpc/fields.h"
#include "daemon/runtime/status.h"
#include "hermes/v1/error.pb.h"

namespace hermes {
namespace {

struct Read {
  v1::ErrorStatus status;
  v1::ErrorInfo info;
  std::optional<v1::RetryInfo> retry;
};

Read ReadDetails(const WireError& wire) {
  Read read;
  EXPECT_TRUE(read.status.ParseFromString(wire.details));
  for (const google::protobuf::Any& any : read.status.details()) {
    if (any.type_url() == "type.googleapis.com/google.rpc.ErrorInfo") {
      EXPECT_TRUE(read.info.ParseFromString(any.value()));
    } else {
      EXPECT_EQ(any.type_url(), "type.googleapis.com/google.rpc.RetryInfo");
      read.retry.emplace();
      EXPECT_TRUE(read.retry->ParseFromString(any.value()));
    }
  }
  return read;
}

TEST(ErrorsTest, EveryReasonOfTheCatalogueArrivesWithItsCodeAndWhatToDoNext) {
  for (const ReasonInfo& info : ReasonCatalogue()) {
    const WireError wire = ToWire(Error(info.reason, "what happened", {{"field", "f"}}));
    EXPECT_EQ(wire.code, static_cast<int>(info.code)) << info.name;
    const Read read = ReadDetails(wire);
    EXPECT_EQ(read.status.code(), wire.code);
    EXPECT_EQ(read.status.message(), "what happened");
    EXPECT_EQ(read.info.reason(), info.name);
    EXPECT_EQ(read.info.domain(), "hermes.v1");
    EXPECT_EQ(read.info.metadata().at("field"), "f");
    EXPECT_EQ(read.info.metadata().at("next"), info.next);
    const bool retry =
        info.code == absl::StatusCode::kUnavailable || info.reason == Reason::k_BACKEND_RATE_LIMIT;
    EXPECT_EQ(read.retry.has_value(), retry) << info.name;
  }
}

TEST(ErrorsTest, WhoMadeAnErrorMayKnowBetterWhatToDo) {
  const Read read = ReadDetails(
      ToWire(Error(Reason::k_CAPABILITY_MISSING, "no room", {{"next", "Make room there."}})));
  EXPECT_EQ(read.info.metadata().at("next"), "Make room there.");
}

TEST(ErrorsTest, ABackendSaysWhenToRetry) {
  const auto delay_of = [](const std::string& told) {
    const Read read = ReadDetails(
        ToWire(Error(Reason::k_BACKEND_RATE_LIMIT, "slow down", {{"retry_after_ms", told}})));
    return read.retry->retry_delay().seconds() * 1000 + read.retry->retry_delay().nanos() / 1000000;
  };
  EXPECT_EQ(delay_of("1250"), 1250);
  EXPECT_EQ(delay_of("soon"), 5000);
  EXPECT_EQ(delay_of("-1"), 5000);
}

TEST(ErrorsTest, AStatusWithoutAReasonIsABugWithItsText) {
  const WireError wire = ToWire(absl::NotFoundError("odd"));
  EXPECT_EQ(wire.code, static_cast<int>(absl::StatusCode::kInternal));
  EXPECT_EQ(wire.message, "odd");
  EXPECT_EQ(ReadDetails(wire).info.reason(), "BUG");
}

TEST(ErrorsTest, OkAndCancelledNeedNoDetails) {
  EXPECT_EQ(ToWire(absl::OkStatus()).code, 0);
  EXPECT_EQ(ToWire(absl::CancelledError("gone")).code, 1);
  EXPECT_TRUE(ToWire(absl::CancelledError("gone")).details.empty());
}

TEST(ErrorsTest, TextsOfAnySizeAndBytesFitIntoTrailers) {
  const std::string huge(1 << 20, 'x');
  const WireError wire = ToWire(Error(Reason::k_BAD_FIELD, huge, {{"field", huge}}));
  EXPECT_LE(wire.message.size(), kMaxErrorText);
  EXPECT_LT(wire.details.size(), 4096u);
  const WireError bytes = ToWire(Error(Reason::k_BAD_FIELD, "a\xff", {{"field", "\xfe"}}));
  EXPECT_TRUE(IsUtf8(bytes.message));
  EXPECT_TRUE(IsUtf8(ReadDetails(bytes).info.metadata().at("field")));
}

}  // namespace
}  // namespace hermes
