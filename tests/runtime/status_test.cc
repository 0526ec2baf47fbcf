#include "daemon/runtime/status.h"

#include <cerrno>
#include <set>

#include <gtest/gtest.h>

#include "absl/strings/cord.h"
#include "daemon/runtime/task.h"

namespace hermes {
namespace {

TEST(StatusTest, CatalogueNamesAreUniqueUpperSnake) {
  std::set<std::string_view> names;
  for (const ReasonInfo& info : ReasonCatalogue()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(info.name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), info.name.npos)
        << info.name;
    EXPECT_NE(info.name.front(), '_') << info.name;
    EXPECT_NE(info.name.back(), '_') << info.name;
  }
  EXPECT_EQ(names.size(), ReasonCatalogue().size());
  EXPECT_GT(names.size(), 30u);
}

TEST(StatusTest, CatalogueEntriesAreErrorsWithWholeSentences) {
  for (const ReasonInfo& info : ReasonCatalogue()) {
    EXPECT_NE(info.code, absl::StatusCode::kOk) << info.name;
    EXPECT_NE(info.code, absl::StatusCode::kUnknown) << info.name;
    for (std::string_view text : {info.what, info.next}) {
      ASSERT_GT(text.size(), 1u) << info.name;
      EXPECT_EQ(text.back(), '.') << info.name;
      EXPECT_TRUE(text.front() >= 'A' && text.front() <= 'Z') << info.name;
    }
  }
}

TEST(StatusTest, EveryReasonSurvivesTheRoundTrip) {
  for (const ReasonInfo& info : ReasonCatalogue()) {
    EXPECT_EQ(InfoOf(info.reason).name, info.name);
    absl::Status status = Error(info.reason, "a message", {{"key", "value"}});
    EXPECT_EQ(status.code(), info.code);
    EXPECT_EQ(status.message(), "a message");
    EXPECT_EQ(ReasonOf(status), info.reason);
    EXPECT_EQ(MetadataOf(status), (Metadata{{"key", "value"}}));
  }
}

TEST(StatusTest, MetadataSurvivesAnyBytes) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  const Metadata metadata{{"", ""}, {"3:abc", ":"}, {all, all}, {"long", std::string(70000, '9')}};
  EXPECT_EQ(MetadataOf(Error(Reason::k_BUG, "x", metadata)), metadata);
}

TEST(StatusTest, SurvivesCopiesAndStatusOr) {
  absl::StatusOr<int> result = Error(Reason::k_DRAINING, "later");
  absl::Status copy = result.status();
  EXPECT_EQ(ReasonOf(copy), Reason::k_DRAINING);
  EXPECT_TRUE(MetadataOf(copy).empty());
}

TEST(StatusTest, ForeignStatusHasNoReason) {
  EXPECT_EQ(ReasonOf(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(ReasonOf(absl::InternalError("BUG")), std::nullopt);
  EXPECT_TRUE(MetadataOf(absl::InternalError("BUG")).empty());
}

TEST(StatusTest, DamagedPayloadHasNoReason) {
  const std::string kGood = "3:BUG1:k1:v";
  for (size_t length = 0; length < kGood.size(); ++length) {
    if (length == 5) continue;  // "3:BUG" is whole
    absl::Status status = absl::InternalError("x");
    status.SetPayload("hermes.v1/reason", absl::Cord(kGood.substr(0, length).c_str()));
    EXPECT_EQ(ReasonOf(status), std::nullopt) << length;
  }
  for (const char* bytes : {"4:NOPE", ":BUG", "3BUG", "99999999999999999999999:BUG", "-1:BUG",
                            "3:BUG1:k", "3:BUG1:k2:v", "3:BUGtail"}) {
    absl::Status status = absl::InternalError("x");
    status.SetPayload("hermes.v1/reason", absl::Cord(bytes));
    EXPECT_EQ(ReasonOf(status), std::nullopt) << bytes;
  }
}

TEST(StatusTest, BadFieldNamesTheField) {
  absl::Status status = BadField("cwd", "must be absolute");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "cwd: must be absolute");
  EXPECT_EQ(ReasonOf(status), Reason::k_BAD_FIELD);
  EXPECT_EQ(MetadataOf(status)["field"], "cwd");
}

TEST(StatusTest, AnErrorAboutAPartNamesTheWhole) {
  const absl::Status status = InField("mounts[2]", BadField("host_root", "must be absolute"));
  EXPECT_EQ(status.message(), "mounts[2].host_root: must be absolute");
  EXPECT_EQ(ReasonOf(status), Reason::k_BAD_FIELD);
  EXPECT_EQ(MetadataOf(status)["field"], "mounts[2].host_root");
  const absl::Status whole =
      InField("path", Error(Reason::k_PATH_ESCAPES_ROOT, "no", {{"a", "b"}}));
  EXPECT_EQ(whole.message(), "path: no");
  EXPECT_EQ(ReasonOf(whole), Reason::k_PATH_ESCAPES_ROOT);
  EXPECT_EQ(MetadataOf(whole), (Metadata{{"a", "b"}, {"field", "path"}}));
}

TEST(StatusTest, ErrnoStatusKeepsCodeAndText) {
  absl::Status status = ErrnoStatus(ENOENT, "open x");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "open x: No such file or directory");
  EXPECT_EQ(ReasonOf(status), std::nullopt);
  EXPECT_EQ(ErrnoStatus(99999, "odd").message(), "odd: errno 99999");
}

absl::StatusOr<int> Half(int number) {
  if (number % 2 != 0) return BadField("number", "must be even");
  return number / 2;
}

absl::StatusOr<int> Quarter(int number) {
  ASSIGN_OR_RETURN(const int half, Half(number));
  RETURN_IF_ERROR(Half(half).status());
  return half / 2;
}

TEST(StatusTest, MacrosLeaveWithTheFailedStatus) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(ReasonOf(Quarter(7).status()), Reason::k_BAD_FIELD);
  EXPECT_EQ(ReasonOf(Quarter(6).status()), Reason::k_BAD_FIELD);
}

class Keeper {
 public:
  absl::Status Keep() {
    RETURN_IF_ERROR(status_);
    return absl::OkStatus();
  }
  absl::Status status_ = absl::AbortedError("kept");
};

TEST(StatusTest, MacrosSeeMembersOfAnyName) { EXPECT_EQ(Keeper().Keep().message(), "kept"); }

}  // namespace
}  // namespace hermes
