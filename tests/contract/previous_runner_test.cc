// A daemon of today beside a runner that speaks the previous version of the protocol: what runs
// there goes on, and once nothing is left it makes room for the runner of today.

#include <filesystem>
#include <string>

#include "backends/engine/frames.h"
#include "backends/local/local_backend.h"
#include "tests/contract/driver.h"
#include "tests/runner/harness.h"

namespace hermes::contract {
namespace {

std::string Program(const std::string& name) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
}

Place TodaysPlace() {
  Place place;
  place.name = "Previous";
  place.engine = "runner";
  place.backend = [](Loop& loop, Clock& clock, const std::string& dir) {
    LocalOptions options;
    options.runner_dir = dir + "/runner";
    options.runner_override = Program("hermes-runner");
    return MakeLocalBackend(loop, clock, std::move(options));
  };
  return place;
}

class PreviousRunnerTest : public ::testing::Test {
 protected:
  // A runner of the previous version with a session, in which this runs.
  void SetUp() override {
    ASSERT_EQ(test::RunProgram({Program("hermes-runner-previous"), "serve", runner_}, dir_.path()),
              0);
    test::Client daemon(runner_);
    auto welcome = daemon.Hello();
    ASSERT_TRUE(welcome);
    EXPECT_EQ(welcome->version, frames::kVersion - 1);
    old_pid_ = static_cast<pid_t>(welcome->pid);
    ASSERT_TRUE(daemon.Open({.session = "s", .cwd = "/tmp", .env = {}, .resume = 0}));
    frames::Start start;
    start.session = "s";
    start.run_id = run_->run_id;
    start.script = "echo first; read line; echo $line; export KEPT=yes; cd /usr";
    start.stdin_kind = frames::StdinKind::kOpen;
    uint32_t command = daemon.Start(start);
    ASSERT_TRUE(daemon.Until(command, [](const auto& seen) { return seen.started; }));
  }
  void TearDown() override {
    world_ = nullptr;
    test::Client last(runner_);
    if (auto welcome = last.Hello()) {
      kill(static_cast<pid_t>(welcome->pid), SIGKILL);
      test::WaitForEnd(static_cast<pid_t>(welcome->pid));
    }
  }
  TestSession& OpenAgain() {
    world_ = std::make_unique<World>(place_, dir_.path());
    SessionSpec spec;
    spec.session_id = "s";
    spec.resume = true;
    return world_->Open(std::move(spec));
  }

  TempDir dir_;
  const std::string runner_ = dir_.path() + "/runner";
  const Place place_ = TodaysPlace();
  RunPtr run_ = [] {
    auto run = std::make_shared<TestRun>();
    run->run_id = test::NewRunId();
    return run;
  }();
  std::unique_ptr<World> world_;
  pid_t old_pid_ = 0;
};

TEST_F(PreviousRunnerTest, WhatRunsThereGoesOnAndNothingRunningMakesItLeave) {
  TestSession& session = OpenAgain();
  const std::string before = session.facts.incarnation;
  RunPtr again = world_->Adopt(session, run_, 0, 0);
  EXPECT_EQ(world_->Run(session, std::string("echo beside"))->out, "beside\n");
  const auto tree = session.engine->NewRemoteTree();
  const sync::RemoteRoot root{.path = dir_.path()};
  EXPECT_EQ(world_->Await(tree->Look(root, {}))->level, sync::ToolLevel::kShell);
  RunPtr killed = world_->Start(session, std::string("echo up; sleep 1000"));
  ASSERT_TRUE(world_->Until([&] { return killed->out == "up\n"; }));
  ASSERT_TRUE(world_->Kill(killed, Duration(0)).ok());
  world_->WaitEnd(killed);
  ASSERT_TRUE(world_->Write(again, 0, "second\n", true).ok());
  world_->WaitDrained(again);
  EXPECT_EQ(again->out, "first\nsecond\n");
  EXPECT_TRUE(test::IsAlive(old_pid_));

  ASSERT_TRUE(world_->Until([&] { return !session.changed_to.empty(); }));
  EXPECT_NE(session.changed_to, before);
  test::WaitForEnd(old_pid_);
  EXPECT_EQ(world_->Run(session, std::string("echo $KEPT; pwd"))->out, "yes\n/usr\n");
  EXPECT_EQ(world_->Await(tree->Look(root, {}))->level, sync::ToolLevel::kRunner);
}

TEST_F(PreviousRunnerTest, AnIdleOneIsReplacedBeforeTheFirstCommand) {
  test::Client daemon(runner_);
  ASSERT_TRUE(daemon.Hello());
  EXPECT_TRUE(daemon.CloseSession("s", 0));
  daemon.Send(frames::Type::kForgetRun, 0, [&](frames::Writer& w) { w.Str(run_->run_id); });
  EXPECT_TRUE(daemon.List().empty());
  world_ = std::make_unique<World>(place_, dir_.path());
  EXPECT_EQ(world_->Run(world_->Open(), std::string("echo new"))->out, "new\n");
  test::WaitForEnd(old_pid_);
}

TEST_F(PreviousRunnerTest, NoCommonVersionIsSaidWithBoth) {
  test::Client daemon(runner_);
  daemon.Send(frames::Type::kHello, 0, [](frames::Writer& w) {
    w.U16(frames::kVersion + 6);
    w.U16(frames::kVersion + 7);
    w.Str("test");
  });
  auto answer = daemon.Next();
  ASSERT_TRUE(answer && answer->type == frames::Type::kRefused);
  frames::Reader reader(answer->payload);
  EXPECT_EQ(reader.Str(), "CAPABILITY_MISSING");
  EXPECT_EQ(reader.Str(), "this runner speaks protocol versions 1 to 2, the daemon 9 to 10");
}

}  // namespace
}  // namespace hermes::contract
