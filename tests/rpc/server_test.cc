#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/rpc/stand.h"

namespace hermes {
namespace {

using namespace std::chrono_literals;

constexpr char kId[] = "00112233-4455-6677-8899-aabbccddeeff";

class ServerTest : public ::testing::Test {
 protected:
  v1::Command Get(const std::string& name) {
    grpc::ClientContext context;
    v1::GetCommandRequest request;
    request.set_name(name);
    v1::Command command;
    EXPECT_TRUE(exec_->GetCommand(&context, request, &command).ok());
    return command;
  }

  // Sends bytes that no generated client would.
  grpc::Status SendRaw(const std::string& method, const std::string& bytes) {
    grpc::GenericStub stub(channel_);
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::Status status;
    auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
    call->StartCall();
    call->Finish(&response, &status, this);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return status;
  }

  Stand stand_;
  std::shared_ptr<grpc::Channel> channel_ = stand_.Connect();
  std::unique_ptr<v1::ExecService::Stub> exec_ = v1::ExecService::NewStub(channel_);
  std::unique_ptr<v1::SessionService::Stub> sessions_ = v1::SessionService::NewStub(channel_);
  std::unique_ptr<v1::AdminService::Stub> admin_ = v1::AdminService::NewStub(channel_);
};

TEST_F(ServerTest, ExecuteTellsStartOutputAndEnd) {
  stand_.Session("s");
  const Heard heard = Execute(*exec_, Script("s", "out hello;err bad;sleep 5;out more;exit 3"));
  EXPECT_TRUE(heard.status.ok());
  EXPECT_TRUE(heard.events.front().has_started());
  EXPECT_EQ(heard.out, "hellomore");
  EXPECT_EQ(heard.err, "bad");
  ASSERT_TRUE(heard.finished());
  EXPECT_EQ(heard.command().state(), v1::Command::EXITED);
  EXPECT_EQ(heard.command().exit().code(), 3);
  EXPECT_EQ(heard.command().exit().shell_code(), 3);
  EXPECT_EQ(heard.command().produced().stdout_offset(), 9u);
  EXPECT_EQ(heard.command().creator_uid(), getuid());
}

TEST_F(ServerTest, ARetryAttachesAndAnotherBodyIsRefused) {
  stand_.Session("s");
  v1::ExecuteRequest request = Script("s", "out once");
  request.set_request_id(kId);
  const Heard first = Execute(*exec_, request);
  request.mutable_from()->set_stdout_offset(2);
  const Heard second = Execute(*exec_, request);
  ASSERT_TRUE(second.finished());
  EXPECT_TRUE(second.events.front().started().attached_to_existing());
  EXPECT_EQ(second.out, "ce");
  EXPECT_EQ(second.command().name(), first.command().name());
  EXPECT_EQ(stand_.place().starts[kId], 1);
  request.set_shell("out twice");
  EXPECT_EQ(ReasonOf(Execute(*exec_, request).status), "REQUEST_ID_REUSED");
}

TEST_F(ServerTest, ErrorsAreTypedAndNameTheField) {
  const grpc::Status unknown = Execute(*exec_, Script("none", "true")).status;
  EXPECT_EQ(unknown.error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(ReasonOf(unknown), "SESSION_UNKNOWN");
  EXPECT_FALSE(MetadataOf(unknown, "next").empty());

  const grpc::Status bad = Execute(*exec_, Script("BAD", "true")).status;
  EXPECT_EQ(bad.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(bad), "BAD_NAME");
  EXPECT_EQ(MetadataOf(bad, "field"), "session");

  stand_.Session("s");
  const Heard heard = Execute(*exec_, Script("s", "out abc"));
  v1::AttachRequest attach;
  attach.set_name(heard.command().name());
  attach.mutable_from()->set_stdout_offset(4);
  EXPECT_EQ(ReasonOf(Attach(*exec_, attach).status), "OFFSET_BEYOND_END");
  attach.set_expected_incarnation("other");
  EXPECT_EQ(ReasonOf(Attach(*exec_, attach).status), "INCARNATION_CHANGED");
  v1::ExecuteRequest elsewhere = Script("s", "true");
  elsewhere.set_expected_incarnation("other");
  EXPECT_EQ(ReasonOf(Execute(*exec_, elsewhere).status), "INCARNATION_CHANGED");
  elsewhere.set_expected_incarnation(heard.command().incarnation());
  EXPECT_TRUE(Execute(*exec_, elsewhere).finished());
  attach.set_name("sessions/s/commands/none");
  attach.clear_expected_incarnation();
  EXPECT_EQ(ReasonOf(Attach(*exec_, attach).status), "COMMAND_UNKNOWN");
}

TEST_F(ServerTest, BytesThatAreNoRequestAreRefusedWithTheField) {
  grpc::Status status = SendRaw("/hermes.v1.ExecService/GetCommand", "\x0a\x03sa\xff");
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(MetadataOf(status, "field"), "name");
  // labels { key: "k" value: "\xff" } of CreateSession
  status = SendRaw("/hermes.v1.SessionService/CreateSession", "\x32\x06\x0a\x01k\x12\x01\xff");
  EXPECT_EQ(MetadataOf(status, "field"), "labels.value");
  status = SendRaw("/hermes.v1.ExecService/GetCommand", "\x0a\x7fshort");
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(MetadataOf(status, "field"), "request");
  EXPECT_EQ(SendRaw("/hermes.v1.ExecService/None", "").error_code(), grpc::UNIMPLEMENTED);
}

TEST_F(ServerTest, AnOversizeMessageIsRefusedAndTheConnectionLives) {
  stand_.Session("s");
  v1::ExecuteRequest request = Script("s", "exit 0");
  request.set_stdin_data(std::string(9 << 20, 'x'));
  const grpc::Status refused = Execute(*exec_, request).status;
  EXPECT_EQ(refused.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(refused), "") << "gRPC refuses it, and error.proto says so";
  request.set_stdin_data(std::string(7 << 20, 'x'));
  EXPECT_TRUE(Execute(*exec_, request).finished());
}

TEST_F(ServerTest, SessionsAreListedWatchedUpdatedAndCleanedUp) {
  grpc::ClientContext watch_context;
  auto watch = sessions_->WatchSessions(&watch_context, {});
  v1::SessionEvent event;
  ASSERT_TRUE(watch->Read(&event));
  EXPECT_TRUE(event.bookmark());
  for (const char* id : {"a", "b", "c"}) stand_.Session(id);
  std::set<std::string> seen;
  while (seen.size() < 3 && watch->Read(&event)) {
    if (event.upsert().state() == v1::Session::READY) seen.insert(event.upsert().name());
  }
  EXPECT_EQ(seen.size(), 3u);

  v1::ListSessionsRequest list;
  list.set_page_size(2);
  v1::ListSessionsResponse page;
  grpc::ClientContext first;
  ASSERT_TRUE(sessions_->ListSessions(&first, list, &page).ok());
  EXPECT_EQ(page.sessions_size(), 2);
  list.set_page_token(page.next_page_token());
  grpc::ClientContext second;
  ASSERT_TRUE(sessions_->ListSessions(&second, list, &page).ok());
  ASSERT_EQ(page.sessions_size(), 1);
  EXPECT_EQ(page.sessions(0).name(), "sessions/c");
  EXPECT_EQ(page.next_page_token(), "");

  v1::UpdateSessionRequest update;
  *update.mutable_session() = page.sessions(0);
  (*update.mutable_session()->mutable_labels())["k"] = "v";
  update.mutable_update_mask()->add_paths("labels");
  v1::Session session;
  grpc::ClientContext third;
  ASSERT_TRUE(sessions_->UpdateSession(&third, update, &session).ok());
  EXPECT_EQ(session.labels().at("k"), "v");
  grpc::ClientContext fourth;
  EXPECT_EQ(ReasonOf(sessions_->UpdateSession(&fourth, update, &session)), "ETAG_MISMATCH");

  v1::CleanupRequest cleanup;
  cleanup.set_name("sessions/c");
  for (int round = 0; round < 2; ++round) {
    grpc::ClientContext context;
    auto reader = sessions_->Cleanup(&context, cleanup);
    v1::CleanupEvent last;
    while (reader->Read(&last)) {
    }
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(last.finished().state(), v1::Session::CLOSED);
  }
  EXPECT_EQ(ReasonOf(Execute(*exec_, Script("c", "true")).status), "SESSION_NOT_READY");
  watch_context.TryCancel();
  watch->Finish();
}

TEST_F(ServerTest, AWatchWithAFilterTellsWhatComesAndGoes) {
  v1::CreateSessionRequest create;
  create.set_backend("fake");
  create.set_wait_ready(true);
  const auto make = [&](const std::string& id, const std::string& team) {
    create.set_session_id(id);
    (*create.mutable_labels())["team"] = team;
    grpc::ClientContext context;
    v1::Session session;
    EXPECT_TRUE(sessions_->CreateSession(&context, create, &session).ok());
  };
  make("mine", "a");
  make("other", "b");
  grpc::ClientContext watch_context;
  v1::WatchSessionsRequest watch;
  watch.set_filter("label.team=a AND backend=fake AND state=READY");
  auto reader = sessions_->WatchSessions(&watch_context, watch);
  v1::SessionEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.upsert().name(), "sessions/mine");
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.bookmark()) << event.ShortDebugString();
  make("third", "b");
  v1::UpdateSessionRequest update;
  update.mutable_session()->set_name("sessions/mine");
  (*update.mutable_session()->mutable_labels())["team"] = "b";
  update.mutable_update_mask()->add_paths("labels");
  grpc::ClientContext context;
  v1::Session session;
  ASSERT_TRUE(sessions_->UpdateSession(&context, update, &session).ok());
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.removed(), "sessions/mine") << event.ShortDebugString();
  watch_context.TryCancel();
  reader->Finish();
}

TEST_F(ServerTest, CleanupNamesWhatItKilled) {
  stand_.Session("s");
  v1::Command command;
  grpc::ClientContext start;
  ASSERT_TRUE(exec_->StartCommand(&start, Script("s", "hang"), &command).ok());
  EXPECT_EQ(command.state(), v1::Command::RUNNING);
  grpc::ClientContext context;
  v1::CleanupRequest cleanup;
  cleanup.set_name("sessions/s");
  auto reader = sessions_->Cleanup(&context, cleanup);
  v1::CleanupEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.phase().name(), "killing");
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.killed().name(), command.name());
  EXPECT_TRUE(event.killed().tree().verified());
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.phase().name(), "releasing");
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_finished());
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(ServerTest, WaitGetCancelAndListSpeakOfOneCommand) {
  stand_.Session("s");
  v1::ExecuteRequest request = Script("s", "out x;hang");
  (*request.mutable_labels())["k"] = "v";
  v1::Command command;
  grpc::ClientContext start;
  ASSERT_TRUE(exec_->StartCommand(&start, request, &command).ok());
  v1::WaitCommandRequest wait;
  wait.set_name(command.name());
  wait.mutable_timeout()->set_nanos(1'000'000);
  grpc::ClientContext waiting;
  ASSERT_TRUE(exec_->WaitCommand(&waiting, wait, &command).ok());
  EXPECT_EQ(command.state(), v1::Command::RUNNING);
  EXPECT_FALSE(command.has_exit());

  v1::ListCommandsRequest list;
  list.set_parent("sessions/-");
  list.set_filter("state=RUNNING AND label.k=v");
  v1::ListCommandsResponse listed;
  grpc::ClientContext listing;
  ASSERT_TRUE(exec_->ListCommands(&listing, list, &listed).ok());
  ASSERT_EQ(listed.commands_size(), 1);
  EXPECT_EQ(listed.commands(0).name(), command.name());

  v1::CancelCommandRequest cancel;
  cancel.set_name(command.name());
  grpc::ClientContext cancelling;
  ASSERT_TRUE(exec_->CancelCommand(&cancelling, cancel, &command).ok());
  EXPECT_EQ(command.state(), v1::Command::KILLED);
  EXPECT_EQ(command.exit().shell_code(), 130);
  EXPECT_TRUE(command.exit().tree().verified());
  EXPECT_EQ(Get(command.name()).state(), v1::Command::KILLED);
  wait.mutable_timeout()->set_seconds(60);
  wait.mutable_timeout()->set_nanos(0);
  grpc::ClientContext again;
  EXPECT_TRUE(exec_->WaitCommand(&again, wait, &command).ok());
}

TEST_F(ServerTest, OutputIsReadByRangeEndsAndPattern) {
  stand_.Session("s");
  v1::ReadOutputRequest read;
  read.set_name(Execute(*exec_, Script("s", "out abcdefghij;err oops")).command().name());
  const auto call = [&] {
    grpc::ClientContext context;
    v1::ReadOutputResponse response;
    const grpc::Status status = exec_->ReadOutput(&context, read, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  };
  read.set_offset(2);
  read.set_limit(3);
  v1::ReadOutputResponse response = call();
  ASSERT_EQ(response.parts_size(), 1);
  EXPECT_EQ(response.parts(0).data(), "cde");
  EXPECT_EQ(response.next_offset(), 5u);
  EXPECT_TRUE(response.more());
  EXPECT_TRUE(response.final());
  EXPECT_EQ(response.total_bytes(), 10u);
  read.clear_offset();
  read.clear_limit();
  read.set_head_bytes(2);
  read.set_tail_bytes(3);
  response = call();
  ASSERT_EQ(response.parts_size(), 2);
  EXPECT_EQ(response.parts(0).data(), "ab");
  EXPECT_EQ(response.parts(1).data(), "hij");
  EXPECT_EQ(response.parts(1).offset(), 7u);
  read.set_head_bytes(9);
  response = call();
  EXPECT_EQ(response.parts(0).data() + response.parts(1).data(), "abcdefghij");
  read.clear_head_bytes();
  read.clear_tail_bytes();
  read.set_re2("o+ps");
  EXPECT_EQ(call().parts_size(), 0);
  read.set_channel(v1::STDERR);
  EXPECT_EQ(call().parts(0).data(), "oops");
  read.set_channel(v1::TTY);
  grpc::ClientContext context;
  EXPECT_EQ(MetadataOf(exec_->ReadOutput(&context, read, &response), "field"), "channel");
}

// Of 400,000 bytes the first and the last 64 KiB are kept.
TEST_F(ServerTest, OutputThatWasTrimmedIsReadWithItsGapsInEveryForm) {
  constexpr uint64_t kHead = 64 << 10, kTail = 400'000 - (64 << 10), kEnd = 400'000;
  stand_.Session("s");
  v1::ExecuteRequest request = Script("s", "outn 400000");
  request.set_request_id(kId);
  request.mutable_output()->set_limit_bytes(128 << 10);
  v1::ReadOutputRequest read;
  read.set_name(Execute(*exec_, request).command().name());
  v1::ReadOutputResponse response;
  const auto call = [&] {
    response.Clear();
    grpc::ClientContext context;
    const grpc::Status status = exec_->ReadOutput(&context, read, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.total_bytes(), kEnd);
    for (const v1::Output& part : response.parts()) {
      uint64_t at = part.offset();
      EXPECT_TRUE(at + part.data().size() <= kHead || at >= kTail) << "bytes that are not kept";
      for (char c : part.data()) ASSERT_EQ(c, PatternByte(kId, OutputStream::kStdout, at++));
    }
  };
  const auto expect_gap = [&](uint64_t from) {
    ASSERT_EQ(response.gaps_size(), 1);
    EXPECT_EQ(response.gaps(0).from_offset(), from);
    EXPECT_EQ(response.gaps(0).to_offset(), kTail);
    EXPECT_EQ(response.gaps(0).reason(), "trimmed");
    EXPECT_EQ(response.gaps(0).channel(), v1::STDOUT);
  };
  const auto part = [&](int i) {
    return std::pair(response.parts(i).offset(), response.parts(i).data().size());
  };

  read.set_offset(kHead - 1000);
  read.set_limit(3000);
  call();
  expect_gap(kHead);
  ASSERT_EQ(response.parts_size(), 2);
  EXPECT_EQ(part(0), std::pair(kHead - 1000, size_t{1000}));
  EXPECT_EQ(part(1), std::pair(kTail, size_t{2000}));
  EXPECT_EQ(response.next_offset(), kTail + 2000);
  EXPECT_TRUE(response.more());
  read.set_offset(kHead + 500);  // within it
  call();
  expect_gap(kHead + 500);
  EXPECT_EQ(part(0), std::pair(kTail, size_t{3000}));

  read.clear_offset();
  read.clear_limit();
  read.set_head_bytes(kHead + 100);
  read.set_tail_bytes(kHead - 100);
  call();
  expect_gap(kHead);
  ASSERT_EQ(response.parts_size(), 3);
  EXPECT_EQ(part(1), std::pair(kTail, size_t{100}));
  EXPECT_EQ(part(2), std::pair(kTail + 100, size_t{kHead - 100}));
  read.set_head_bytes(0);
  read.set_tail_bytes(kHead + 100);  // more than is left behind the gap
  call();
  expect_gap(kHead);
  EXPECT_EQ(part(0), std::pair(kHead - 100, size_t{100}));

  read.clear_tail_bytes();
  read.set_re2("(?s).");
  call();
  expect_gap(kHead);
  EXPECT_LT(response.parts(0).offset(), kHead);
  EXPECT_GE(response.parts(response.parts_size() - 1).offset(), kTail);
}

TEST_F(ServerTest, InfoAndCapabilitiesAreTold) {
  grpc::ClientContext context;
  v1::InfoResponse info;
  ASSERT_TRUE(admin_->Info(&context, {}, &info).ok());
  EXPECT_EQ(info.version(), "test");
  EXPECT_EQ(info.pid(), getpid());
  EXPECT_GT(info.stats().rss_bytes(), 0u);
  EXPECT_EQ(info.limits().max_script_bytes(), 4u << 20);
}

TEST_F(ServerTest, InfoTellsWhatConfinesTheParser) {
  const auto told = [this] {
    grpc::ClientContext context;
    v1::InfoResponse info;
    EXPECT_TRUE(admin_->Info(&context, {}, &info).ok());
    return info.unpack_confinement();
  };
  EXPECT_EQ(told(), "");
  stand_.OnLoop([this] { stand_.stats().unpack_confinement = "landlock 3, seccomp"; });
  EXPECT_EQ(told(), "landlock 3, seccomp");
}

TEST_F(ServerTest, NoReactionTakesLong) {
  stand_.Session("s");
  std::chrono::nanoseconds best = 1h;
  // Blocking would show in every round; being preempted does not.
  for (int round = 0; round < 10 && best > 5ms; ++round) {
    stand_.server().TakeMaxReaction();
    v1::ExecuteRequest request = Script("s", "outn 300000");
    request.set_stdin_data(std::string(7 << 20, 'x'));
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(Execute(*exec_, request).finished());
    best = std::min(best, stand_.server().TakeMaxReaction());
  }
  EXPECT_GT(best, 0ns);
  EXPECT_LE(best, 5ms);
}

TEST_F(ServerTest, APageOfSessionsEndsBeforeItIsTooLargeToTake) {
  constexpr int kSessions = 70;
  for (int i = 0; i < kSessions; ++i) {
    CreateSession large;
    large.id = "large-" + std::to_string(i);
    large.backend = "fake";
    large.labels["of"] = std::string(60 << 10, 'x');  // as large as mounts may make it
    stand_.Create(std::move(large));
  }
  v1::ListSessionsRequest list;
  list.set_page_size(1000);
  int seen = 0;
  int pages = 0;
  do {
    v1::ListSessionsResponse page;
    grpc::ClientContext context;
    const grpc::Status status = sessions_->ListSessions(&context, list, &page);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_LT(page.ByteSizeLong(), size_t{4} << 20);
    seen += page.sessions_size();
    list.set_page_token(page.next_page_token());
    ++pages;
  } while (!list.page_token().empty());
  EXPECT_EQ(seen, kSessions);
  EXPECT_GT(pages, 1);
}

TEST_F(ServerTest, APageOfCommandsEndsBeforeItIsTooLargeToTake) {
  stand_.Session("s");
  constexpr int kCommands = 240;
  v1::ExecuteRequest request = Script("s", "exit 0");
  for (int i = 0; i < 64; ++i)
    (*request.mutable_labels())["label-" + std::to_string(i)] = std::string(256, 'x');
  for (int i = 0; i < kCommands; ++i) {
    const Heard heard = Execute(*exec_, request);
    ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  }
  v1::ListCommandsRequest list;
  list.set_parent("sessions/s");
  list.set_page_size(1000);
  std::set<std::string> seen;
  int pages = 0;
  do {
    v1::ListCommandsResponse page;
    grpc::ClientContext context;
    const grpc::Status status = exec_->ListCommands(&context, list, &page);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_LT(page.ByteSizeLong(), size_t{4} << 20);
    for (const v1::Command& command : page.commands())
      EXPECT_TRUE(seen.insert(command.name()).second) << "twice";
    list.set_page_token(page.next_page_token());
    ASSERT_LT(++pages, kCommands);
  } while (!list.page_token().empty());
  EXPECT_EQ(seen.size(), size_t{kCommands});
  EXPECT_GT(pages, 1);
}

}  // namespace
}  // namespace hermes
