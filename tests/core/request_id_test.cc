// What a request id was about stays true when the name of its session is taken again.

#include <chrono>
#include <string>

#include <gtest/gtest.h>

#include "daemon/runtime/status.h"
#include "tests/core/session_fixture.h"

namespace hermes {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

class RequestIdTest : public SessionTest {
 protected:
  // Another one of this name.
  void TakeAgain() {
    ASSERT_TRUE(Close("s").ok());
    daemon_->Pass(seconds(1));
    ASSERT_TRUE(daemon_->Create("s").ok());
  }

  absl::StatusOr<SessionTable::CleanupTarget> Cleanup(const std::string& request_id,
                                                      const std::string& session = "s") {
    return daemon_->Await(daemon_->table.AcceptCleanup(session, request_id));
  }

  WallTime Created() { return (*daemon_->table.Find("s"))->info().create_time; }
};

TEST_F(RequestIdTest, OfACommandStartsNothingInALaterSessionOfTheName) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  RunToEnd("out x", "id-1");
  for (int round = 0; round < 2; ++round) {
    TakeAgain();
    EXPECT_EQ(ReasonOfStart("out x", "id-1"), Reason::k_RESULT_EXPIRED);
    EXPECT_EQ(ReasonOfStart("out y", "id-1"), Reason::k_REQUEST_ID_REUSED);
    Restart();
    EXPECT_EQ(ReasonOfStart("out x", "id-1"), Reason::k_RESULT_EXPIRED);
    EXPECT_EQ(ReasonOfStart("out y", "id-1"), Reason::k_REQUEST_ID_REUSED);
  }
  EXPECT_EQ(host_.place.starts["id-1"], 1);
  EXPECT_EQ(daemon_->stats.running_commands, 0u);
  EXPECT_EQ(RunToEnd("out x", "id-2")->sink->Text(OutputStream::kStdout), "x");
}

TEST_F(RequestIdTest, OfACommandStartsNothingAfterItsSessionWasForgotten) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  RunToEnd("out x", "id-1");
  ASSERT_TRUE(Close("s").ok());
  daemon_->Pass(hours(25));
  ASSERT_FALSE(daemon_->table.Find("s").ok());
  ASSERT_TRUE(daemon_->Create("s").ok());
  EXPECT_EQ(ReasonOfStart("out x", "id-1"), Reason::k_RESULT_EXPIRED) << "the store says when";
  EXPECT_EQ(host_.place.starts["id-1"], 1);
}

TEST_F(RequestIdTest, OfACleanupIsAboutTheSessionThatItClosed) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  const WallTime first = Created();
  ASSERT_EQ(Cleanup("r-1")->session, *daemon_->table.Find("s"));
  EXPECT_EQ(Cleanup("r-1")->session, *daemon_->table.Find("s")) << "it goes on";
  TakeAgain();
  for (int round = 0; round < 2; ++round) {
    const auto again = Cleanup("r-1");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->session, nullptr) << "of another session";
    EXPECT_EQ(again->ended.state, SessionState::kClosed);
    EXPECT_EQ(again->ended.create_time, first);
    EXPECT_NE(Created(), first);
    Restart();
  }
  EXPECT_EQ(Cleanup("r-2")->session, *daemon_->table.Find("s"));
  EXPECT_EQ(Cleanup("")->session, *daemon_->table.Find("s"));
}

TEST_F(RequestIdTest, OfACleanupFindsItsSessionAgainAfterARestart) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(Cleanup("r-1").ok());
  Restart();
  EXPECT_EQ(Cleanup("r-1")->session, *daemon_->table.Find("s"));
}

TEST_F(RequestIdTest, OfACleanupThatCameTooLateIsAboutTheSessionThatHadEnded) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(Close("s").ok());
  ASSERT_NE(Cleanup("r-1")->session, nullptr);
  daemon_->Pass(seconds(1));
  ASSERT_TRUE(daemon_->Create("s").ok());
  EXPECT_EQ(Cleanup("r-1")->session, nullptr);
}

TEST_F(RequestIdTest, OfACleanupOfAnotherSessionIsRefused) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(daemon_->Create("other").ok());
  ASSERT_TRUE(Cleanup("r-1").ok());
  EXPECT_EQ(ReasonOf(Cleanup("r-1", "other").status()), Reason::k_REQUEST_ID_REUSED);
  EXPECT_EQ(ReasonOf(Cleanup("r-2", "none").status()), Reason::k_SESSION_UNKNOWN);
}

TEST_F(RequestIdTest, OfACleanupThatCannotBeStoredClosesNothing) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  disk_full_ = true;
  EXPECT_EQ(ReasonOf(Cleanup("r-1").status()), Reason::k_DISK_FULL);
}

}  // namespace
}  // namespace hermes
