// Who may call, over a real socket: callers of another account are made by a thread that changes
// its own uid before it connects, which is what the kernel reports.

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <future>
#include <string>
#include <thread>
#include <vector>

#include "tests/rpc/stand.h"

namespace hermes {
namespace {

constexpr uint32_t kOther = 65534;

// The raw call changes this thread only; the libc one would change the process.
Fd ConnectAs(uint32_t uid, const std::string& path) {
  Fd fd;
  std::thread([&] {
    ASSERT_EQ(syscall(SYS_setresuid, uid, uid, uid), 0);
    fd = ConnectUnix(path);
  }).join();
  if (fd.valid()) fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  return fd;
}

grpc::Status InfoAs(std::shared_ptr<grpc::Channel> channel) {
  grpc::ClientContext context;
  v1::InfoResponse info;
  return v1::AdminService::NewStub(channel)->Info(&context, {}, &info);
}

grpc::Status CreateAs(std::shared_ptr<grpc::Channel> channel) {
  grpc::ClientContext context;
  v1::CreateSessionRequest request;
  request.set_backend("fake");
  v1::Session session;
  return v1::SessionService::NewStub(channel)->CreateSession(&context, request, &session);
}

TEST(AccessTest, TheSocketItselfIsTheOwnersByDefault) {
  if (getuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  Stand stand;
  EXPECT_FALSE(ConnectAs(kOther, stand.socket()).valid());
  EXPECT_TRUE(InfoAs(stand.Connect()).ok());
}

TEST(AccessTest, AnUnlistedAccountIsToldThatItHasNoRights) {
  if (getuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  Stand stand({.own_uid = 0, .full = {}, .operate = {12345}});
  Fd fd = ConnectAs(kOther, stand.socket());
  ASSERT_TRUE(fd.valid());
  auto channel = grpc::CreateInsecureChannelFromFd("local", fd.release());
  const grpc::Status status = InfoAs(channel);
  EXPECT_EQ(status.error_code(), grpc::PERMISSION_DENIED);
  EXPECT_EQ(ReasonOf(status), "NOT_OWNER");
  EXPECT_EQ(MetadataOf(status, "uid"), std::to_string(kOther));
  EXPECT_EQ(ReasonOf(CreateAs(channel)), "NOT_OWNER");
}

TEST(AccessTest, AnOperatorMayLookButNotCreateOrDiscard) {
  if (getuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  Stand stand({.own_uid = 0, .full = {}, .operate = {kOther}});
  stand.Session("s");
  Fd fd = ConnectAs(kOther, stand.socket());
  ASSERT_TRUE(fd.valid());
  auto channel = grpc::CreateInsecureChannelFromFd("local", fd.release());
  EXPECT_TRUE(InfoAs(channel).ok());
  EXPECT_EQ(ReasonOf(CreateAs(channel)), "ROLE_REQUIRED");
  auto exec = v1::ExecService::NewStub(channel);
  EXPECT_EQ(ReasonOf(Execute(*exec, Script("s", "out x")).status), "ROLE_REQUIRED");
  v1::CleanupRequest cleanup;
  cleanup.set_name("sessions/s");
  cleanup.set_discard(true);
  for (const bool discard : {true, false}) {
    cleanup.set_discard(discard);
    grpc::ClientContext context;
    auto reader = v1::SessionService::NewStub(channel)->Cleanup(&context, cleanup);
    v1::CleanupEvent event;
    while (reader->Read(&event)) {
    }
    EXPECT_EQ(ReasonOf(reader->Finish()), discard ? "ROLE_REQUIRED" : "");
  }
}

TEST(AccessTest, ConnectionsPerAccountAreCappedAndClosedOnesForgotten) {
  Stand stand({.own_uid = getuid(), .full = {}, .operate = {}});
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (size_t i = 0; i < kMaxConnectionsPerUid; ++i) {
    channels.push_back(stand.Connect());
    ASSERT_TRUE(InfoAs(channels.back()).ok()) << i;
  }
  EXPECT_EQ(stand.server().Connections(), kMaxConnectionsPerUid);
  EXPECT_EQ(InfoAs(stand.Connect()).error_code(), grpc::UNAVAILABLE);
  channels.clear();
  EXPECT_TRUE(Eventually([&] { return stand.server().Connections() == 0; }));
  EXPECT_TRUE(InfoAs(stand.Connect()).ok());
}

TEST(AccessTest, AnIdentityLivesAsLongAsItsCalls) {
  Stand stand({.own_uid = getuid(), .full = {}, .operate = {}});
  stand.Session("s");
  Eventually([&] { return stand.server().Connections() == 0; });
  {
    auto exec = v1::ExecService::NewStub(stand.Connect());
    grpc::ClientContext context;
    v1::ExecuteRequest request = Script("s", "hang");
    request.set_on_disconnect(v1::DETACH);
    auto reader = exec->Execute(&context, request);
    v1::CommandEvent event;
    ASSERT_TRUE(reader->Read(&event));
    EXPECT_EQ(stand.server().Connections(), 1u);
    context.TryCancel();
    reader->Finish();
  }
  EXPECT_TRUE(Eventually([&] { return stand.server().Connections() == 0; }));
}

// A number is free again when its descriptor is closed: that waits for a call that is not over,
// however long its client has been gone.
TEST(AccessTest, AConnectionKeepsItsNumberWhileACallIsOpen) {
  Stand stand({.own_uid = getuid(), .full = {}, .operate = {}});
  stand.Session("s");
  Eventually([&] { return stand.server().Connections() == 0; });
  const auto connect = [&stand](Fd* same) {
    Fd fd = ConnectUnix(stand.socket());
    fcntl(fd.get(), F_SETFL, O_NONBLOCK);
    same->reset(dup(fd.get()));
    return grpc::CreateInsecureChannelFromFd("local", fd.release());
  };
  Fd one, other;
  const auto busy = connect(&one), idle = connect(&other);
  EXPECT_TRUE(InfoAs(idle).ok());
  grpc::ClientContext context;
  v1::ExecuteRequest request = Script("s", "hang");
  request.set_on_disconnect(v1::DETACH);
  auto reader = v1::ExecService::NewStub(busy)->Execute(&context, request);
  v1::CommandEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(stand.server().Connections(), 2u);

  std::promise<void> held, go;  // the loop: until then no call gets to its end
  std::thread holder([&] {
    stand.OnLoop([&] {
      held.set_value();
      go.get_future().wait();
    });
  });
  held.get_future().wait();
  shutdown(one.get(), SHUT_RDWR);
  EXPECT_EQ(reader->Finish().error_code(), grpc::UNAVAILABLE);
  shutdown(other.get(), SHUT_RDWR);
  EXPECT_TRUE(Eventually([&] { return stand.server().Connections() < 2; }));
  EXPECT_EQ(stand.server().Connections(), 1u);
  go.set_value();
  holder.join();
  EXPECT_TRUE(Eventually([&] { return stand.server().Connections() == 0; }));
}

// The standard services, as a stock client calls them; their messages are written by hand because
// no generated ones are packaged.
class RawCall {
 public:
  RawCall(std::shared_ptr<grpc::Channel> channel, const std::string& method,
          const std::string& bytes)
      : stub_(std::move(channel)), call_(stub_.PrepareCall(&context_, method, &queue_)) {
    const grpc::Slice slice(bytes);
    call_->StartCall(this);
    Await();
    call_->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), this);
    Await();
  }

  // The next answer; empty: there is none.
  std::string Read() {
    grpc::ByteBuffer response;
    call_->Read(&response, this);
    Await();
    std::vector<grpc::Slice> slices;
    std::string answer;
    if (response.Valid() && response.Dump(&slices).ok()) {
      for (const grpc::Slice& part : slices) {
        answer.append(reinterpret_cast<const char*>(part.begin()), part.size());
      }
    }
    return answer;
  }

  grpc::Status Finish() {
    grpc::Status status;
    call_->Finish(&status, this);
    Await();
    return status;
  }

 private:
  void Await() {
    void* tag = nullptr;
    bool ok = false;
    queue_.Next(&tag, &ok);
  }
  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

std::string CallRaw(std::shared_ptr<grpc::Channel> channel, const std::string& method,
                    const std::string& bytes, grpc::Status* status) {
  RawCall call(std::move(channel), method, bytes);
  std::string answer = call.Read();
  *status = call.Finish();
  return answer;
}

TEST(StandardServicesTest, AHealthWatchHearsNotServingAndHoldsNoDrain) {
  Stand stand({.own_uid = getuid(), .full = {}, .operate = {}},
              [](RpcOptions& options) { options.call_limit = std::chrono::hours(1); });
  stand.Session("s");
  RawCall watch(stand.Connect(), "/grpc.health.v1.Health/Watch", "");
  EXPECT_EQ(watch.Read(), std::string("\x08\x01", 2));
  stand.Drain();
  EXPECT_EQ(watch.Read(), std::string("\x08\x02", 2));
  stand.Drained();
  EXPECT_EQ(watch.Read(), "");
  EXPECT_FALSE(watch.Finish().ok());
}

TEST(StandardServicesTest, HealthIsToldPerService) {
  Stand stand({.own_uid = getuid(), .full = {}, .operate = {}});
  const auto channel = stand.Connect();
  const std::string serving("\x08\x01", 2);
  for (const std::string& name : {std::string(), std::string("hermes.v1.ExecService"),
                                  std::string("hermes.v1.SessionService")}) {
    const std::string request =
        name.empty() ? "" : std::string("\x0a") + static_cast<char>(name.size()) + name;
    grpc::Status status;
    EXPECT_EQ(CallRaw(channel, "/grpc.health.v1.Health/Check", request, &status), serving) << name;
    EXPECT_TRUE(status.ok());
  }
  grpc::Status status;
  CallRaw(channel, "/grpc.health.v1.Health/Check", std::string("\x0a\x01x"), &status);
  EXPECT_EQ(status.error_code(), grpc::NOT_FOUND);
}

TEST(StandardServicesTest, ReflectionListsOurServices) {
  Stand stand({.own_uid = getuid(), .full = {}, .operate = {}});
  grpc::Status status;
  const std::string answer =
      CallRaw(stand.Connect(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              std::string("\x3a\x01*"), &status);
  for (const char* name :
       {"hermes.v1.SessionService", "hermes.v1.ExecService", "hermes.v1.AdminService"}) {
    EXPECT_NE(answer.find(name), std::string::npos) << name;
  }
}

TEST(ReachTest, ASocketThatIsTakenAwayIsMadeAgain) {
  Stand stand({.own_uid = getuid(), .full = {}, .operate = {}});
  const auto before = stand.Connect();
  const std::string request;
  grpc::Status status;
  CallRaw(before, "/grpc.health.v1.Health/Check", request, &status);
  ASSERT_TRUE(status.ok());
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(unlink(stand.socket().c_str()), 0);
    ASSERT_TRUE(Eventually([&] { return ConnectUnix(stand.socket()).valid(); }));
    CallRaw(stand.Connect(), "/grpc.health.v1.Health/Check", request, &status);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  CallRaw(before, "/grpc.health.v1.Health/Check", request, &status);
  EXPECT_TRUE(status.ok()) << "an old connection was cut";
}

TEST(ReachTest, WhatLiesInTheSocketsPlaceIsLeftAlone) {
  Stand stand({.own_uid = getuid(), .full = {}, .operate = {}});
  const std::string other = stand.socket() + ".other";
  close(open(other.c_str(), O_CREAT | O_WRONLY, 0600));
  ASSERT_EQ(rename(other.c_str(), stand.socket().c_str()), 0);
  ASSERT_EQ(unlink(stand.socket().c_str()), 0);
  EXPECT_TRUE(Eventually([&] { return ConnectUnix(stand.socket()).valid(); }));
  close(open(other.c_str(), O_CREAT | O_WRONLY, 0600));
  ASSERT_EQ(rename(other.c_str(), stand.socket().c_str()), 0);
  stand.Drain();
  stand.Drained();
  struct stat info = {};
  ASSERT_EQ(lstat(stand.socket().c_str(), &info), 0) << "a stranger's file was removed";
  EXPECT_TRUE(S_ISREG(info.st_mode));
}

}  // namespace
}  // namespace hermes
