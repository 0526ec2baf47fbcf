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

}  // namespace
}  // namespace hermes
