#pragma once

// What handlers share: the context they work in, and the adapters from typed functions to what runs
// when a method is called. Loop thread only.

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "daemon/core/engines.h"
#include "daemon/core/session_store.h"
#include "daemon/core/session_table.h"
#include "daemon/rpc/call.h"
#include "daemon/rpc/server_info.h"
#include "daemon/rpc/wire_check.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "daemon/runtime/task_group.h"
#include "daemon/runtime/workers.h"

namespace hermes {

// Messages larger than this are parsed and checked on a worker: the loop has others to serve.
inline constexpr size_t kInlineRequestBytes = 64 << 10;

struct RpcDeps {
  Loop& loop;
  Clock& clock;
  Random& random;
  Workers& workers;
  SessionTable& table;
  SessionStore& store;
  EngineFactory& engines;
};

struct RpcContext : RpcDeps {
  RpcContext(RpcDeps deps, ServerInfo i) : RpcDeps(deps), info(std::move(i)), tasks(deps.loop) {}
  ServerInfo info;
  TaskGroup tasks;  // handlers, and what outlives their RPC
};

// Runs `work` here or, when it deals with many bytes, on a worker.
template <typename F, typename T = std::invoke_result_t<F>>
Task<T> RunSized(Workers& workers, size_t bytes, F work) {
  if (bytes <= kInlineRequestBytes) co_return work();
  co_return co_await workers.Run(std::move(work));
}

template <typename Request>
absl::StatusOr<Request> ParseMessage(const Incoming& incoming) {
  Request request;
  if (incoming.ParseInto(&request)) return request;
  return ExplainBadMessage(*Request::descriptor(), incoming.Bytes());
}

// The next message of a call; nullopt: there is none any more.
template <typename Request>
Task<absl::StatusOr<std::optional<Request>>> ReadMessage(Workers& workers,
                                                         std::shared_ptr<Call> call) {
  std::shared_ptr<Incoming> incoming = co_await call->Read();
  if (incoming == nullptr) co_return std::optional<Request>();
  auto parse = [incoming] { return ParseMessage<Request>(*incoming); };
  absl::StatusOr<Request> request = co_await RunSized(workers, incoming->size(), std::move(parse));
  if (!request.ok()) co_return request.status();
  co_return std::optional<Request>(*std::move(request));
}

template <typename Request>
Task<absl::StatusOr<Request>> ReadRequest(Workers& workers, std::shared_ptr<Call> call) {
  absl::StatusOr<std::optional<Request>> request =
      co_await ReadMessage<Request>(workers, std::move(call));
  if (!request.ok()) co_return request.status();
  if (!request->has_value()) co_return BadField("request", "is missing");
  co_return **std::move(request);
}

using Handler = std::function<Task<absl::Status>(std::shared_ptr<Call>)>;

// How a method is served. A unary call is answered for its handler when the client is gone or the
// daemon drains; what the handler does then goes on, and its result is dropped.
struct MethodHandler {
  bool unary = false;
  Handler handle;
};

template <typename Service, typename Request, typename Response>
Task<absl::Status> ServeUnary(Service* service,
                              Task<absl::StatusOr<Response>> (Service::*function)(Caller, Request),
                              Workers* workers, std::shared_ptr<Call> call) {
  absl::StatusOr<Request> request = co_await ReadRequest<Request>(*workers, call);
  if (!request.ok()) co_return request.status();
  absl::StatusOr<Response> response =
      co_await (service->*function)(call->caller(), *std::move(request));
  if (!response.ok()) co_return response.status();
  call->SetLast(*response);
  co_return absl::OkStatus();
}

template <typename Service, typename Request>
Task<absl::Status> ServeStream(Service* service,
                               Task<absl::Status> (Service::*function)(std::shared_ptr<Call>,
                                                                       Request),
                               Workers* workers, std::shared_ptr<Call> call) {
  absl::StatusOr<Request> request = co_await ReadRequest<Request>(*workers, call);
  if (!request.ok()) co_return request.status();
  co_return co_await (service->*function)(call, *std::move(request));
}

// The handlers of all methods. Services put theirs in once, before the first call.
class Handlers {
 public:
  explicit Handlers(Workers& workers) : workers_(&workers) {}

  template <typename Service, typename Request, typename Response>
  void Unary(Method method, Service* service,
             Task<absl::StatusOr<Response>> (Service::*function)(Caller, Request)) {
    at(method) = {true, [service, function, workers = workers_](std::shared_ptr<Call> call) {
                    return ServeUnary(service, function, workers, std::move(call));
                  }};
  }

  template <typename Service, typename Request>
  void Stream(Method method, Service* service,
              Task<absl::Status> (Service::*function)(std::shared_ptr<Call>, Request)) {
    at(method) = {false, [service, function, workers = workers_](std::shared_ptr<Call> call) {
                    return ServeStream(service, function, workers, std::move(call));
                  }};
  }

  template <typename Service>
  void Bidi(Method method, Service* service,
            Task<absl::Status> (Service::*function)(std::shared_ptr<Call>)) {
    at(method) = {false, [service, function](std::shared_ptr<Call> call) {
                    return (service->*function)(std::move(call));
                  }};
  }

  const MethodHandler& operator[](Method method) const {
    return handlers_[static_cast<size_t>(method)];
  }

 private:
  static constexpr size_t kMethods = 0
#define X(service, method, role) +1
#include "daemon/rpc/methods.inc"
#undef X
      ;
  MethodHandler& at(Method method) { return handlers_[static_cast<size_t>(method)]; }
  Workers* workers_;
  std::array<MethodHandler, kMethods> handlers_;
};

}  // namespace hermes
