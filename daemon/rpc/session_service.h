#pragma once

// hermes.v1.SessionService over the core. Loop thread; no gRPC.

#include <memory>
#include <set>
#include <string>

#include "daemon/rpc/decode.h"
#include "daemon/rpc/handlers.h"
#include "hermes/v1/session.pb.h"

namespace hermes {

class SessionService {
 public:
  explicit SessionService(RpcContext& context) : context_(context) {}

  void Register(Handlers& handlers);

 private:
  struct CleanupState;

  Task<absl::StatusOr<v1::Session>> Create(Caller caller, v1::CreateSessionRequest request);
  Task<absl::StatusOr<v1::Session>> Get(Caller caller, v1::GetSessionRequest request);
  Task<absl::StatusOr<v1::ListSessionsResponse>> List(Caller caller,
                                                      v1::ListSessionsRequest request);
  Task<absl::StatusOr<v1::Session>> Update(Caller caller, v1::UpdateSessionRequest request);
  Task<absl::StatusOr<v1::Session>> Renew(Caller caller, v1::RenewSessionRequest request);
  Task<absl::Status> Watch(std::shared_ptr<Call> call, v1::WatchSessionsRequest request);
  Task<absl::Status> Cleanup(std::shared_ptr<Call> call, v1::CleanupRequest request);

  Task<bool> SendSnapshot(std::shared_ptr<Call> call, SessionTable::Filter filter,
                          std::set<std::string>* shown);
  Task<bool> SendChange(std::shared_ptr<Call> call, const SessionTable::Filter* filter,
                        SessionTable::Change change, std::set<std::string>* shown);
  static Task<void> RunClose(std::shared_ptr<CleanupState> state, Session::CloseRequest request);
  Task<absl::Status> ReportCleanup(std::shared_ptr<Call> call, std::shared_ptr<CleanupState> state);

  RpcContext& context_;
};

}  // namespace hermes
