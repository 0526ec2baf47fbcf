#include "client/outcome.h"

#include <gtest/gtest.h>

#include "client/error.h"
#include "client/tracker.h"

namespace hermes::client {
namespace {

v1::Command Ended(v1::Command::State state, v1::Exit::Cause cause, int shell_code) {
  v1::Command command;
  command.set_name("sessions/box/commands/c1");
  command.set_state(state);
  command.mutable_exit()->set_cause(cause);
  command.mutable_exit()->set_shell_code(shell_code);
  return command;
}

TEST(ExitCodeTest, IsTheShellCodeOfAnyKnownEnd) {
  v1::Command command = Ended(v1::Command::EXITED, v1::Exit::NATURAL, 0);
  command.mutable_exit()->set_code(0);
  EXPECT_EQ(ExitCodeOf(command), 0);
  EXPECT_EQ(ExitCodeOf(Ended(v1::Command::EXITED, v1::Exit::NATURAL, 7)), 7);
  EXPECT_EQ(ExitCodeOf(Ended(v1::Command::EXITED, v1::Exit::NATURAL, 139)), 139);
  EXPECT_EQ(ExitCodeOf(Ended(v1::Command::KILLED, v1::Exit::RUN_TIMEOUT, 124)), 124);
  EXPECT_EQ(ExitCodeOf(Ended(v1::Command::KILLED, v1::Exit::CANCELLED, 130)), 130);
  EXPECT_EQ(ExitCodeOf(Ended(v1::Command::NEVER_STARTED, v1::Exit::LAUNCH_FAILED, 127)), 127);
}

TEST(ExitCodeTest, IsNeverZeroWithoutAKnownGoodEnd) {
  EXPECT_EQ(ExitCodeOf(v1::Command()), 125);
  EXPECT_EQ(ExitCodeOf(Ended(v1::Command::RUNNING, v1::Exit::NATURAL, 0)), 125);
  EXPECT_EQ(ExitCodeOf(Ended(v1::Command::UNKNOWN, v1::Exit::RUNNER_DIED, 0)), 125);
  EXPECT_EQ(ExitCodeOf(Ended(v1::Command::KILLED, v1::Exit::SANDBOX_LOST, 0)), 125);
  EXPECT_EQ(ExitCodeOf(Ended(v1::Command::NEVER_STARTED, v1::Exit::DAEMON_RESTARTED, 0)), 125);
  EXPECT_EQ(ExitCodeOf(Ended(v1::Command::EXITED, v1::Exit::NATURAL, 0)), 125) << "code is not set";
  v1::Command by_signal = Ended(v1::Command::EXITED, v1::Exit::NATURAL, 0);
  by_signal.mutable_exit()->set_signal(9);
  EXPECT_EQ(ExitCodeOf(by_signal), 137);
}

TEST(DescribeEndTest, SaysNothingAboutANaturalEndAndNamesSurvivors) {
  EXPECT_EQ(DescribeEnd(Ended(v1::Command::EXITED, v1::Exit::NATURAL, 3)), "");
  v1::Command killed = Ended(v1::Command::KILLED, v1::Exit::CANCELLED, 130);
  EXPECT_EQ(DescribeEnd(killed), "box/c1 was cancelled");
  v1::TreeReport& tree = *killed.mutable_exit()->mutable_tree();
  tree.set_verified(true);
  EXPECT_EQ(DescribeEnd(killed), "box/c1 was cancelled");
  tree.set_survivors(2);
  tree.add_survivor_pids(11);
  tree.add_survivor_pids(12);
  EXPECT_EQ(DescribeEnd(killed), "box/c1 was cancelled; 2 of its processes still live: pid 11, 12");
}

TEST(DescribeEndTest, SaysWhyACommandDidNotStart) {
  v1::Command command = Ended(v1::Command::NEVER_STARTED, v1::Exit::LAUNCH_FAILED, 126);
  v1::LaunchFailure& failure = *command.mutable_exit()->mutable_launch_failure();
  failure.set_stage(v1::LaunchFailure::BAD_CWD);
  failure.set_message("chdir /nowhere");
  failure.set_errno_name("ENOENT");
  EXPECT_EQ(DescribeEnd(command), "box/c1 could not be started (BAD_CWD): chdir /nowhere [ENOENT]");
}

v1::Output Output(v1::Channel channel, uint64_t offset, const std::string& data) {
  v1::Output output;
  output.set_channel(channel);
  output.set_offset(offset);
  output.set_data(data);
  return output;
}

v1::Gap Gap(v1::Channel channel, uint64_t from, uint64_t to) {
  v1::Gap gap;
  gap.set_channel(channel);
  gap.set_from_offset(from);
  gap.set_to_offset(to);
  return gap;
}

TEST(OutputTrackerTest, CutsOffWhatWasSeenBefore) {
  OutputTracker tracker;
  EXPECT_EQ(tracker.Accept(Output(v1::STDOUT, 0, "hello")).data, "hello");
  v1::Output overlapping = Output(v1::STDOUT, 3, "lo world");
  OutputTracker::Accepted accepted = tracker.Accept(overlapping);
  EXPECT_EQ(accepted.data, " world");
  EXPECT_EQ(accepted.offset, 5u);
  EXPECT_FALSE(accepted.gap);
  EXPECT_EQ(tracker.Accept(Output(v1::STDOUT, 0, "hello")).data, "");
  EXPECT_EQ(tracker.next().stdout_offset(), 11u);
}

TEST(OutputTrackerTest, KeepsStreamsApartAndCountsATerminalAsStdout) {
  OutputTracker tracker;
  tracker.Accept(Output(v1::STDERR, 0, "abc"));
  tracker.Accept(Output(v1::TTY, 0, "x"));
  EXPECT_EQ(tracker.next().stdout_offset(), 1u);
  EXPECT_EQ(tracker.next().stderr_offset(), 3u);
}

TEST(OutputTrackerTest, NamesAHoleThatTheDaemonDidNotName) {
  OutputTracker tracker;
  tracker.Accept(Output(v1::STDOUT, 0, "ab"));
  v1::Output later = Output(v1::STDOUT, 10, "z");
  OutputTracker::Accepted accepted = tracker.Accept(later);
  ASSERT_TRUE(accepted.gap);
  EXPECT_EQ(accepted.gap->from_offset(), 2u);
  EXPECT_EQ(accepted.gap->to_offset(), 10u);
  EXPECT_EQ(accepted.data, "z");
}

TEST(OutputTrackerTest, TellsEachGapOnce) {
  OutputTracker tracker;
  auto gap = tracker.Accept(Gap(v1::STDOUT, 0, 10));
  ASSERT_TRUE(gap);
  EXPECT_FALSE(tracker.Accept(Gap(v1::STDOUT, 0, 10)));
  auto longer = tracker.Accept(Gap(v1::STDOUT, 5, 20));
  ASSERT_TRUE(longer);
  EXPECT_EQ(longer->from_offset(), 10u);
  EXPECT_EQ(tracker.next().stdout_offset(), 20u);
}

TEST(DescribeGapTest, NamesBothEnds) {
  v1::Gap gap = Gap(v1::STDERR, 10, 20);
  gap.set_reason("dropped");
  EXPECT_EQ(DescribeGap(gap), "stderr: bytes 10 to 20 are missing (dropped)");
}

std::string Details(const std::string& reason, const std::string& next) {
  v1::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("hermes.v1");
  (*info.mutable_metadata())["next"] = next;
  v1::ErrorStatus status;
  auto* any = status.add_details();
  any->set_type_url("type.googleapis.com/google.rpc.ErrorInfo");
  any->set_value(info.SerializeAsString());
  return status.SerializeAsString();
}

TEST(ErrorTest, ShowsMessageReasonAndNextStep) {
  absl::Status status = FromWire(5, "no session 'box'", Details("SESSION_UNKNOWN", "Create it."));
  EXPECT_EQ(Describe(status), "hermesctl: no session 'box' [SESSION_UNKNOWN]\n  Create it.\n");
  EXPECT_TRUE(IsFromDaemon(status));
  EXPECT_FALSE(IsLostContact(status));
}

TEST(ErrorTest, ShowsMetadataThatTheMessageLeavesOut) {
  v1::ErrorInfo info;
  info.set_reason("OFFSET_BEYOND_END");
  info.set_domain("hermes.v1");
  (*info.mutable_metadata())["end"] = "20";
  (*info.mutable_metadata())["field"] = "offset";
  v1::ErrorStatus wire;
  wire.add_details()->set_type_url("type.googleapis.com/google.rpc.ErrorInfo");
  wire.mutable_details(0)->set_value(info.SerializeAsString());
  EXPECT_EQ(Describe(FromWire(11, "the offset is too large", wire.SerializeAsString())),
            "hermesctl: the offset is too large (end=20) [OFFSET_BEYOND_END]\n");
}

TEST(ErrorTest, LetsNoEscapeSequenceThrough) {
  absl::Status status = FromWire(3, "bad \x1b[31m", Details("BAD\x07", "do\nthis"));
  std::string text = Describe(status);
  EXPECT_EQ(text, "hermesctl: bad \\x1b[31m [BAD\\x07]\n  do\\nthis\n");
}

TEST(ErrorTest, TellsLostContactFromRefusal) {
  EXPECT_TRUE(IsLostContact(FromWire(14, "socket closed", "")));
  EXPECT_TRUE(IsLostContact(FromWire(2, "Stream removed", "")));
  EXPECT_TRUE(IsLostContact(FromWire(14, "draining", Details("DRAINING", ""))));
  EXPECT_FALSE(IsLostContact(FromWire(14, "no route", Details("BACKEND_UNREACHABLE", ""))));
  EXPECT_FALSE(IsLostContact(FromWire(13, "broken", Details("BUG", ""))));
  EXPECT_FALSE(IsLostContact(FromWire(3, "bad", "")));
  EXPECT_FALSE(IsLostContact(absl::OkStatus()));
}

TEST(ErrorTest, TakesGarbledDetailsAsNone) {
  absl::Status status = FromWire(9, "no", "\xff\xff\xff");
  EXPECT_EQ(Describe(status), "hermesctl: no [FAILED_PRECONDITION]\n");
}

}  // namespace
}  // namespace hermes::client
