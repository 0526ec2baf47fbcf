// What those who follow a command are told before it has started, on a fake clock: the call is a
// list.

#include "daemon/rpc/exec_service.h"

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>

#include "hermes/v1/exec.pb.h"
#include "tests/fakes/fake_daemon.h"
#include "tests/fakes/temp_dir.h"

namespace hermes {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class OneMessage : public Incoming {
 public:
  explicit OneMessage(std::string bytes) : bytes_(std::move(bytes)) {}
  size_t size() const override { return bytes_.size(); }
  bool ParseInto(google::protobuf::MessageLite* message) const override {
    return message->ParseFromString(bytes_);
  }
  std::string Bytes() const override { return bytes_; }

 private:
  const std::string bytes_;
};

class ListCall : public Call {
 public:
  ListCall(Clock& clock, Method method, const google::protobuf::Message& request)
      : Call(method, Caller{.role = Role::kFull}),
        clock_(clock),
        request_(std::make_unique<OneMessage>(request.SerializeAsString())),
        begun_(clock.Now()) {}

  Task<std::unique_ptr<Incoming>> Read() override { co_return std::move(request_); }
  Task<bool> Write(const google::protobuf::Message& message) override {
    const auto& event = dynamic_cast<const v1::CommandEvent&>(message);
    told.push_back(event.has_phase() ? event.phase().name() : event.has_beat() ? "beat" : "event");
    at.push_back(std::chrono::duration_cast<milliseconds>(clock_.Now() - begun_));
    co_return true;
  }
  Task<bool> WriteParts(std::string, std::string) override { co_return true; }
  void SetLast(const google::protobuf::Message&) override {}

  std::vector<std::string> told;
  std::vector<milliseconds> at;  // since the call began

 private:
  Clock& clock_;
  std::unique_ptr<Incoming> request_;
  const SteadyTime begun_;
};

class ExecServiceTest : public testing::Test {
 protected:
  ExecServiceTest() {
    host_.spool_dir = dir_.path();
    Begin();
  }
  ~ExecServiceTest() override { FakeDaemon::Crash(std::move(daemon_)); }

  // As the loop they belong to, a context and its service are never destroyed.
  void Begin() {
    daemon_ = std::make_unique<FakeDaemon>(host_);
    const RpcDeps deps{daemon_->loop,  daemon_->clock, daemon_->random, daemon_->workers,
                       daemon_->table, daemon_->store, daemon_->engines};
    auto* context = new RpcContext(deps, ServerInfo{});
    handlers_ = std::make_unique<Handlers>(daemon_->workers);
    (new ExecService(*context))->Register(*handlers_);
  }

  std::shared_ptr<ListCall> Call(Method method, const google::protobuf::Message& request) {
    auto call = std::make_shared<ListCall>(daemon_->clock, method, request);
    asio::co_spawn(daemon_->loop.executor(), (*handlers_)[method].handle(call), asio::detached);
    daemon_->loop.RunReady();
    return call;
  }

  TempDir dir_;
  FakeHost host_;
  std::unique_ptr<FakeDaemon> daemon_;
  std::unique_ptr<Handlers> handlers_;
};

const std::vector<milliseconds> kTimes = {milliseconds(500), milliseconds(15'500),
                                          milliseconds(30'500), milliseconds(45'500)};

TEST_F(ExecServiceTest, BeatsProveThatAStreamLivesWhileThePlaceIsBeingReached) {
  host_.place.silent = true;
  CreateSession create;
  create.id = "s";
  create.backend = "fake";
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(create)).ok());
  v1::ExecuteRequest request;
  request.set_session("sessions/s");
  request.set_shell("out x");
  const auto call = Call(Method::kExecute, request);
  daemon_->Pass(seconds(50));
  EXPECT_EQ(call->told, (std::vector<std::string>{"connecting", "beat", "beat", "beat"}));
  EXPECT_EQ(call->at, kTimes);
}

TEST_F(ExecServiceTest, BeatsProveThatAStreamLivesWhileThePlaceIsAwayAfterARestart) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto run = daemon_->Start("s", "sleep 100000", "id-1")->run;
  v1::AttachRequest request;
  request.set_name("sessions/s/commands/" + run->info().id);
  FakeDaemon::Crash(std::move(daemon_));
  host_.place.reachable = false;
  Begin();
  const auto call = Call(Method::kAttach, request);
  daemon_->Pass(seconds(50));
  EXPECT_EQ(call->told, (std::vector<std::string>{"reconnecting", "beat", "beat", "beat"}));
  EXPECT_EQ(call->at, kTimes);
  host_.place.reachable = true;
  daemon_->Pass(seconds(35));
  ASSERT_GT(call->told.size(), 5u);
  EXPECT_EQ(call->told[5], "event") << "it has not started";
}

}  // namespace
}  // namespace hermes
