#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "tests/rpc/stand.h"

namespace hermes {
namespace {

using namespace std::chrono_literals;

constexpr char kId[] = "00112233-4455-6677-8899-aabbccddeeff";

uint64_t ResidentBytes() {
  unsigned long size = 0;
  unsigned long resident = 0;
  FILE* file = fopen("/proc/self/statm", "re");
  EXPECT_EQ(fscanf(file, "%lu %lu", &size, &resident), 2);
  fclose(file);
  return uint64_t{resident} * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

class StreamTest : public ::testing::Test {
 protected:
  v1::Command::State StateOf(const std::string& name) {
    grpc::ClientContext context;
    v1::GetCommandRequest request;
    request.set_name(name);
    v1::Command command;
    EXPECT_TRUE(exec_->GetCommand(&context, request, &command).ok());
    return command.state();
  }

  // Starts a command that hangs, reads its start, and goes away.
  std::string LeaveBehind(v1::OnDisconnect policy) {
    v1::ExecuteRequest request = Script("s", "hang");
    request.set_on_disconnect(policy);
    grpc::ClientContext context;
    auto reader = exec_->Execute(&context, request);
    v1::CommandEvent event;
    EXPECT_TRUE(reader->Read(&event));
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
    return event.started().name();
  }

  bool CallsBecome(size_t wanted) {
    return Eventually([this, wanted] {
      size_t open = 0;
      stand_.OnLoop([&] { open = stand_.server().OpenCalls(); });
      return open == wanted;
    });
  }
  bool NoCallsLeft() { return CallsBecome(0); }

  Stand stand_;
  std::shared_ptr<grpc::Channel> channel_ = stand_.Connect();
  std::unique_ptr<v1::ExecService::Stub> exec_ = v1::ExecService::NewStub(channel_);
};

TEST_F(StreamTest, ADetachedCommandOutlivesItsClient) {
  stand_.Session("s");
  const std::string name = LeaveBehind(v1::DETACH);
  EXPECT_TRUE(NoCallsLeft());
  EXPECT_EQ(StateOf(name), v1::Command::RUNNING);
}

TEST_F(StreamTest, CancelOnDisconnectKillsTheCommand) {
  stand_.Session("s");
  const std::string name = LeaveBehind(v1::CANCEL);
  EXPECT_TRUE(Eventually([&] { return StateOf(name) == v1::Command::KILLED; }));
}

TEST_F(StreamTest, GraceLeavesTheCommandAloneForAWhile) {
  stand_.Session("s");
  const std::string name = LeaveBehind(v1::CANCEL_AFTER_GRACE);
  EXPECT_TRUE(NoCallsLeft());
  EXPECT_EQ(StateOf(name), v1::Command::RUNNING);
}

// The command's client is gone, and a reader has come after a restart. Then it goes, too.
TEST_F(StreamTest, AReaderThatAttachedLeavesAsTheCommandDeclared) {
  stand_.Session("s");
  v1::ExecuteRequest request = Script("s", "hang");
  request.set_on_disconnect(v1::CANCEL);
  request.set_request_id(kId);
  grpc::ClientContext context;
  auto reader = exec_->Execute(&context, request);
  v1::CommandEvent event;
  ASSERT_TRUE(reader->Read(&event));
  const std::string name = event.started().name();
  stand_.Restart();
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(ReasonOf(reader->Finish()), "DRAINING");
  v1::AttachRequest attach;
  attach.set_name(name);
  attach.set_no_follow(true);
  EXPECT_TRUE(Eventually([&] { return Attach(*exec_, attach).status.ok(); }));
  EXPECT_EQ(StateOf(name), v1::Command::RUNNING) << "who only looks has nothing to leave";
  attach.set_no_follow(false);
  grpc::ClientContext second;
  reader = exec_->Attach(&second, attach);
  ASSERT_TRUE(reader->Read(&event));
  second.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return StateOf(name) == v1::Command::KILLED; }));
}

TEST(RestartTest, ACommandWhoseClientDoesNotComeBackIsCancelledByTheNextDaemon) {
  Stand stand({.own_uid = 0, .full = {}, .operate = {}}, [](RpcOptions& options) {
    options.disconnect_grace = std::chrono::milliseconds(50);
  });
  stand.Session("s");
  auto exec = v1::ExecService::NewStub(stand.Connect());
  v1::ExecuteRequest request = Script("s", "hang");
  request.set_on_disconnect(v1::CANCEL);
  request.set_request_id(kId);
  grpc::ClientContext context;
  auto reader = exec->Execute(&context, request);
  v1::CommandEvent event;
  ASSERT_TRUE(reader->Read(&event));
  stand.Restart();
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(ReasonOf(reader->Finish()), "DRAINING");
  EXPECT_TRUE(Eventually([&] {
    bool killed = false;
    stand.OnLoop([&] { killed = stand.place().commands.empty(); });
    return killed;
  })) << "its end was not stored and its record forgotten";
  const Heard heard = Execute(*exec, request);
  ASSERT_TRUE(heard.finished());
  EXPECT_EQ(heard.command().exit().cause(), v1::Exit::CANCELLED);
}

TEST_F(StreamTest, WaitTimeoutEndsTheRpcOnly) {
  stand_.Session("s");
  v1::ExecuteRequest request = Script("s", "out x;hang");
  request.mutable_wait_timeout()->set_nanos(20'000'000);
  const Heard heard = Execute(*exec_, request);
  EXPECT_TRUE(heard.status.ok());
  EXPECT_FALSE(heard.finished());
  EXPECT_EQ(heard.out, "x");
  const std::string name = heard.events.front().started().name();
  EXPECT_EQ(StateOf(name), v1::Command::RUNNING);
  v1::AttachRequest attach;
  attach.set_name(name);
  attach.set_no_follow(true);
  const Heard again = Attach(*exec_, attach);
  EXPECT_TRUE(again.status.ok());
  EXPECT_EQ(again.out, "x");
}

TEST_F(StreamTest, APhaseSaysWhatALongStartWaitsFor) {
  stand_.SetGate(true);
  stand_.Session("held-1", false);
  grpc::ClientContext context;
  auto reader = exec_->Execute(&context, Script("held-1", "out x"));
  v1::CommandEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.phase().name(), "connecting");
  stand_.SetGate(false);
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_started()) << event.ShortDebugString();
  while (reader->Read(&event)) {
  }
  EXPECT_TRUE(event.has_finished());
  EXPECT_TRUE(reader->Finish().ok());

  stand_.Session("flood-1");
  stand_.SetGate(true);
  grpc::ClientContext second;
  reader = exec_->Execute(&second, Script("flood-1", "flood 1000"));
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.phase().name(), "launching");
  stand_.SetGate(false);
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_started()) << event.ShortDebugString();
}

TEST_F(StreamTest, WaitTimeoutHoldsForAStartAndTheCommandRunsAllTheSame) {
  stand_.SetGate(true);
  stand_.Session("held-1", false);
  v1::ExecuteRequest request = Script("held-1", "out x");
  request.set_request_id("00112233-4455-6677-8899-aabbccddeeff");
  request.mutable_wait_timeout();
  Heard heard = Execute(*exec_, request);
  EXPECT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_FALSE(heard.finished());
  stand_.SetGate(false);
  request.clear_wait_timeout();
  heard = Execute(*exec_, request);
  ASSERT_TRUE(heard.finished());
  EXPECT_EQ(heard.out, "x");
  EXPECT_EQ(stand_.place().starts[request.request_id()], 1);
  request.mutable_wait_timeout();
  request.set_shell("out y");
  EXPECT_EQ(ReasonOf(Execute(*exec_, request).status), "REQUEST_ID_REUSED") << "not told";
}

TEST_F(StreamTest, ADrainDoesNotWaitForAStart) {
  stand_.SetGate(true);
  stand_.Session("held-1", false);
  ASSERT_TRUE(NoCallsLeft());
  Heard heard;
  std::thread client([&] { heard = Execute(*exec_, Script("held-1", "out x")); });
  ASSERT_TRUE(CallsBecome(1));
  stand_.Drain();
  client.join();
  EXPECT_EQ(ReasonOf(heard.status), "DRAINING");
  stand_.SetGate(false);
}

TEST_F(StreamTest, AReaderThatNeverReadsHoldsNobodyAndCostsLittle) {
  stand_.Session("flood-1");
  stand_.Session("s");
  v1::ExecuteRequest request = Script("flood-1", "flood 67108864");
  request.set_on_disconnect(v1::DETACH);
  const auto stuck_channel = stand_.Connect();
  auto stuck_stub = v1::ExecService::NewStub(stuck_channel);
  Heard whole = Execute(*exec_, request);  // what a reader that reads gets
  EXPECT_EQ(whole.out.size(), 67108864u);
  whole = Heard();

  v1::AttachRequest attach;
  const uint64_t before = ResidentBytes();
  grpc::ClientContext context;
  auto stuck = stuck_stub->Execute(&context, request);
  v1::CommandEvent event;
  ASSERT_TRUE(stuck->Read(&event));
  ASSERT_TRUE(Eventually([&] { return StateOf(event.started().name()) == v1::Command::EXITED; }));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Execute(*exec_, Script("s", "out hello")).out, "hello");
  }
  // Client and server are one process here: both ends of the stream are in this figure.
  EXPECT_LE(ResidentBytes(), before + (10 << 20));
  context.TryCancel();
  stuck->Finish();
  EXPECT_TRUE(NoCallsLeft());
}

TEST_F(StreamTest, ThousandsOfCancelsAtAnyMomentLeaveNothingBehind) {
  stand_.Session("flood-1");
  for (int i = 0; i < 300; ++i) {
    v1::ExecuteRequest request = Script("flood-1", "flood 3000000");
    request.set_on_disconnect(v1::DETACH);
    grpc::ClientContext context;
    auto reader = exec_->Execute(&context, request);
    v1::CommandEvent event;
    for (int read = 0; read < i % 7; ++read) reader->Read(&event);
    context.TryCancel();
    reader->Finish();
  }
  EXPECT_TRUE(NoCallsLeft());
}

TEST_F(StreamTest, InteractCarriesStdinResizeAndSignals) {
  stand_.Session("s");
  grpc::ClientContext context;
  auto stream = exec_->Interact(&context);
  v1::InteractRequest message;
  *message.mutable_start() = Script("s", "out ready;hang");
  message.mutable_start()->mutable_pty();
  ASSERT_TRUE(stream->Write(message));
  message.mutable_stdin()->set_data("hello");
  ASSERT_TRUE(stream->Write(message));
  message.set_signal(10);
  ASSERT_TRUE(stream->Write(message));
  message.mutable_resize()->set_cols(111);
  message.mutable_resize()->set_rows(37);
  ASSERT_TRUE(stream->Write(message));
  message.mutable_stdin()->set_offset(5);
  message.mutable_stdin()->set_eof(true);
  ASSERT_TRUE(stream->Write(message));
  EXPECT_TRUE(stream->WritesDone());
  FakeCommand got;  // messages are taken in order: after the last one all are there
  ASSERT_TRUE(Eventually([&] {
    stand_.OnLoop([&] {
      if (!stand_.place().commands.empty()) got = *stand_.place().commands.begin()->second;
    });
    return got.stdin_eof;
  }));
  EXPECT_EQ(got.stdin_bytes, "hello");
  EXPECT_EQ(got.signals, (std::vector<std::pair<int, int>>{{10, 0}}));
  EXPECT_EQ(got.resizes, (std::vector<std::pair<uint16_t, uint16_t>>{{111, 37}}));
  v1::CommandEvent event;
  ASSERT_TRUE(stream->Read(&event));
  v1::CancelCommandRequest cancel;
  cancel.set_name(event.started().name());
  grpc::ClientContext cancelling;
  v1::Command command;
  ASSERT_TRUE(exec_->CancelCommand(&cancelling, cancel, &command).ok());
  Heard heard;
  while (stream->Read(&event)) Hear(std::move(event), &heard);
  EXPECT_TRUE(stream->Finish().ok());
  ASSERT_TRUE(heard.finished());
  EXPECT_EQ(heard.command().state(), v1::Command::KILLED);
  EXPECT_EQ(heard.out, "ready");
}

TEST_F(StreamTest, ASignalIsSentToWhomItIsFor) {
  stand_.Session("s");
  v1::Command command;
  grpc::ClientContext start;
  ASSERT_TRUE(exec_->StartCommand(&start, Script("s", "hang"), &command).ok());
  v1::SignalRequest request;
  request.set_name(command.name());
  for (auto scope : {v1::SignalRequest::SCOPE_UNSPECIFIED, v1::SignalRequest::TREE,
                     v1::SignalRequest::LEADER, v1::SignalRequest::FOREGROUND}) {
    request.set_signal(20 + scope);
    request.set_scope(scope);
    grpc::ClientContext context;
    v1::SignalResponse response;
    EXPECT_TRUE(exec_->Signal(&context, request, &response).ok());
  }
  std::vector<std::pair<int, int>> got;
  stand_.OnLoop([&] { got = stand_.place().commands.begin()->second->signals; });
  EXPECT_EQ(got, (std::vector<std::pair<int, int>>{{20, 0}, {21, 0}, {22, 1}, {23, 2}}));
}

TEST_F(StreamTest, ABadMessageEndsAnInteractiveCallWithItsError) {
  stand_.Session("s");
  struct Row {
    const char* reason;
    std::function<void(v1::InteractRequest&)> make;
  };
  const std::vector<Row> rows = {
      {"STDIN_OFFSET_MISMATCH", [](auto& m) { m.mutable_stdin()->set_offset(99); }},
      {"BAD_FIELD", [](auto& m) { m.set_signal(99); }},
      {"BAD_FIELD", [](auto& m) { m.mutable_resize(); }},
      {"BAD_FIELD", [](auto& m) { m.mutable_start(); }},
      {"BAD_FIELD", [](auto& m) { m.Clear(); }},
  };
  for (const Row& row : rows) {
    grpc::ClientContext context;
    auto stream = exec_->Interact(&context);
    v1::InteractRequest message;
    *message.mutable_start() = Script("s", "hang");
    ASSERT_TRUE(stream->Write(message));
    row.make(message);
    stream->Write(message);
    v1::CommandEvent event;
    while (stream->Read(&event)) {
    }
    EXPECT_EQ(ReasonOf(stream->Finish()), row.reason);
  }
  grpc::ClientContext context;
  auto stream = exec_->Interact(&context);
  v1::InteractRequest message;
  message.set_signal(9);
  stream->Write(message);
  v1::CommandEvent event;
  EXPECT_FALSE(stream->Read(&event));
  EXPECT_EQ(MetadataOf(stream->Finish(), "field"), "msg");
  EXPECT_TRUE(NoCallsLeft());
}

TEST_F(StreamTest, StdinIsWrittenByOffset) {
  stand_.Session("s");
  v1::ExecuteRequest request = Script("s", "hang");
  request.set_stdin(v1::STDIN_OPEN);
  v1::Command command;
  grpc::ClientContext start;
  ASSERT_TRUE(exec_->StartCommand(&start, request, &command).ok());
  v1::WriteStdinRequest write;
  write.set_name(command.name());
  write.mutable_chunk()->set_data("abc");
  v1::WriteStdinResponse response;
  for (int round = 0; round < 2; ++round) {  // twice: the second is skipped
    grpc::ClientContext context;
    ASSERT_TRUE(exec_->WriteStdin(&context, write, &response).ok());
    EXPECT_EQ(response.accepted_offset(), 3u);
  }
  write.mutable_chunk()->set_offset(7);
  grpc::ClientContext context;
  EXPECT_EQ(ReasonOf(exec_->WriteStdin(&context, write, &response)), "STDIN_OFFSET_MISMATCH");
}

TEST_F(StreamTest, ADrainTellsEveryStreamAndIsOverSoon) {
  stand_.Session("s");
  stand_.Session("flood-1");
  // A stuck reader, a follower, and a unary call that waits.
  grpc::ClientContext stuck_context;
  auto stuck = exec_->Execute(&stuck_context, Script("flood-1", "flood 67108864"));
  v1::CommandEvent event;
  ASSERT_TRUE(stuck->Read(&event));
  const std::string flooded = event.started().name();
  ASSERT_TRUE(Eventually([&] { return StateOf(flooded) == v1::Command::EXITED; }));
  grpc::ClientContext context;
  auto reader = exec_->Execute(&context, Script("s", "hang"));
  ASSERT_TRUE(reader->Read(&event));
  ASSERT_TRUE(CallsBecome(2));
  v1::WaitCommandRequest wait;
  wait.set_name(event.started().name());
  grpc::Status waited;
  std::thread waiter([&] {
    grpc::ClientContext waiting;
    v1::Command command;
    waited = exec_->WaitCommand(&waiting, wait, &command);
  });
  ASSERT_TRUE(CallsBecome(3));
  const auto begin = std::chrono::steady_clock::now();
  stand_.Drain();
  std::vector<std::string> phases;
  while (reader->Read(&event)) {
    if (event.has_phase()) phases.push_back(event.phase().name());
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(phases, std::vector<std::string>{"draining"});
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "DRAINING");
  waiter.join();
  EXPECT_EQ(ReasonOf(waited), "DRAINING");
  stand_.Drained();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  while (stuck->Read(&event)) {
  }
  EXPECT_EQ(stuck->Finish().error_code(), grpc::UNAVAILABLE);
  EXPECT_NE(access(stand_.socket().c_str(), F_OK), 0);
}

}  // namespace
}  // namespace hermes
