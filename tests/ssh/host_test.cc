// What sessions share: a host's connections, counted by who uses it, over a transport that does
// what the test says, in time that the test moves.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/ssh/ssh_host.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/fake_clock.h"
#include "tests/ssh/far_transport.h"

namespace hermes {
namespace {

constexpr Duration kMoment = std::chrono::milliseconds(1);

using UsePtr = std::shared_ptr<SshHosts::Use>;
using StreamPtr = std::unique_ptr<Stream>;

class HostTest : public testing::Test {
 protected:
  ~HostTest() override {
    hosts_.reset();
    clock_.Advance(Duration(0));
    EXPECT_EQ(far_.connections, 0);
  }

  template <typename T>
  std::shared_ptr<std::optional<absl::StatusOr<T>>> Go(Task<absl::StatusOr<T>> task) {
    auto result = std::make_shared<std::optional<absl::StatusOr<T>>>();
    asio::co_spawn(loop_.executor(), std::move(task),
                   [result](std::exception_ptr, absl::StatusOr<T> value) {
                     result->emplace(std::move(value));
                   });
    clock_.Advance(Duration(0));
    return result;
  }
  // As a session does.
  UsePtr Use(const std::string& host) {
    SshTarget target;
    target.spec.host = host;
    auto use = Go(hosts_->For(std::move(target)));
    EXPECT_TRUE(use->has_value() && (*use)->ok());
    return ***use;
  }
  StreamPtr Open(const UsePtr& use, Lane lane) {
    auto stream = Go((*use)->Open("true", lane, nullptr));
    EXPECT_TRUE(stream->has_value() && (*stream)->ok());
    return *std::move(**stream);
  }

  Loop loop_;
  FakeClock clock_{loop_};
  SystemRandom random_;
  Far far_{loop_};
  FarTransport transport_{far_};
  SshGates gates_{loop_};
  std::unique_ptr<SshHosts> hosts_ =
      std::make_unique<SshHosts>(SshHost::Deps{loop_, clock_, random_}, transport_, gates_);
};

TEST_F(HostTest, SessionsOnOneHostShareItsConnectionAndOthersDoNot) {
  const UsePtr one = Use("a"), two = Use("a"), other = Use("b");
  const StreamPtr first = Open(one, Lane::kCommand), second = Open(two, Lane::kCommand);
  EXPECT_EQ(far_.logins, 1);
  const StreamPtr third = Open(other, Lane::kCommand);
  EXPECT_EQ(far_.logins, 2);
}

TEST_F(HostTest, NamesThatComeToTheSameShareItToo) {
  far_.names = {{"a", {.host = "h", .sharing_key = "k"}}, {"b", {.host = "h", .sharing_key = "k"}}};
  const UsePtr one = Use("a"), two = Use("b");
  const StreamPtr first = Open(one, Lane::kCommand), second = Open(two, Lane::kCommand);
  EXPECT_EQ(far_.logins, 1);
}

// By whose name it was made does not matter, nor how many names it has.
TEST_F(HostTest, NoConnectionIsMadeAnewElsewhere) {
  far_.names = {{"a", {.host = "h", .sharing_key = "k"}}, {"b", {.host = "h", .sharing_key = "k"}}};
  for (const char* second : {"b", "a"}) {
    SCOPED_TRACE(second);
    clock_.Advance(kHostLinger);  // nothing is left of the one before
    const int before = far_.logins;
    const UsePtr one = Use("a"), two = Use(second);
    const StreamPtr command = Open(one, Lane::kCommand);
    for (const SshResolved& elsewhere :
         {SshResolved{.host = "elsewhere", .sharing_key = "other"},
          SshResolved{.host = "h", .user = "somebody", .sharing_key = "other"},
          SshResolved{.host = "h", .port = 23, .sharing_key = "other"},
          SshResolved{.host = "h", .route = "by a jump host", .sharing_key = "other"}}) {
      far_.names["a"] = elsewhere;
      auto stream = Go((*two)->Open("true", Lane::kBulk, nullptr));
      clock_.Advance(kLoginPauseMost);
      ASSERT_TRUE(stream->has_value());
      EXPECT_EQ(ReasonOf((*stream)->status()), Reason::k_BACKEND_UNREACHABLE);
      const std::string text((*stream)->status().message());
      EXPECT_THAT(text, testing::HasSubstr("the session is on @h:22"));
      EXPECT_THAT(MetadataOf((*stream)->status())["next"],
                  testing::HasSubstr("Let ssh_config lead to the session's host again"));
    }
    EXPECT_EQ(far_.logins - before, 1) << "the files went where the commands are not";
    far_.names["a"] = {.host = "h", .sharing_key = "k"};
    auto stream = Go((*two)->Open("true", Lane::kBulk, nullptr));
    clock_.Advance(kLoginPauseMost);
    EXPECT_TRUE(stream->has_value() && (*stream)->ok());
  }
}

// How a connection is made is no matter of where it leads.
TEST_F(HostTest, AConnectionIsMadeAnewWithOtherOptions) {
  far_.names = {{"a", {.host = "h", .sharing_key = "k"}}};
  const UsePtr one = Use("a");
  Open(one, Lane::kBulk).reset();
  clock_.Advance(kBulkIdleLimit);
  ASSERT_EQ(far_.connections, 0);
  far_.names["a"] = {.host = "h", .sharing_key = "other"};
  Open(one, Lane::kBulk).reset();
  EXPECT_EQ(far_.logins, 2);
}

TEST_F(HostTest, TheConnectionStaysForAsLongAsOneSessionDoes) {
  UsePtr one = Use("a"), two = Use("a");
  Open(one, Lane::kCommand).reset();
  one.reset();
  clock_.Advance(10 * kHostLinger);
  EXPECT_EQ(far_.connections, 1);
  two.reset();
  clock_.Advance(kHostLinger - kMoment);
  EXPECT_EQ(far_.connections, 1);
  clock_.Advance(kMoment);
  EXPECT_EQ(far_.connections, 0) << "the last session has gone, and nobody came";
  const UsePtr three = Use("a");
  Open(three, Lane::kCommand).reset();
  EXPECT_EQ(far_.logins, 2);
}

TEST_F(HostTest, WhoComesSoonAfterTheLastNeedsNoLogin) {
  UsePtr one = Use("a");
  Open(one, Lane::kCommand).reset();
  for (int round = 0; round < 3; ++round) {
    one.reset();
    clock_.Advance(kHostLinger - kMoment);
    one = Use("a");
    clock_.Advance(2 * kHostLinger);
    Open(one, Lane::kCommand).reset();
  }
  EXPECT_EQ(far_.logins, 1);
}

TEST_F(HostTest, BulkHasAConnectionOfItsOwnThatClosesWhenIdle) {
  const UsePtr one = Use("a");
  Open(one, Lane::kCommand).reset();
  EXPECT_EQ(far_.connections, 1) << "nobody asked for bulk";
  StreamPtr bulk = Open(one, Lane::kBulk);
  EXPECT_EQ(far_.connections, 2);
  clock_.Advance(2 * kBulkIdleLimit);
  EXPECT_EQ(far_.connections, 2) << "it is in use";
  bulk.reset();
  clock_.Advance(kBulkIdleLimit - kMoment);
  EXPECT_EQ(far_.connections, 2);
  clock_.Advance(kMoment);
  EXPECT_EQ(far_.connections, 1);
  Open(one, Lane::kCommand).reset();
  EXPECT_EQ(far_.logins, 2) << "the one for commands stays";
}

TEST_F(HostTest, ControlGoesOverTheOtherConnectionWhenEveryChannelIsTaken) {
  far_.slots = 1;
  const UsePtr one = Use("a");
  const StreamPtr command = Open(one, Lane::kCommand);
  auto control = Go((*one)->Open("true", Lane::kControl, nullptr));
  EXPECT_EQ(far_.connections, 2) << "it waits for what it is to end";
  far_.slots = 2;  // of the whole fake host
  clock_.Advance(kSlotRetryMost);
  EXPECT_TRUE(control->has_value() && (*control)->ok());
}

// Commands and bulk, of every account there.
TEST_F(HostTest, AHostSeesOneLoginOfOursAtATime) {
  far_.answers = false;
  far_.names = {{"a", {.host = "h", .user = "a", .sharing_key = "1"}},
                {"b", {.host = "h", .user = "b", .sharing_key = "2"}}};
  const std::vector<UsePtr> uses = {Use("a"), Use("b")};
  std::vector<std::shared_ptr<std::optional<absl::StatusOr<StreamPtr>>>> asked;
  for (const UsePtr& use : uses) {
    for (const Lane lane : {Lane::kCommand, Lane::kBulk}) {
      asked.push_back(Go((*use)->Open("true", lane, nullptr)));
    }
  }
  for (int i = 1; i <= 4; ++i) {
    EXPECT_EQ(far_.logins, i);
    far_.LetOneIn();
    clock_.Advance(Duration(0));
  }
  EXPECT_EQ(far_.most_at_once, 1);
  for (const auto& one : asked) EXPECT_TRUE(one->has_value() && (*one)->ok());
}

// A target behind it that does not answer must not hold up the others.
TEST_F(HostTest, AJumpHostSeesSomeAtATime) {
  far_.answers = false;
  std::vector<UsePtr> uses;
  std::vector<std::shared_ptr<std::optional<absl::StatusOr<StreamPtr>>>> asked;
  for (int i = 0; i < 2 * kMostJumpLogins; ++i) {
    const std::string name = "behind" + std::to_string(i);
    far_.names[name] = {.host = name, .first_hop = "jump:22", .sharing_key = name};
    uses.push_back(Use(name));
    asked.push_back(Go((*uses.back())->Open("true", Lane::kCommand, nullptr)));
  }
  EXPECT_EQ(far_.logins, kMostJumpLogins);
  for (size_t i = 0; i < asked.size(); ++i) far_.LetOneIn();
  clock_.Advance(Duration(0));
  EXPECT_EQ(far_.most_at_once, kMostJumpLogins);
  for (const auto& one : asked) EXPECT_TRUE(one->has_value() && (*one)->ok());
}

TEST_F(HostTest, WhatANameComesToIsBelievedForAWhile) {
  const UsePtr one = Use("a");
  clock_.Advance(kResolvedLife - kMoment);
  const UsePtr two = Use("a");
  EXPECT_EQ(far_.resolved, 1);
  far_.names["a"] = {.host = "moved", .sharing_key = "moved"};
  clock_.Advance(kMoment);
  const UsePtr three = Use("a");
  EXPECT_EQ(far_.resolved, 2);
  EXPECT_EQ((*three)->resolved().host, "moved") << "a new session goes where the name leads now";
  EXPECT_EQ((*one)->resolved().host, "a") << "the old ones stay";
}

}  // namespace
}  // namespace hermes
