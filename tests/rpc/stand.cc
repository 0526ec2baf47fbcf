#include "tests/rpc/stand.h"

#include <google/protobuf/any.pb.h>
#include <gtest/gtest.h>

#include <chrono>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

#include "tests/fakes/no_tree.h"

namespace hermes {
namespace {

constexpr size_t kFloodChunk = 64 << 10;

class FloodChannel : public Channel {
 public:
  FloodChannel(Loop& loop, Gate& gate, uint64_t bytes) : loop_(loop), gate_(gate), left_(bytes) {}

  Task<absl::StatusOr<ChannelEvent>> Read() override {
    co_await asio::post(loop_.executor(), asio::use_awaitable);  // others have their turn
    while (gate_.shut && !started_ && !abandoned_) co_await gate_.changed.Wait();
    if (abandoned_) co_return absl::CancelledError("abandoned");
    if (!std::exchange(started_, true)) co_return StartedEvent{.pid = 1};
    if (left_ > 0) {
      const uint64_t size = std::min<uint64_t>(left_, kFloodChunk);
      DataEvent data{OutputStream::kStdout, at_, std::string(size, 'x')};
      at_ += size;
      left_ -= size;
      co_return data;
    }
    if (std::exchange(ended_, true)) co_return DrainedEvent{};
    co_return EndedEvent{Outcome{.state = CommandState::kExited, .cause = Cause::kNatural}};
  }
  void Abandon() override {
    abandoned_ = true;
    gate_.changed.NotifyAll();
  }
  Task<absl::Status> WriteStdin(uint64_t, std::string, bool) override {
    co_return absl::OkStatus();
  }
  uint64_t stdin_accepted() const override { return 0; }
  Task<void> StdinTaken() override { co_return; }
  absl::Status Signal(int, int) override { return absl::OkStatus(); }
  absl::Status Resize(uint16_t, uint16_t) override { return absl::OkStatus(); }
  Task<absl::StatusOr<TreeReport>> Kill(Duration, Cause) override {
    left_ = 0;
    co_return TreeReport{.verified = true};
  }
  void Ack(uint64_t, uint64_t) override {}
  void Forget() override {}

 private:
  Loop& loop_;
  Gate& gate_;
  uint64_t left_;
  uint64_t at_ = 0;
  bool started_ = false;
  bool ended_ = false;
  bool abandoned_ = false;
};

class FloodEngine : public Engine {
 public:
  FloodEngine(Loop& loop, Gate& gate) : loop_(loop), gate_(gate) {}
  const Capabilities& capabilities() const override { return capabilities_; }
  Task<absl::StatusOr<SessionFacts>> Open(SessionSpec) override {
    co_return SessionFacts{.cwd = "/", .incarnation = "flood", .engine = "flood"};
  }
  Task<absl::StatusOr<std::unique_ptr<Channel>>> Start(CommandSpec spec) override {
    co_return std::make_unique<FloodChannel>(loop_, gate_, std::stoull(spec.script.substr(6)));
  }
  Task<absl::StatusOr<std::unique_ptr<Channel>>> Adopt(std::string, uint64_t, uint64_t) override {
    co_return Error(Reason::k_COMMAND_UNKNOWN, "floods are forgotten");
  }
  std::unique_ptr<sync::RemoteTree> NewRemoteTree() override { return std::make_unique<NoTree>(); }
  void SetSudoPassword(std::string) override {}
  Task<absl::StatusOr<TreeReport>> Close(Duration) override {
    co_return TreeReport{.verified = true};
  }

 private:
  Loop& loop_;
  Gate& gate_;
  Capabilities capabilities_;
};

template <typename Reader>
Heard ReadAll(Reader& reader) {
  Heard heard;
  v1::CommandEvent event;
  while (reader.Read(&event)) Hear(std::move(event), &heard);
  heard.status = reader.Finish();
  return heard;
}

v1::ErrorInfo InfoIn(const grpc::Status& status) {
  v1::ErrorStatus details;
  v1::ErrorInfo info;
  if (!details.ParseFromString(status.error_details()) || details.details_size() == 0) return info;
  info.ParseFromString(details.details(0).value());
  return info;
}

}  // namespace

Task<absl::StatusOr<OpenPlace>> FloodFactory::Open(Request request) {
  const bool flood = request.session_id.starts_with("flood");
  while (gate_.shut && request.session_id.starts_with("held")) co_await gate_.changed.Wait();
  absl::StatusOr<OpenPlace> place = co_await FakeEngineFactory::Open(std::move(request));
  if (place.ok() && flood) place->engine = std::make_unique<FloodEngine>(loop_, gate_);
  co_return place;
}

Stand::Stand(AccessRules access, std::function<void(RpcOptions&)> change)
    : access_(std::move(access)), change_(std::move(change)) {
  thread_ = std::thread([this] {
    asio::executor_work_guard<asio::io_context::executor_type> work =
        asio::make_work_guard(loop_.context());
    loop_.Run();
  });
  OnLoop([this] { Build({}); });
}

SessionStore::Contents Stand::Load() {
  std::promise<SessionStore::Contents> loaded;
  OnLoop([&] {
    asio::co_spawn(loop_.executor(), store_.Load(clock_.NowWall()),
                   [&](std::exception_ptr, auto contents) { loaded.set_value(*contents); });
  });
  return loaded.get_future().get();
}

void Stand::Restart() {
  Drain();
  Drained();
  const SessionStore::Contents contents = Load();
  OnLoop([&] {
    server_.reset();
    table_.reset();
    drain_over_ = {};
    drained_ = drain_over_.get_future().share();
    draining_ = false;
    Build(contents);
  });
}

void Stand::Build(SessionStore::Contents contents) {
  table_ = std::make_unique<SessionTable>(
      SessionTable::Deps{loop_, clock_, random_, workers_, store_, stats_, engines_,
                         scratch_.path(""), TableLimits{}, sync_.deps});
  table_->Load(std::move(contents));
  RpcOptions options;
  options.socket_path = socket();
  options.access = access_;
  options.info.version = "test";
  options.on_drain = [this] { asio::co_spawn(loop_.executor(), End(), asio::detached); };
  if (change_) change_(options);
  auto server = RpcServer::Start({loop_, clock_, random_, workers_, *table_, store_, engines_},
                                 std::move(options));
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
}

Stand::~Stand() {
  SetGate(false);
  Drain();
  Drained();
  OnLoop([this] {
    server_.reset();
    table_.reset();
  });
  loop_.Stop();
  thread_.join();
}

Task<void> Stand::End() {
  if (std::exchange(draining_, true)) co_return;
  co_await server_->Drain();
  co_await table_->Drain();
  co_await table_->Join();
  co_await server_->Join();
  drain_over_.set_value();
}

void Stand::Drain() {
  OnLoop([this] { asio::co_spawn(loop_.executor(), End(), asio::detached); });
}

void Stand::OnLoop(std::function<void()> work) {
  std::promise<void> done;
  loop_.Post([&] {
    work();
    done.set_value();
  });
  done.get_future().wait();
}

std::shared_ptr<grpc::Channel> Stand::Connect() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel("unix:" + socket(), grpc::InsecureChannelCredentials(),
                                   arguments);
}

void Stand::Session(const std::string& id, bool wait_ready) {
  auto stub = v1::SessionService::NewStub(Connect());
  grpc::ClientContext context;
  v1::CreateSessionRequest request;
  request.set_session_id(id);
  request.set_backend("fake");
  request.set_wait_ready(wait_ready);
  v1::Session session;
  const grpc::Status status = stub->CreateSession(&context, request, &session);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(session.state(), wait_ready ? v1::Session::READY : v1::Session::OPENING);
}

void Stand::Create(CreateSession request) {
  std::promise<absl::Status> made;
  OnLoop([&] {
    asio::co_spawn(loop_.executor(), table_->Create(std::move(request)),
                   [&](std::exception_ptr, auto session) { made.set_value(session.status()); });
  });
  const absl::Status status = made.get_future().get();
  ASSERT_TRUE(status.ok()) << status;
}

std::string ReasonOf(const grpc::Status& status) { return InfoIn(status).reason(); }

std::string MetadataOf(const grpc::Status& status, const std::string& key) {
  const v1::ErrorInfo info = InfoIn(status);
  const auto found = info.metadata().find(key);
  return found == info.metadata().end() ? "" : found->second;
}

v1::ExecuteRequest Script(const std::string& session, const std::string& script) {
  v1::ExecuteRequest request;
  request.set_session("sessions/" + session);
  request.set_shell(script);
  return request;
}

void Hear(v1::CommandEvent event, Heard* heard) {
  if (event.has_output()) {
    std::string& to = event.output().channel() == v1::STDERR ? heard->err : heard->out;
    to += event.output().data();
    event.mutable_output()->clear_data();
  }
  heard->events.push_back(std::move(event));
}

Heard Execute(v1::ExecService::StubInterface& stub, const v1::ExecuteRequest& request) {
  grpc::ClientContext context;
  return ReadAll(*stub.Execute(&context, request));
}

Heard Attach(v1::ExecService::StubInterface& stub, const v1::AttachRequest& request) {
  grpc::ClientContext context;
  return ReadAll(*stub.Attach(&context, request));
}

}  // namespace hermes
