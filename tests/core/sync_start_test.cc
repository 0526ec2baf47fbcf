// A command and the push before it, where the place lets the one follow the other, and where the
// daemon dies.

#include <algorithm>
#include <filesystem>

#include "tests/core/session_sync_fixture.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;
using sync::Slurp;
using sync::Spit;

class FollowTest : public SessionSyncTest {
 protected:
  FollowTest() {
    hooks_.follows = true;
    host_.place.runs_files = true;
    Create();
    Spit(dir_ + "/host/a", "1");
    EXPECT_TRUE(Run("first").error.ok());
    host_.place.followed.clear();
    Spit(dir_ + "/host/a", "2");
  }
};

TEST_F(FollowTest, ASmallChangeAndItsCommandTravelTogether) {
  const Ran ran = Run();
  EXPECT_EQ(ran.out, "x");
  EXPECT_EQ(host_.place.followed.size(), 1u);
  EXPECT_EQ(ran.end->run_id, "run-1");
  EXPECT_EQ(host_.place.starts["run-1"], 0) << "over there it has a name of its own";
  EXPECT_EQ(host_.place.starts[ran.end->far_id], 1);
  EXPECT_TRUE(Run().existing);
}

TEST_F(FollowTest, AConflictOfThePushThatItFollowsIsToldToIt) {
  Spit(dir_ + "/far/a", "theirs");
  const Ran ran = Run();
  EXPECT_EQ(ran.out, "x");
  EXPECT_EQ(host_.place.followed.size(), 1u);
  EXPECT_TRUE(Has("SYNC_CONFLICT"));
  EXPECT_NE(last_warning_.find("of 1 files: a"), std::string::npos) << last_warning_;
}

TEST_F(SessionSyncTest, AConflictThatTheHostTakesBackIsNone) {
  Create();
  Spit(dir_ + "/host/a", "1");
  EXPECT_EQ(Run().out, "x");
  Spit(dir_ + "/far/a", "theirs");
  Spit(dir_ + "/host/a", "ours");
  EXPECT_EQ(Run("run-2").out, "x");
  ASSERT_TRUE(Has("SYNC_CONFLICT"));
  Spit(dir_ + "/host/a", "1");
  EXPECT_EQ(Run("run-3").out, "x");
  EXPECT_FALSE(Has("SYNC_CONFLICT"));
}

TEST_F(FollowTest, ACommandWhosePushFailedLeavesNothingAndMayBeTriedAgain) {
  host_.place.first_fails = true;
  const std::string name =
      "/host/" + std::string(253, 'x');  // has no room for the far end's suffix
  Spit(dir_ + name, "1");
  const Ran failed = Run();
  EXPECT_EQ(ReasonOf(failed.error), Reason::k_SYNC_FAILED) << failed.error;
  EXPECT_EQ(host_.place.followed.size(), 1u);
  EXPECT_EQ(host_.disk.commands.size(), 1u) << "but for the first one";
  EXPECT_EQ(daemon_->stats.running_commands, 0u);
  host_.place.first_fails = false;
  fs::remove(dir_ + name);
  EXPECT_EQ(Run().out, "x");
}

TEST_F(FollowTest, ACommandWhosePushTookASecondTurnIsStartedAgain) {
  host_.place.first_fails = true;  // what followed the first turn
  const Ran ran = Run();
  EXPECT_EQ(ran.out, "x");
  EXPECT_EQ(host_.place.followed.size(), 1u);
  EXPECT_EQ(host_.place.starts[ran.end->far_id], 1);
  EXPECT_EQ(host_.disk.commands.at({"s", ran.end->id}).info.far_id, ran.end->far_id);
}

TEST_F(FollowTest, APlaceThatIsReplacedDuringThePushGetsNoCommandThatExpectsTheFormer) {
  for (const bool follows : {false, true}) {
    Spit(dir_ + "/host/a", follows ? "4" : "3");
    far_->hooks.follows = follows;
    far_->hooks.before = [this, replaced = false](std::string_view verb) mutable {
      if (verb == "apply" && !std::exchange(replaced, true)) host_.place.ReplaceRunner();
      return absl::OkStatus();
    };
    StartCommand request = MakeStart("s", "out x", "run-1");
    request.expected_incarnation = host_.place.incarnation;
    const size_t starts = host_.place.starts.size();
    EXPECT_EQ(ReasonOf(Run(request).error), Reason::k_INCARNATION_CHANGED) << follows;
    EXPECT_EQ(host_.place.starts.size(), starts);
  }
}

TEST_F(FollowTest, AFollowingCommandIsAdoptedByItsNameOverThere) {
  StartCommand request = MakeStart("s", "out x;sleep 5000;out y", "run-1");
  auto started = daemon_->Await(daemon_->table.Start(request));
  ASSERT_TRUE(started.ok());
  daemon_->Pass(seconds(1));
  ASSERT_EQ(host_.place.followed.size(), 1u);
  Restart();
  EXPECT_EQ(Run(request).out, "xy");
}

// A daemon that dies between any two steps of a push and of the command behind it.
class CrashTest : public SessionSyncTest {
 protected:
  bool HasEnded(const std::string& run_id) const {
    return std::any_of(host_.disk.commands.begin(), host_.disk.commands.end(),
                       [&](const auto& row) {
                         return row.second.info.run_id == run_id && row.second.info.outcome;
                       });
  }
  // False: the command was over before step `at`.
  bool DieAt(int at, bool follows) {
    hooks_.follows = follows;
    host_.place.runs_files = follows;
    const std::string name = "s" + std::to_string(at) + (follows ? "f" : "");
    CreateSession request = Request(name);
    EXPECT_TRUE(daemon_->Await(daemon_->table.Create(std::move(request))).ok());
    EXPECT_TRUE(Run(MakeStart(name, "out x", "first of " + name)).error.ok());
    const std::string version = "version " + name;
    Spit(dir_ + "/host/a", version);
    int processes = 0;
    host_.place.on_start = [&](const CommandSpec&) {
      ++processes;
      EXPECT_EQ(Slurp(dir_ + "/far/a"), version) << "started on an old file";
    };
    const StartCommand command = MakeStart(name, "out x;sleep 50;exit 3", "run of " + name);
    bool over = false;
    asio::co_spawn(daemon_->loop.executor(), daemon_->table.Start(command),
                   [](std::exception_ptr, absl::StatusOr<Session::StartResult>) {});
    for (int step = 0; step < at && !over; ++step) {
      daemon_->loop.context().restart();
      if (daemon_->loop.context().poll_one() == 0) daemon_->clock.PostNext();
      over = HasEnded(command.spec.run_id);
    }
    Restart();
    const Ran ran = Run(command);
    EXPECT_TRUE(ran.error.ok()) << ran.error;
    EXPECT_LE(processes, 1) << "started twice";
    if (ran.end && ran.end->state == CommandState::kExited) {
      EXPECT_EQ(processes, 1);
      EXPECT_EQ(ran.end->outcome->value, 3);
    } else if (ran.end) {
      EXPECT_EQ(ran.end->state, CommandState::kNeverStarted);
      EXPECT_EQ(processes, 0);
    }
    host_.place.on_start = nullptr;
    return !over;
  }
};

TEST_F(CrashTest, NoDeathAtAnyStepStartsACommandTwiceOrOnOldFiles) {
  constexpr int kMostSteps = 400;
  for (const bool follows : {false, true}) {
    int at = 0;
    while (at < kMostSteps && DieAt(at, follows) && !HasFailure()) ++at;
    EXPECT_GT(at, 10) << "there were steps";
    EXPECT_LT(at, kMostSteps);
    ASSERT_FALSE(HasFailure()) << "at step " << at << (follows ? ", in one" : ", apart");
  }
}

}  // namespace
}  // namespace hermes
