#include "daemon/rpc/encode.h"

#include <errno.h>
#include <gtest/gtest.h>

#include <vector>

namespace hermes {
namespace {

Outcome Exited(int code) {
  return {.state = CommandState::kExited, .cause = Cause::kNatural, .value = code};
}
Outcome Killed(Cause cause, bool signalled, int value) {
  return {.state = CommandState::kKilled, .cause = cause, .signalled = signalled, .value = value};
}
Outcome NotLaunched(LaunchStage stage) {
  return {
      .state = CommandState::kNeverStarted, .cause = Cause::kLaunchFailed, .launch_stage = stage};
}

TEST(EncodeTest, ShellCodesAreThoseOfShells) {
  Outcome signalled = Exited(9);
  signalled.signalled = true;
  struct Row {
    Outcome outcome;
    int code;
  };
  const std::vector<Row> rows = {
      {Exited(0), 0},
      {Exited(7), 7},
      {Exited(255), 255},
      {signalled, 137},
      {Killed(Cause::kRunTimeout, true, 9), 124},
      {Killed(Cause::kRunTimeout, false, 0), 124},
      {Killed(Cause::kCancelled, true, 15), 130},
      {Killed(Cause::kCancelled, false, 3), 130},
      {Killed(Cause::kOutputLimit, true, 15), 143},
      {Killed(Cause::kOutputLimit, false, 3), 3},
      {Killed(Cause::kOutputLimit, false, 0), 125},
      {Killed(Cause::kLeaseExpired, true, 9), 137},
      {NotLaunched(LaunchStage::kNotFound), 127},
      {NotLaunched(LaunchStage::kBadCwd), 126},
      {NotLaunched(LaunchStage::kNotExecutable), 126},
      {NotLaunched(LaunchStage::kArgsTooLong), 126},
      {NotLaunched(LaunchStage::kResources), 125},
      {NotLaunched(LaunchStage::kPty), 125},
      {NotLaunched(LaunchStage::kOther), 125},
      {{.state = CommandState::kNeverStarted, .cause = Cause::kDaemonRestarted}, 125},
      {{.state = CommandState::kUnknown, .cause = Cause::kRunnerDied}, 125},
      {{.state = CommandState::kUnknown, .cause = Cause::kSandboxLost}, 125},
  };
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(ShellCode(rows[i].outcome), rows[i].code) << i;
}

TEST(EncodeTest, NoExitCodeIsInvented) {
  for (CommandState state : {CommandState::kUnknown, CommandState::kNeverStarted}) {
    v1::Exit exit;
    Encode(Outcome{.state = state, .value = 0}, &exit);
    EXPECT_EQ(exit.how_case(), v1::Exit::HOW_NOT_SET);
    EXPECT_NE(exit.shell_code(), 0);
  }
  v1::Exit exit;
  Encode(Exited(0), &exit);
  EXPECT_EQ(exit.how_case(), v1::Exit::kCode);
  v1::Exit killed;
  Encode(Killed(Cause::kCancelled, true, 9), &killed);
  EXPECT_EQ(killed.signal(), 9);
  EXPECT_EQ(killed.cause(), v1::Exit::CANCELLED);
}

TEST(EncodeTest, LaunchFailuresNameStageAndErrno) {
  Outcome outcome = NotLaunched(LaunchStage::kNotFound);
  outcome.launch_errno = ENOENT;
  v1::Exit exit;
  Encode(outcome, &exit);
  EXPECT_EQ(exit.launch_failure().stage(), v1::LaunchFailure::NOT_FOUND);
  EXPECT_EQ(exit.launch_failure().errno_name(), "ENOENT");
  EXPECT_EQ(exit.launch_failure().errno_value(), ENOENT);
  EXPECT_FALSE(exit.launch_failure().message().empty());
}

TEST(EncodeTest, TreeReportsNameAtMostSixteenSurvivors) {
  TreeReport tree{.method = KillMethod::kSupervisor, .signalled = 3, .survivors = 20};
  for (int i = 0; i < 20; ++i) tree.survivor_pids.push_back(100 + i);
  v1::TreeReport wire;
  Encode(tree, &wire);
  EXPECT_EQ(wire.method(), v1::SUPERVISOR);
  EXPECT_EQ(wire.survivors(), 20u);
  EXPECT_EQ(wire.survivor_pids_size(), 16);
  EXPECT_FALSE(wire.verified());
}

TEST(EncodeTest, CommandsAreShownWhole) {
  CommandInfo info;
  info.session_id = "s";
  info.id = "c1";
  info.run_id = "id";
  info.client_request_id = true;
  info.state = CommandState::kExited;
  info.outcome = Exited(3);
  info.outcome->cwd = "/x";
  info.outcome->state_committed = true;
  info.outcome->generation = 4;
  info.produced.offset[1] = 8;
  info.create_time = WallTime(std::chrono::milliseconds(1500));
  info.summary = "ls\xff";
  info.labels = {{"k", "v"}};
  v1::Command wire;
  Encode(info, &wire);
  EXPECT_EQ(wire.name(), "sessions/s/commands/c1");
  EXPECT_EQ(wire.state(), v1::Command::EXITED);
  EXPECT_EQ(wire.request_id(), "id");
  EXPECT_EQ(wire.exit().code(), 3);
  EXPECT_EQ(wire.produced().stderr_offset(), 8u);
  EXPECT_EQ(wire.create_time().seconds(), 1);
  EXPECT_EQ(wire.create_time().nanos(), 500'000'000);
  EXPECT_EQ(wire.cwd_after(), "/x");
  EXPECT_EQ(wire.shell_generation_after(), 4u);
  EXPECT_TRUE(wire.state_committed());
  EXPECT_EQ(wire.summary(), "ls\xff");
  EXPECT_FALSE(wire.has_end_time());
  std::string bytes;
  EXPECT_TRUE(wire.SerializeToString(&bytes));

  info.client_request_id = false;
  info.outcome.reset();
  v1::Command running;
  Encode(info, &running);
  EXPECT_EQ(running.request_id(), "");
  EXPECT_FALSE(running.has_exit());
}

TEST(EncodeTest, AnOutputEventInTwoPartsIsTheSameMessage) {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{127}, size_t{128}, size_t{240} << 10}) {
    for (const uint64_t offset : {uint64_t{0}, uint64_t{5} << 33}) {
      const OutputPiece piece{OutputStream::kStderr, offset, std::string(bytes, 'x')};
      const WallTime now{std::chrono::nanoseconds(1'234'567'890'123)};
      v1::CommandEvent whole;
      Encode(piece, false, now, &whole);
      v1::CommandEvent joined;
      ASSERT_TRUE(joined.ParseFromString(EncodeHead(piece, false, now) + piece.data));
      EXPECT_EQ(joined.SerializeAsString(), whole.SerializeAsString());
    }
  }
}

TEST(EncodeTest, EventsKeepTheirKind) {
  v1::CommandEvent wire;
  Encode(OutputPiece{OutputStream::kStdout, 5, "abc"}, false, WallTime{}, &wire);
  EXPECT_EQ(wire.output().channel(), v1::STDOUT);
  EXPECT_EQ(wire.output().offset(), 5u);
  EXPECT_EQ(wire.output().data(), "abc");
  Encode(OutputPiece{OutputStream::kStdout, 5, "abc"}, true, WallTime{}, &wire);
  EXPECT_EQ(wire.output().channel(), v1::TTY);
  Encode(GapPiece{OutputStream::kStderr, 1, 9, "trimmed"}, false, WallTime{}, &wire);
  EXPECT_EQ(wire.gap().channel(), v1::STDERR);
  EXPECT_EQ(wire.gap().to_offset(), 9u);
  EXPECT_EQ(wire.gap().reason(), "trimmed");
  Encode(BeatInfo{Cursor{{1, 2}}}, false, WallTime{}, &wire);
  EXPECT_EQ(wire.beat().produced().stderr_offset(), 2u);
  StartedInfo started;
  started.command.session_id = "s";
  started.command.id = "c";
  started.command.pid = 9;
  started.attached_to_existing = true;
  Encode(started, false, WallTime{}, &wire);
  EXPECT_EQ(wire.started().name(), "sessions/s/commands/c");
  EXPECT_EQ(wire.started().pid(), 9);
  EXPECT_TRUE(wire.started().attached_to_existing());
}

TEST(EncodeTest, SessionsAreShownWithoutWhatIsPrivate) {
  SessionInfo info;
  info.id = "box";
  info.backend = "local";
  info.state = SessionState::kDegraded;
  info.version = 12;
  info.first_env = {{"SECRET", "hidden"}};
  info.sandbox_handle = "handle-hidden";
  info.conditions.push_back({.type = "SECRET_NEEDED", .reason = "R", .message = "m", .since = {}});
  v1::Session wire;
  Encode(info, &wire);
  EXPECT_EQ(wire.name(), "sessions/box");
  EXPECT_EQ(wire.state(), v1::Session::DEGRADED);
  EXPECT_EQ(wire.etag(), "12");
  EXPECT_EQ(wire.conditions(0).type(), "SECRET_NEEDED");
  EXPECT_FALSE(wire.has_expire_time());
  EXPECT_FALSE(wire.has_idle_ttl());
  EXPECT_EQ(wire.SerializeAsString().find("hidden"), std::string::npos);
}

}  // namespace
}  // namespace hermes
