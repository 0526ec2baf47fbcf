#include "daemon/rpc/session_service.h"

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/core/session_names.h"
#include "daemon/rpc/encode.h"
#include "daemon/rpc/encode_sync.h"

namespace hermes {
namespace {

constexpr std::string_view kList = "sessions";
constexpr size_t kSnapshotPage = 256;  // sessions copied at a time for a watcher

v1::Session Encoded(const SessionInfo& info) {
  v1::Session session;
  Encode(info, &session);
  return session;
}

}  // namespace

// A cleanup and those who follow it: it goes on when they are gone.
struct SessionService::CleanupState {
  CleanupState(Loop& loop, std::shared_ptr<Session> s) : session(std::move(s)), changed(loop) {}
  std::shared_ptr<Session> session;
  Event changed;
  std::deque<Session::CloseEvent> events;  // at most one per running command, and a few
  std::optional<absl::Status> done;
};

void SessionService::Register(Handlers& handlers) {
  handlers.Unary(Method::kCreateSession, this, &SessionService::Create);
  handlers.Unary(Method::kGetSession, this, &SessionService::Get);
  handlers.Unary(Method::kListSessions, this, &SessionService::List);
  handlers.Unary(Method::kUpdateSession, this, &SessionService::Update);
  handlers.Unary(Method::kRenewSession, this, &SessionService::Renew);
  handlers.Stream(Method::kWatchSessions, this, &SessionService::Watch);
  handlers.Stream(Method::kCleanup, this, &SessionService::Cleanup);
}

Task<absl::StatusOr<v1::Session>> SessionService::Create(Caller caller,
                                                         v1::CreateSessionRequest request) {
  const size_t bytes = request.ByteSizeLong();
  auto decode = [request = std::move(request), limits = context_.info.limits,
                 uid = caller.uid]() mutable {
    return DecodeCreate(std::move(request), limits, uid);
  };
  absl::StatusOr<CreateSession> create =
      co_await RunSized(context_.workers, bytes, std::move(decode));
  if (!create.ok()) co_return create.status();
  absl::StatusOr<SessionInfo> info = co_await context_.table.Create(*std::move(create));
  if (!info.ok()) co_return info.status();
  co_return Encoded(*info);
}

Task<absl::StatusOr<v1::Session>> SessionService::Get(Caller, v1::GetSessionRequest request) {
  CO_ASSIGN_OR_RETURN(std::string id, ParseSessionName("name", request.name()));
  CO_ASSIGN_OR_RETURN(std::shared_ptr<Session> session, context_.table.Find(id));
  co_return Encoded(session->Shown());
}

Task<absl::StatusOr<v1::ListSessionsResponse>> SessionService::List(
    Caller, v1::ListSessionsRequest request) {
  CO_ASSIGN_OR_RETURN(ListSessionsCall call, DecodeListSessions(request));
  const std::vector<SessionInfo> found =
      context_.table.List(call.filter, call.after, call.page_size + 1);
  v1::ListSessionsResponse response;
  size_t shown = 0;
  for (size_t bytes = 0; shown < found.size() && shown < call.page_size; ++shown) {
    v1::Session session = Encoded(found[shown]);
    bytes += session.ByteSizeLong();
    if (shown > 0 && bytes > kMaxPageBytes) break;
    *response.add_sessions() = std::move(session);
  }
  if (found.size() > shown) {
    response.set_next_page_token(EncodePageToken(kList, found[shown - 1].id));
  }
  co_return response;
}

Task<absl::StatusOr<v1::Session>> SessionService::Update(Caller, v1::UpdateSessionRequest request) {
  CO_ASSIGN_OR_RETURN(UpdateSession update, DecodeUpdate(request, context_.info.limits));
  CO_ASSIGN_OR_RETURN(std::shared_ptr<Session> session, context_.table.Find(update.id));
  CO_RETURN_IF_ERROR(co_await session->Update(std::move(update)));
  co_return Encoded(session->Shown());
}

Task<absl::StatusOr<v1::Session>> SessionService::Renew(Caller, v1::RenewSessionRequest request) {
  CO_ASSIGN_OR_RETURN(RenewCall call, DecodeRenew(request, context_.info.limits));
  CO_ASSIGN_OR_RETURN(std::shared_ptr<Session> session, context_.table.Find(call.session));
  absl::StatusOr<SessionInfo> info = co_await session->Renew(call.extend);
  if (!info.ok()) co_return info.status();
  co_return Encoded(*info);
}

Task<absl::Status> SessionService::Watch(std::shared_ptr<Call> call,
                                         v1::WatchSessionsRequest request) {
  CO_ASSIGN_OR_RETURN(SessionTable::Filter filter, DecodeSessionFilter(request.filter()));
  SessionTable& table = context_.table;
  call->OnStop([&table] { table.changed().NotifyAll(); });
  // From before the snapshot: a change meanwhile may be told twice, never missed.
  uint64_t seq = table.last_seq();
  std::set<std::string> shown;
  if (!co_await SendSnapshot(call, filter, &shown)) co_return call->StopStatus();
  v1::SessionEvent bookmark;
  bookmark.set_bookmark(true);
  if (!co_await call->Write(bookmark)) co_return call->StopStatus();
  while (!call->stopped()) {
    const std::optional<SessionTable::Change> change = table.NextChange(seq);
    if (!change) {
      co_await table.changed().Wait();
      continue;
    }
    seq = change->seq;
    if (!co_await SendChange(call, &filter, *change, &shown)) break;
  }
  co_return call->StopStatus();
}

Task<bool> SessionService::SendSnapshot(std::shared_ptr<Call> call, SessionTable::Filter filter,
                                        std::set<std::string>* shown) {
  std::string after;
  while (true) {
    const std::vector<SessionInfo> page = context_.table.List(filter, after, kSnapshotPage);
    for (const SessionInfo& info : page) {
      v1::SessionEvent event;
      Encode(info, event.mutable_upsert());
      shown->insert(info.id);
      if (!co_await call->Write(event)) co_return false;
    }
    if (page.size() < kSnapshotPage) co_return true;
    after = page.back().id;
  }
}

// A session that no longer matches is as good as removed for this watcher.
Task<bool> SessionService::SendChange(std::shared_ptr<Call> call,
                                      const SessionTable::Filter* filter,
                                      SessionTable::Change change, std::set<std::string>* shown) {
  v1::SessionEvent event;
  absl::StatusOr<std::shared_ptr<Session>> session = context_.table.Find(change.id);
  if (!change.removed && session.ok() && filter->Matches((*session)->Shown())) {
    Encode((*session)->Shown(), event.mutable_upsert());
    shown->insert(change.id);
  } else {
    if (shown->erase(change.id) == 0) co_return true;
    event.set_removed(SessionName(change.id));
  }
  co_return co_await call->Write(event);
}

Task<absl::Status> SessionService::Cleanup(std::shared_ptr<Call> call, v1::CleanupRequest request) {
  CO_ASSIGN_OR_RETURN(CleanupCall cleanup, DecodeCleanup(request));
  if (cleanup.discard) CO_RETURN_IF_ERROR(RequireFull(call->caller(), "Cleanup with discard"));
  absl::StatusOr<SessionTable::CleanupTarget> target =
      co_await context_.table.AcceptCleanup(cleanup.session, cleanup.request_id);
  if (!target.ok()) co_return target.status();
  if (target->session == nullptr) {
    v1::CleanupEvent event;
    Encode(target->ended, event.mutable_finished());
    call->SetLast(event);
    co_return absl::OkStatus();
  }
  Session::CloseRequest close{
      .grace = cleanup.grace, .discard = cleanup.discard, .uid = call->caller().uid};
  auto state = std::make_shared<CleanupState>(context_.loop, std::move(target->session));
  context_.tasks.Spawn("cleanup " + cleanup.session, RunClose(state, close));
  call->OnStop([state] { state->changed.NotifyAll(); });
  co_return co_await ReportCleanup(std::move(call), std::move(state));
}

Task<void> SessionService::RunClose(std::shared_ptr<CleanupState> state,
                                    Session::CloseRequest request) {
  auto progress = [state](Session::CloseEvent event) {
    state->events.push_back(std::move(event));
    state->changed.NotifyAll();
  };
  absl::Status status = co_await state->session->Close(request, std::move(progress));
  state->done = std::move(status);
  state->changed.NotifyAll();
}

Task<absl::Status> SessionService::ReportCleanup(std::shared_ptr<Call> call,
                                                 std::shared_ptr<CleanupState> state) {
  const std::string id = state->session->info().id;
  v1::CleanupEvent event;
  while (!call->stopped()) {
    if (!state->events.empty()) {
      const Session::CloseEvent next = std::move(state->events.front());
      state->events.pop_front();
      if (const auto* phase = std::get_if<Session::ClosePhase>(&next)) {
        event.mutable_phase()->set_name(std::string(phase->name));
      } else if (const auto* killed = std::get_if<Session::KilledCommand>(&next)) {
        event.mutable_killed()->set_name(CommandName(id, killed->command_id));
        Encode(killed->tree, event.mutable_killed()->mutable_tree());
      } else {
        Encode(std::get<SyncInfo>(next), event.mutable_sync());
      }
      if (!co_await call->Write(event)) break;
    } else if (state->done) {
      CO_RETURN_IF_ERROR(*state->done);
      Encode(state->session->Shown(), event.mutable_finished());
      call->SetLast(event);
      co_return absl::OkStatus();
    } else {
      co_await state->changed.Wait();
    }
  }
  co_return call->StopStatus();
}

}  // namespace hermes
