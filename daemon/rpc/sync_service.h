#pragma once

// hermes.v1.SyncService over the core. Loop thread; no gRPC.

#include <memory>

#include "daemon/rpc/decode_sync.h"
#include "daemon/rpc/handlers.h"
#include "hermes/v1/sync.pb.h"

namespace hermes {

class SyncService {
 public:
  explicit SyncService(RpcContext& context) : context_(context) {}

  void Register(Handlers& handlers);

 private:
  Task<absl::Status> Sync(std::shared_ptr<Call> call, v1::SyncRequest request);
  Task<absl::Status> SyncBack(std::shared_ptr<Call> call, v1::SyncBackRequest request);
  Task<absl::Status> Revert(std::shared_ptr<Call> call, v1::RevertSyncRequest request);
  Task<absl::StatusOr<v1::SyncJob>> Get(Caller caller, v1::GetSyncRequest request);
  Task<absl::StatusOr<v1::ListSyncsResponse>> List(Caller caller, v1::ListSyncsRequest request);

  // Begins what was decoded, or follows the one that this request has begun before.
  Task<absl::Status> Begin(std::shared_ptr<Call> call, absl::StatusOr<StartSync> start);

  RpcContext& context_;
};

}  // namespace hermes
