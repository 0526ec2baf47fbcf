#include "daemon/rpc/server.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/codegen/server_callback_handlers.h>
#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/server_posix.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/rpc/admin_service.h"
#include "daemon/rpc/exec_service.h"
#include "daemon/rpc/grpc_call.h"
#include "daemon/rpc/listener.h"
#include "daemon/rpc/session_service.h"
#include "daemon/rpc/sync_service.h"
#include "daemon/rpc/watchdog.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/pending.h"

namespace hermes {
namespace {

constexpr int kMaxReceiveBytes = 8 << 20;  // beyond: RESOURCE_EXHAUSTED from gRPC itself
constexpr int kMaxMetadataBytes = 64 << 10;
constexpr int kMaxStreams = 4000;        // calls at a time per connection; more wait their turn
constexpr int kMinPingMs = 10'000;       // clients that ping more often are sent away
constexpr int kWindowBytes = 512 << 10;  // what a client may send ahead of its reader, per call
constexpr mode_t kOwnerOnly = 0600;
constexpr mode_t kEverybody = 0666;  // identity is checked per connection

int Ms(Duration duration) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

grpc::ServerBuilder& Configure(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingMs);
  // Without the probe windows stay as they are: memory per call has a bound that does not grow.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindowBytes);
  // Only reflection is served by threads that wait; one is plenty.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
  return builder;
}

void InitPlugins() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Never given back: the last user of gRPC waits for its threads, one of which may sit in a poll
    // of ten seconds after a large message.
    grpc_init();
    // Libraries must not write to our log past the one emitter. Both can be made to talk by
    // callers.
    google::protobuf::SetLogHandler(
        [](google::protobuf::LogLevel, const char*, int, const std::string& message) {
          LogDebug("protobuf: " + message);
        });
    gpr_set_log_function(
        [](gpr_log_func_args* log) { LogDebug(std::string("gRPC: ") + log->message); });
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

// One of our services, all of whose methods go to `accept`.
class RawService : public grpc::Service {
 public:
  using Accept = std::function<grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*(
      grpc::CallbackServerContext*, Method)>;

  RawService(std::string_view service, Accept accept) {
    int index = 0;
    for (const MethodInfo& info : AllMethods()) {
      if (info.service != service) continue;
      names_.insert("/" + std::string(info.service) + "/" + std::string(info.name));
      AddMethod(new grpc::internal::RpcServiceMethod(
          NameOf(info), grpc::internal::RpcMethod::BIDI_STREAMING, nullptr));
      MarkMethodRawCallback(
          index++, new grpc::internal::CallbackBidiHandler<grpc::ByteBuffer, grpc::ByteBuffer>(
                       [accept, method = info.method](grpc::CallbackServerContext* context) {
                         return accept(context, method);
                       }));
    }
  }

 private:
  // gRPC keeps the pointer.
  const char* NameOf(const MethodInfo& info) {
    return names_.find("/" + std::string(info.service) + "/" + std::string(info.name))->c_str();
  }
  std::set<std::string> names_;
};

}  // namespace

class RpcServer::Impl : public CallHost {
 public:
  Impl(RpcDeps deps, RpcOptions options)
      : context_(deps, std::move(options.info)),
        peers_(options.access, options.peers),
        handlers_(deps.workers),
        sessions_(context_),
        exec_(context_, options.disconnect_grace),
        syncs_(context_),
        admin_(context_, std::move(options.on_drain)),
        keepalive_(options.keepalive),
        keepalive_timeout_(options.keepalive_timeout),
        call_limit_(options.call_limit),
        on_stuck_(std::move(options.on_stuck)),
        env_{deps.loop, *this, reactions_} {
    sessions_.Register(handlers_);
    exec_.Register(handlers_);
    syncs_.Register(handlers_);
    admin_.Register(handlers_);
  }

  absl::Status Start(const std::string& path, std::optional<Fd> activation, bool others) {
    if (!activation) {
      ASSIGN_OR_RETURN(activation, ListenUnix(path, others ? kEverybody : kOwnerOnly));
    }
    BuildServer();
    if (server_ == nullptr) return absl::InternalError("the gRPC server does not start");
    exec_.TakeUp();
    listener_ = std::make_unique<Listener>(context_.loop, context_.clock, *std::move(activation),
                                           path, [this](Fd fd) { Take(std::move(fd)); });
    listener_->Start();
    return absl::OkStatus();
  }

  void Begin(std::shared_ptr<GrpcCall> call) override {
    const MethodHandler& handler = handlers_[call->method()];
    CHECK(handler.handle != nullptr);
    if (handler.unary) call->set_unary();
    calls_.insert(call.get());
    context_.tasks.Spawn(std::string(InfoOf(call->method()).name), Serve(&handler, call));
    if (draining_) call->Drain();
  }

  void End(GrpcCall* call) override {
    calls_.erase(call);
    Leave();
  }

  Task<void> Drain() {
    while (draining_ && !drained_) co_await drain_changed_.Wait();
    if (drained_) co_return;
    draining_ = true;
    refusing_.store(true);
    watchdog_ = std::make_unique<Watchdog>(kDrainLimit, on_stuck_);
    listener_->Stop();
    co_await listener_->Join();
    exec_.Drain();
    server_->GetHealthCheckService()->SetServingStatus(false);
    const std::vector<GrpcCall*> calls(calls_.begin(), calls_.end());
    for (GrpcCall* call : calls) call->Drain();
    co_await AllLeft();
    co_await ShutDown();
    drained_ = true;
    drain_changed_.NotifyAll();
  }

  Task<void> Join() { return context_.tasks.Join(); }

  ReactionClock& reactions() { return reactions_; }
  Peers& peers() { return peers_; }
  size_t open_calls() const { return calls_.size(); }

 private:
  void BuildServer() {
    InitPlugins();
    grpc::ServerBuilder builder;
    std::set<std::string_view> names;
    for (const MethodInfo& info : AllMethods()) names.insert(info.service);
    for (std::string_view name : names) {
      services_.push_back(std::make_unique<RawService>(
          name, [this](grpc::CallbackServerContext* context, Method method) {
            return Accept(context, method);
          }));
      builder.RegisterService(services_.back().get());
    }
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Ms(keepalive_));
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Ms(keepalive_timeout_));
    server_ = Configure(builder).BuildAndStart();
    if (server_ == nullptr) return;
    grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
    health->SetServingStatus(true);
    for (std::string_view name : names) health->SetServingStatus(std::string(name), true);
  }

  // In gRPC's thread.
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Accept(
      grpc::CallbackServerContext* context, Method method) {
    ReactionClock::Scope scope(reactions_);
    const std::optional<Caller> caller = peers_.Find(context->peer());
    if (!caller) {
      return new RefusedCall(Error(Reason::k_NO_CREDENTIAL, "this connection has no identity"));
    }
    const absl::Status allowed = CheckRights(*caller, method);
    if (!allowed.ok()) return new RefusedCall(allowed);
    accepted_.fetch_add(1);  // before the look at refusing_: a drain then sees it or is seen
    if (!refusing_.load()) return GrpcCall::Accept(env_, method, *caller);
    context_.loop.Post([this] { Leave(); });
    return new RefusedCall(Error(Reason::k_DRAINING, "the daemon is shutting down"));
  }

  // A call that was accepted is over.
  void Leave() {
    if (accepted_.fetch_sub(1) == 1) drain_changed_.NotifyAll();
  }

  Task<void> AllLeft() {
    const SteadyTime until = context_.clock.Now() + call_limit_;
    auto alarm = context_.clock.At(until, [this] { drain_changed_.NotifyAll(); });
    while (accepted_.load() != 0 && context_.clock.Now() < until) co_await drain_changed_.Wait();
  }

  void Take(Fd connection) {
    absl::StatusOr<Fd> numbered = peers_.Admit(std::move(connection));
    if (!numbered.ok()) {
      LogWarning("a connection was refused: " + std::string(numbered.status().message()));
      return;
    }
    grpc::AddInsecureChannelFromFd(server_.get(), numbered->release());
  }

  static Task<void> Serve(const MethodHandler* handler, std::shared_ptr<GrpcCall> call) {
    const absl::Status status = co_await handler->handle(call);
    call->OnStop(nullptr);
    call->Finish(status);
  }

  // gRPC's Shutdown blocks until every call is over. Its own tell NOT_SERVING and then go on.
  Task<void> ShutDown() {
    Pending<bool> over(context_.loop);
    const auto deadline = std::chrono::system_clock::now() + kWatchLimit;
    std::thread thread([server = server_.get(), deadline, over] {
      server->Shutdown(deadline);
      server->Wait();
      over.Set(true);
    });
    (void)co_await over.Take();
    thread.join();
  }

  RpcContext context_;
  Peers peers_;
  ReactionClock reactions_;
  Handlers handlers_;
  SessionService sessions_;
  ExecService exec_;
  SyncService syncs_;
  AdminService admin_;
  const Duration keepalive_, keepalive_timeout_;
  const Duration call_limit_;
  std::function<void()> on_stuck_;
  std::unique_ptr<Watchdog> watchdog_;  // from the drain to the end of this object
  CallEnv env_;
  std::vector<std::unique_ptr<RawService>> services_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Listener> listener_;
  std::set<GrpcCall*> calls_;
  std::atomic<bool> refusing_{false};
  std::atomic<int> accepted_{0};  // calls of ours that are not over
  bool draining_ = false;
  bool drained_ = false;
  Event drain_changed_{context_.loop};
};

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(RpcDeps deps, RpcOptions options) {
  const std::string path = options.socket_path;
  std::optional<Fd> activation = std::move(options.activation);
  const bool others = options.access.admits_others();
  auto impl = std::make_unique<Impl>(deps, std::move(options));
  RETURN_IF_ERROR(impl->Start(path, std::move(activation), others));
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(impl)));
}

RpcServer::RpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

RpcServer::~RpcServer() = default;

Task<void> RpcServer::Drain() { return impl_->Drain(); }

Task<void> RpcServer::Join() { return impl_->Join(); }

std::chrono::nanoseconds RpcServer::TakeMaxReaction() { return impl_->reactions().TakeMax(); }

size_t RpcServer::Connections() { return impl_->peers().Sweep(); }

size_t RpcServer::OpenCalls() const { return impl_->open_calls(); }

}  // namespace hermes
