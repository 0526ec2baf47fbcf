// CANCEL_AFTER_GRACE on a fake clock: what thirty seconds without a reader mean.

#include "daemon/rpc/disconnect.h"

#include <chrono>

#include <gtest/gtest.h>

#include "daemon/runtime/task_group.h"
#include "tests/fakes/fake_daemon.h"
#include "tests/fakes/temp_dir.h"

namespace hermes {
namespace {

constexpr Duration kAlmost = kDisconnectGrace - std::chrono::milliseconds(1);
constexpr Duration kRest = std::chrono::seconds(1);

class DisconnectTest : public testing::Test {
 protected:
  DisconnectTest() {
    host_.spool_dir = dir_.path();
    daemon_ = std::make_unique<FakeDaemon>(host_);
    EXPECT_TRUE(daemon_->Create("s").ok());
    run_ = daemon_->Start("s", "hang")->run;
    daemon_->RunUntil([this] { return run_->info().state == CommandState::kRunning; });
    disconnects_ = std::make_unique<Disconnects>(daemon_->loop, daemon_->clock, tasks());
  }
  ~DisconnectTest() override {
    disconnects_->Clear();
    FakeDaemon::Crash(std::move(daemon_));
  }

  // As the loop it belongs to, it is never destroyed.
  TaskGroup& tasks() {
    if (tasks_ == nullptr) tasks_ = new TaskGroup(daemon_->loop);
    return *tasks_;
  }
  void Leave() { disconnects_->Left(run_, OnDisconnect::kCancelAfterGrace); }

  TempDir dir_;
  FakeHost host_;
  std::unique_ptr<FakeDaemon> daemon_;
  std::shared_ptr<CommandRun> run_;
  TaskGroup* tasks_ = nullptr;
  std::unique_ptr<Disconnects> disconnects_;
};

TEST_F(DisconnectTest, NobodyComesBackAndTheCommandIsCancelledAfterTheGrace) {
  Leave();
  daemon_->Pass(kAlmost);
  EXPECT_FALSE(run_->ended());
  daemon_->Pass(kRest);
  ASSERT_TRUE(run_->ended());
  EXPECT_EQ(run_->info().outcome->cause, Cause::kCancelled);
}

TEST_F(DisconnectTest, AReaderThatIsBackInTimeKeepsTheCommand) {
  Leave();
  daemon_->Pass(kAlmost);
  disconnects_->Back(*run_);
  daemon_->Pass(std::chrono::minutes(10));
  EXPECT_FALSE(run_->ended());
}

TEST_F(DisconnectTest, AReaderThatNeverLeftKeepsTheCommand) {
  auto other = daemon_->Follow(run_);
  Leave();
  daemon_->Pass(kDisconnectGrace + kRest);
  EXPECT_FALSE(run_->ended());
  other->follower->Cancel();
}

TEST_F(DisconnectTest, TheGraceIsCountedFromTheLastLeave) {
  Leave();
  daemon_->Pass(kAlmost);
  disconnects_->Back(*run_);
  Leave();
  daemon_->Pass(kAlmost);
  EXPECT_FALSE(run_->ended());
  daemon_->Pass(kRest);
  EXPECT_TRUE(run_->ended());
}

TEST_F(DisconnectTest, ADrainCancelsNothing) {
  Leave();
  disconnects_->Clear();
  daemon_->Pass(kDisconnectGrace + kRest);
  EXPECT_FALSE(run_->ended());
}

TEST_F(DisconnectTest, DetachAndCancelTakeNoGrace) {
  disconnects_->Left(run_, OnDisconnect::kDetach);
  daemon_->Pass(kDisconnectGrace + kRest);
  EXPECT_FALSE(run_->ended());
  disconnects_->Left(run_, OnDisconnect::kCancel);
  daemon_->Pass(Duration(0));
  EXPECT_TRUE(run_->ended());
}

}  // namespace
}  // namespace hermes
