#include "backends/engine/frames.h"

#include <gtest/gtest.h>

namespace hermes::frames {
namespace {

// The one frame in `bytes`.
Frame Only(std::string_view bytes) {
  Frame frame{};
  size_t consumed = 0;
  EXPECT_EQ(ParseFrame(bytes, &frame, &consumed), Parse::kFrame);
  EXPECT_EQ(consumed, bytes.size());
  return frame;
}

// No strict prefix of a payload decodes, nor does one with a byte more.
template <typename T>
void ExpectExactLength(std::string_view payload) {
  for (size_t size = 0; size < payload.size(); ++size)
    EXPECT_FALSE(Decode<T>(payload.substr(0, size))) << size;
  EXPECT_FALSE(Decode<T>(std::string(payload) + '\0'));
}

TEST(FramesTest, CarriesOpen) {
  std::string bytes;
  Encode(bytes, 7, Open{"s", "~/a b", {{"A", "1"}, {"B", std::string("x\0y", 3)}}, 1});
  Frame frame = Only(bytes);
  EXPECT_EQ(frame.type, Type::kOpen);
  EXPECT_EQ(frame.command, 7U);
  auto open = Decode<Open>(frame.payload);
  ASSERT_TRUE(open);
  EXPECT_EQ(open->session, "s");
  EXPECT_EQ(open->cwd, "~/a b");
  EXPECT_EQ(open->env[1].second, std::string("x\0y", 3));
  EXPECT_EQ(open->resume, 1);
  ExpectExactLength<Open>(frame.payload);
}

TEST(FramesTest, CarriesOpened) {
  std::string bytes;
  Encode(bytes, 7, Opened{1ULL << 40, "/home", 2, 1});
  auto opened = Decode<Opened>(Only(bytes).payload);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->generation, 1ULL << 40);
  EXPECT_EQ(opened->cwd, "/home");
  EXPECT_EQ(opened->shell, 2);
  EXPECT_EQ(opened->recovered, 1);
  ExpectExactLength<Opened>(Only(bytes).payload);
}

TEST(FramesTest, CarriesWelcome) {
  std::string bytes;
  Encode(bytes, Welcome{kVersion, "token", 4711, "0.1.0 abc", "x86_64", "/root"});
  EXPECT_EQ(Only(bytes).type, Type::kWelcome);
  auto welcome = Decode<Welcome>(Only(bytes).payload);
  ASSERT_TRUE(welcome);
  EXPECT_EQ(welcome->version, kVersion);
  EXPECT_EQ(welcome->start_token, "token");
  EXPECT_EQ(welcome->pid, 4711U);
  EXPECT_EQ(welcome->build, "0.1.0 abc");
  EXPECT_EQ(welcome->arch, "x86_64");
  EXPECT_EQ(welcome->home, "/root");
  ExpectExactLength<Welcome>(Only(bytes).payload);
}

Start FullStart() {
  Start start;
  start.session = "s";
  start.run_id = "r";
  start.form = frames::Form::kArgv;
  start.script = "echo\n";
  start.argv = {"ls", "", "-l"};
  start.cwd = "/";
  start.env = {{"A", "1"}};
  start.secret_env = {{"S", "2"}};
  start.stdin_kind = StdinKind::kOpen;
  start.pty = 1;
  start.cols = 132;
  start.rows = 50;
  start.term = "xterm";
  start.merge_stderr = 1;
  start.deadline_ms = 1ULL << 33;
  start.grace_ms = 5;
  start.state_mode = StateMode::kIsolated;
  return start;
}

TEST(FramesTest, CarriesStart) {
  std::string bytes;
  Encode(bytes, 9, FullStart());
  auto start = Decode<Start>(Only(bytes).payload);
  ASSERT_TRUE(start);
  EXPECT_EQ(start->run_id, "r");
  EXPECT_EQ(start->form, frames::Form::kArgv);
  EXPECT_EQ(start->script, "echo\n");
  EXPECT_EQ(start->argv, (std::vector<std::string>{"ls", "", "-l"}));
  EXPECT_EQ(start->secret_env, (Pairs{{"S", "2"}}));
  EXPECT_EQ(start->stdin_kind, StdinKind::kOpen);
  EXPECT_EQ(start->cols, 132);
  EXPECT_EQ(start->rows, 50);
  EXPECT_EQ(start->term, "xterm");
  EXPECT_EQ(start->deadline_ms, 1ULL << 33);
  EXPECT_EQ(start->grace_ms, 5U);
  EXPECT_EQ(start->state_mode, StateMode::kIsolated);
  ExpectExactLength<Start>(Only(bytes).payload);
}

Exit FullExit() {
  Exit exit;
  exit.cause = Cause::kRunTimeout;
  exit.signalled = 1;
  exit.value = -3;
  exit.stage = LaunchStage::kPty;
  exit.launch_errno = 13;
  exit.out = 1ULL << 50;
  exit.err = 2;
  exit.user_us = 3;
  exit.system_us = 4;
  exit.max_rss_kb = 5;
  exit.residual = 1;
  exit.state_committed = 1;
  exit.state_reason = "exec";
  exit.generation = 6;
  exit.cwd = "/tmp";
  exit.has_tree = 1;
  exit.tree = {7, 2, 1, {100, 200}};
  return exit;
}

TEST(FramesTest, CarriesExit) {
  std::string bytes;
  Encode(bytes, 9, FullExit());
  auto exit = Decode<Exit>(Only(bytes).payload);
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->cause, Cause::kRunTimeout);
  EXPECT_EQ(exit->value, -3);
  EXPECT_EQ(exit->stage, LaunchStage::kPty);
  EXPECT_EQ(exit->launch_errno, 13);
  EXPECT_EQ(exit->out, 1ULL << 50);
  EXPECT_EQ(exit->max_rss_kb, 5U);
  EXPECT_EQ(exit->state_reason, "exec");
  EXPECT_EQ(exit->cwd, "/tmp");
  EXPECT_EQ(exit->tree.pids, (std::vector<uint32_t>{100, 200}));
  ExpectExactLength<Exit>(Only(bytes).payload);
}

TEST(FramesTest, CarriesListed) {
  std::string bytes;
  Encode(bytes, 9, Listed{"s", "r", 1, 2, 3, 4, 5, 1, 0});
  auto listed = Decode<Listed>(Only(bytes).payload);
  ASSERT_TRUE(listed);
  EXPECT_EQ(listed->err_first, 5U);
  EXPECT_EQ(listed->exited, 1);
  EXPECT_EQ(listed->drained, 0);
  ExpectExactLength<Listed>(Only(bytes).payload);
}

TEST(FramesTest, CarriesTreeReportsOfBothKinds) {
  for (Type type : {Type::kClosed, Type::kKilled}) {
    std::string bytes;
    Encode(bytes, 3, type, TreeReport{1, 2, 1, {5}});
    EXPECT_EQ(Only(bytes).type, type);
    auto report = Decode<TreeReport>(Only(bytes).payload);
    ASSERT_TRUE(report);
    EXPECT_EQ(report->pids, std::vector<uint32_t>{5});
    ExpectExactLength<TreeReport>(Only(bytes).payload);
  }
}

TEST(FramesTest, NamesAtMostSixteenSurvivors) {
  std::string bytes;
  Encode(bytes, 3, Type::kKilled, TreeReport{1, 40, 1, std::vector<uint32_t>(40, 5)});
  auto report = Decode<TreeReport>(Only(bytes).payload);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->survivors, 40U);
  EXPECT_EQ(report->pids.size(), 16U);

  std::string forged;
  Writer writer(forged);
  writer.U32(1);
  writer.U32(40);
  writer.U8(1);
  writer.U32(17);
  for (int i = 0; i < 17; ++i) writer.U32(1);
  EXPECT_FALSE(Decode<TreeReport>(forged));
}

TEST(FramesTest, CarriesData) {
  std::string bytes;
  EncodeData(bytes, 3, Type::kOut, 1ULL << 60, std::string_view("a\0b", 3));
  Frame frame = Only(bytes);
  EXPECT_EQ(frame.type, Type::kOut);
  Reader reader(frame.payload);
  EXPECT_EQ(reader.U64(), 1ULL << 60);
  EXPECT_EQ(reader.Rest(), std::string_view("a\0b", 3));
  EXPECT_TRUE(reader.done());
}

TEST(FramesTest, RefusesValuesOutOfRange) {
  std::string bytes;
  Encode(bytes, 9, FullExit());
  std::string payload(Only(bytes).payload);
  ASSERT_TRUE(Decode<Exit>(payload));
  std::string cause = payload;
  cause[0] = 99;
  EXPECT_FALSE(Decode<Exit>(cause));
  std::string flag = payload;
  flag[1] = 2;
  EXPECT_FALSE(Decode<Exit>(flag));
}

TEST(FramesTest, RefusesCountsThatThePayloadCannotHold) {
  std::string payload;
  Writer writer(payload);
  writer.Str("s");
  writer.Str("/");
  writer.U32(0xffffffff);  // pairs
  EXPECT_FALSE(Decode<Open>(payload));
}

TEST(FramesTest, FindsFramesInAStream) {
  std::string bytes;
  EncodeData(bytes, 1, Type::kOut, 0, "one");
  size_t first = bytes.size();
  EncodeData(bytes, 2, Type::kErr, 0, "two");
  Frame frame{};
  size_t consumed = 0;
  for (size_t size = 0; size < first; ++size)
    EXPECT_EQ(ParseFrame(std::string_view(bytes).substr(0, size), &frame, &consumed),
              Parse::kNeedMore);
  ASSERT_EQ(ParseFrame(bytes, &frame, &consumed), Parse::kFrame);
  EXPECT_EQ(consumed, first);
  ASSERT_EQ(ParseFrame(std::string_view(bytes).substr(consumed), &frame, &consumed), Parse::kFrame);
  EXPECT_EQ(frame.command, 2U);
}

TEST(FramesTest, BreaksOnLengthsNoFrameHas) {
  Frame frame{};
  size_t consumed = 0;
  EXPECT_EQ(ParseFrame(std::string_view("\4\0\0\0", 4), &frame, &consumed), Parse::kBroken);
  EXPECT_EQ(ParseFrame("\xff\xff\xff\xff", &frame, &consumed), Parse::kBroken);
}

TEST(ReaderTest, StaysFailedAfterAShortRead) {
  Reader reader(std::string_view("\1\0", 2));
  EXPECT_EQ(reader.U32(), 0U);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.U8(), 0);
  EXPECT_EQ(reader.Rest(), "");
  EXPECT_FALSE(reader.done());
}

}  // namespace
}  // namespace hermes::frames
