// The file service and commands that follow it, as the daemon asks a runner for them.

#include "tests/engine/runner_link_fixture.h"

namespace hermes {
namespace {

using frames::Type;

CommandSpec Spec(std::string run_id) {
  CommandSpec spec;
  spec.run_id = std::move(run_id);
  spec.script = "true";
  return spec;
}

class RunnerFilesTest : public RunnerLinkTest {
 protected:
  // An apply, and a command that follows it; their channels.
  std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> StartBoth() {
    CommandSpec files = Spec("apply");
    files.files = true;
    files.stdin_open = true;
    CommandSpec command = Spec("command");
    command.after = "apply";
    auto first = Go(engine_->Start(files));
    auto second = Go(engine_->Start(command));
    return {*std::move(**first), *std::move(**second)};
  }
  void ExpectBoth() {
    SeenFrame apply = peer().Expect(Type::kStart);
    EXPECT_EQ(frames::Decode<frames::Start>(apply.payload)->form, frames::Form::kFiles);
    SeenFrame after = peer().Expect(Type::kAfter);
    EXPECT_EQ(frames::Reader(after.payload).U32(), apply.command);
    SeenFrame command = peer().Expect(Type::kStart);
    EXPECT_EQ(command.command, after.command);
    EXPECT_EQ(frames::Decode<frames::Start>(command.payload)->run_id, "command");
  }
};

TEST_F(RunnerFilesTest, SaysWhatACommandFollowsBeforeItsStart) {
  OpenSession();
  EXPECT_TRUE(engine_->runs_files());
  auto channels = StartBoth();
  ExpectBoth();
}

TEST_F(RunnerFilesTest, SaysBothAgainInTheirOrder) {
  OpenSession();
  auto channels = StartBoth();
  Reconnect();
  Greet("one");
  ExpectBoth();
}

TEST_F(RunnerFilesTest, TellsThatACommandNeverStarted) {
  OpenSession();
  auto channels = StartBoth();
  peer().Expect(Type::kStart);
  const uint32_t number = peer().Expect(Type::kAfter).command;
  std::string out;
  frames::Exit exit;
  exit.cause = frames::Cause::kRunTimeout;
  exit.stage = frames::LaunchStage::kAfter;
  frames::Encode(out, number, exit);
  peer().Send(out);
  channel_ = std::move(channels.second);
  const Outcome outcome = std::get<EndedEvent>(ReadNow()).outcome;
  EXPECT_EQ(outcome.state, CommandState::kNeverStarted);
  EXPECT_EQ(outcome.cause, Cause::kRunTimeout);
  EXPECT_EQ(outcome.launch_stage, LaunchStage::kAfter);
  EXPECT_EQ(outcome.state_reason, "not started: what it was to follow has not ended with 0");
}

TEST_F(RunnerFilesTest, WhatIsNotKnownCannotBeFollowed) {
  OpenSession();
  CommandSpec command = Spec("command");
  command.after = "nobody";
  auto started = Go(engine_->Start(command));
  EXPECT_EQ(ReasonOf((*started)->status()), Reason::k_BAD_FIELD);
}

TEST_F(RunnerFilesTest, AnOlderRunnerIsAskedForNeither) {
  version_ = frames::kFilesVersion - 1;
  OpenSession();
  EXPECT_FALSE(engine_->runs_files());
  CommandSpec files = Spec("apply");
  files.files = true;
  auto refused = Go(engine_->Start(files));
  EXPECT_EQ(ReasonOf((*refused)->status()), Reason::k_CAPABILITY_MISSING);
  CommandSpec command = Spec("command");
  command.after = "apply";
  refused = Go(engine_->Start(command));
  EXPECT_EQ(ReasonOf((*refused)->status()), Reason::k_CAPABILITY_MISSING);
  EXPECT_FALSE(peer().Next());
  StartCommand();
}

}  // namespace
}  // namespace hermes
