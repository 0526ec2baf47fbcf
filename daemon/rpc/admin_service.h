#pragma once

// hermes.v1.AdminService over the core. Loop thread; no gRPC.

#include <functional>

#include "daemon/rpc/handlers.h"
#include "hermes/v1/admin.pb.h"

namespace hermes {

class AdminService {
 public:
  // `on_drain` is what a SIGTERM would do: it is called on the loop, at most once.
  AdminService(RpcContext& context, std::function<void()> on_drain)
      : context_(context), on_drain_(std::move(on_drain)) {}

  void Register(Handlers& handlers);

 private:
  Task<absl::StatusOr<v1::InfoResponse>> Info(Caller caller, v1::InfoRequest request);
  Task<absl::StatusOr<v1::CapabilitiesResponse>> Capabilities(Caller caller,
                                                              v1::CapabilitiesRequest request);
  Task<absl::StatusOr<v1::DrainResponse>> Drain(Caller caller, v1::DrainRequest request);

  RpcContext& context_;
  std::function<void()> on_drain_;
};

}  // namespace hermes
