#include "daemon/rpc/sync_service.h"

#include <utility>
#include <vector>

#include "daemon/rpc/encode_sync.h"
#include "daemon/rpc/follow_sync.h"

namespace hermes {

void SyncService::Register(Handlers& handlers) {
  handlers.Stream(Method::kSync, this, &SyncService::Sync);
  handlers.Stream(Method::kSyncBack, this, &SyncService::SyncBack);
  handlers.Stream(Method::kRevertSync, this, &SyncService::Revert);
  handlers.Unary(Method::kGetSync, this, &SyncService::Get);
  handlers.Unary(Method::kListSyncs, this, &SyncService::List);
}

Task<absl::Status> SyncService::Sync(std::shared_ptr<Call> call, v1::SyncRequest request) {
  const uint32_t uid = call->caller().uid;
  co_return co_await Begin(std::move(call), DecodeSync(std::move(request), uid));
}

Task<absl::Status> SyncService::SyncBack(std::shared_ptr<Call> call, v1::SyncBackRequest request) {
  const uint32_t uid = call->caller().uid;
  co_return co_await Begin(std::move(call), DecodeSyncBack(std::move(request), uid));
}

Task<absl::Status> SyncService::Revert(std::shared_ptr<Call> call, v1::RevertSyncRequest request) {
  const uint32_t uid = call->caller().uid;
  co_return co_await Begin(std::move(call), DecodeRevert(std::move(request), uid));
}

Task<absl::Status> SyncService::Begin(std::shared_ptr<Call> call, absl::StatusOr<StartSync> start) {
  if (!start.ok()) co_return start.status();
  absl::StatusOr<std::shared_ptr<SyncJob>> job = co_await context_.table.Sync(*std::move(start));
  if (!job.ok()) co_return job.status();
  co_return co_await FollowSync(context_.clock, std::move(call), *std::move(job));
}

Task<absl::StatusOr<v1::SyncJob>> SyncService::Get(Caller, v1::GetSyncRequest request) {
  CO_ASSIGN_OR_RETURN(SyncRef name, ParseSyncName("name", request.name()));
  absl::StatusOr<StoredSync> sync =
      co_await context_.table.FindSync(std::move(name.session), std::move(name.sync));
  if (!sync.ok()) co_return sync.status();
  v1::SyncJob job;
  Encode(*sync, &job);
  co_return job;
}

Task<absl::StatusOr<v1::ListSyncsResponse>> SyncService::List(Caller,
                                                              v1::ListSyncsRequest request) {
  CO_ASSIGN_OR_RETURN(ListSyncsCall call, DecodeListSyncs(request));
  absl::StatusOr<std::vector<SyncInfo>> found =
      co_await context_.table.ListSyncs(call.session, call.before, call.page_size + 1);
  if (!found.ok()) co_return found.status();
  v1::ListSyncsResponse response;
  for (size_t i = 0; i < found->size() && i < call.page_size; ++i) {
    Encode((*found)[i], response.add_syncs());
  }
  if (found->size() > call.page_size) {
    response.set_next_page_token(
        EncodePageToken(SyncListKey(call.session), (*found)[call.page_size - 1].id));
  }
  co_return response;
}

}  // namespace hermes
