// What becomes of a command without a reader, on a fake clock, and over the death of a daemon.

#include "daemon/rpc/disconnect.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "daemon/runtime/task_group.h"
#include "tests/fakes/fake_daemon.h"
#include "tests/fakes/temp_dir.h"

namespace hermes {
namespace {

constexpr Duration kAlmost = kDisconnectGrace - std::chrono::milliseconds(1);
constexpr Duration kRest = std::chrono::seconds(1);
constexpr Duration kForLong = std::chrono::minutes(10);

class DisconnectTest : public testing::Test {
 protected:
  DisconnectTest() {
    host_.spool_dir = dir_.path();
    Begin();
    EXPECT_TRUE(daemon_->Create("s").ok());
    run_ = Start(OnDisconnect::kCancelAfterGrace, "id-1");
  }
  ~DisconnectTest() override { Die(); }

  // As the loop they belong to, the tasks are never destroyed.
  void Begin() {
    daemon_ = std::make_unique<FakeDaemon>(host_);
    auto* tasks = new TaskGroup(daemon_->loop);
    disconnects_ = std::make_unique<Disconnects>(daemon_->loop, daemon_->clock, *tasks);
  }
  void Die() {
    disconnects_->Clear();
    FakeDaemon::Crash(std::move(daemon_));
  }
  // As kill -9 and the next daemon.
  void Restart() {
    Die();
    Begin();
    for (auto& run : daemon_->table.Runs()) {
      if (run->info().run_id == "id-1") run_ = run;
      disconnects_->TakeUp(std::move(run));
    }
  }

  std::shared_ptr<CommandRun> Start(OnDisconnect policy, const std::string& id) {
    StartCommand request = MakeStart("s", "hang", id);
    request.on_disconnect = policy;
    auto run = daemon_->Await(daemon_->table.Start(std::move(request)))->run;
    daemon_->RunUntil([&] { return run->info().state == CommandState::kRunning; });
    return run;
  }
  void Come() { disconnects_->Came(run_); }
  void Leave(std::optional<OnDisconnect> left = OnDisconnect::kCancelAfterGrace) {
    disconnects_->Went(*run_, left);
  }
  bool EndedAfter(Duration time) {
    daemon_->Pass(time);
    return run_->ended();
  }

  TempDir dir_;
  FakeHost host_;
  std::unique_ptr<FakeDaemon> daemon_;
  std::shared_ptr<CommandRun> run_;
  std::unique_ptr<Disconnects> disconnects_;
};

TEST_F(DisconnectTest, NobodyComesBackAndTheCommandIsCancelledAfterTheGrace) {
  Come();
  Leave();
  EXPECT_FALSE(EndedAfter(kAlmost));
  ASSERT_TRUE(EndedAfter(kRest));
  EXPECT_EQ(run_->info().outcome->cause, Cause::kCancelled);
}

TEST_F(DisconnectTest, AReaderThatIsBackInTimeKeepsTheCommand) {
  Come();
  Leave();
  daemon_->Pass(kAlmost);
  Come();
  EXPECT_FALSE(EndedAfter(kForLong));
  Leave(std::nullopt);
  EXPECT_FALSE(EndedAfter(kForLong)) << "who ends the call by choice has not left";
}

TEST_F(DisconnectTest, TheLastReaderThatLeavesDecides) {
  Come();
  Come();
  Leave(OnDisconnect::kCancel);
  EXPECT_FALSE(EndedAfter(kForLong)) << "somebody reads on";
  Leave(OnDisconnect::kCancelAfterGrace);
  EXPECT_FALSE(EndedAfter(kAlmost));
  EXPECT_TRUE(EndedAfter(kRest));
}

TEST_F(DisconnectTest, WhoLeavesBeforeOneThatEndsItsCallIsNotForgotten) {
  Come();
  Come();
  Leave(OnDisconnect::kCancel);
  Leave(std::nullopt);
  EXPECT_TRUE(EndedAfter(Duration(0)));
}

TEST_F(DisconnectTest, TheGraceIsCountedFromTheLastLeave) {
  Come();
  Leave();
  daemon_->Pass(kAlmost);
  Come();
  Leave();
  EXPECT_FALSE(EndedAfter(kAlmost));
  EXPECT_TRUE(EndedAfter(kRest));
}

TEST_F(DisconnectTest, ADrainCancelsNothing) {
  Come();
  Leave();
  disconnects_->Clear();
  EXPECT_FALSE(EndedAfter(kForLong));
}

TEST_F(DisconnectTest, DetachAndCancelTakeNoGrace) {
  Come();
  Leave(OnDisconnect::kDetach);
  EXPECT_FALSE(EndedAfter(kForLong));
  Come();
  Leave(OnDisconnect::kCancel);
  EXPECT_TRUE(EndedAfter(Duration(0)));
}

TEST_F(DisconnectTest, AfterADaemonsDeathWhatWasDeclaredHoldsForThoseWhoDoNotComeBack) {
  Come();
  const auto detached = Start(OnDisconnect::kDetach, "id-2")->info().id;
  const auto cancelled = Start(OnDisconnect::kCancel, "id-3")->info().id;
  Restart();
  const auto state_of = [this](const std::string& id) {
    return (*daemon_->Await((*daemon_->table.Find("s"))->Find(id)))->info().state;
  };
  EXPECT_FALSE(EndedAfter(kAlmost));
  EXPECT_EQ(state_of(cancelled), CommandState::kRunning) << "its reader had no chance";
  ASSERT_TRUE(EndedAfter(kRest));
  EXPECT_EQ(run_->info().outcome->cause, Cause::kCancelled);
  EXPECT_EQ(state_of(cancelled), CommandState::kKilled);
  EXPECT_EQ(state_of(detached), CommandState::kRunning);
}

TEST_F(DisconnectTest, AfterADaemonsDeathAReaderThatComesBackKeepsTheCommandUntilItLeaves) {
  Restart();
  EXPECT_FALSE(EndedAfter(kAlmost));
  Come();
  EXPECT_FALSE(EndedAfter(kForLong));
  Leave(run_->info().on_disconnect);
  EXPECT_FALSE(EndedAfter(kAlmost));
  EXPECT_TRUE(EndedAfter(kRest));
}

}  // namespace
}  // namespace hermes
