#pragma once

// hermes.v1.ExecService over the core. Loop thread; no gRPC.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/core/follow.h"
#include "daemon/rpc/decode.h"
#include "daemon/rpc/disconnect.h"
#include "daemon/rpc/handlers.h"
#include "hermes/v1/exec.pb.h"

namespace hermes {

class ExecService {
 public:
  explicit ExecService(RpcContext& context, Duration disconnect_grace = kDisconnectGrace)
      : context_(context),
        disconnects_(context.loop, context.clock, context.tasks, disconnect_grace) {}

  void Register(Handlers& handlers);

  // Once, when the table is loaded: commands of an earlier daemon wait for their readers.
  void TakeUp();

  // No command is cancelled any more because its client left.
  void Drain() { disconnects_.Clear(); }

 private:
  Task<absl::Status> Execute(std::shared_ptr<Call> call, v1::ExecuteRequest request);
  Task<absl::Status> Attach(std::shared_ptr<Call> call, v1::AttachRequest request);
  Task<absl::Status> Interact(std::shared_ptr<Call> call);
  Task<absl::Status> StartCommand(std::shared_ptr<Call> call, v1::ExecuteRequest request);
  Task<absl::StatusOr<v1::WriteStdinResponse>> WriteStdin(Caller caller,
                                                          v1::WriteStdinRequest request);
  Task<absl::StatusOr<v1::SignalResponse>> Signal(Caller caller, v1::SignalRequest request);
  Task<absl::StatusOr<v1::Command>> Cancel(Caller caller, v1::CancelCommandRequest request);
  Task<absl::Status> Wait(std::shared_ptr<Call> call, v1::WaitCommandRequest request);
  Task<absl::StatusOr<v1::Command>> Get(Caller caller, v1::GetCommandRequest request);
  Task<absl::StatusOr<v1::ListCommandsResponse>> List(Caller caller,
                                                      v1::ListCommandsRequest request);
  Task<absl::StatusOr<v1::ReadOutputResponse>> Read(Caller caller, v1::ReadOutputRequest request);

  // A command that somebody follows, and what becomes of it when they leave.
  struct Followed {
    std::shared_ptr<CommandRun> run;
    bool existing = false;
    OnDisconnect on_disconnect = OnDisconnect::kDetach;
    FollowRequest follow;
    std::optional<SteadyTime> until;  // as long as the caller wants to wait
    SteadyTime last_event;            // or the beginning of the call
  };
  // Without a run: it was still being started when the caller's wait was over.
  Task<absl::StatusOr<Followed>> Start(std::shared_ptr<Call> call, v1::ExecuteRequest request);
  struct Starting {
    explicit Starting(Loop& loop) : changed(loop) {}
    Event changed;
    std::optional<absl::StatusOr<Session::StartResult>> result;
    SteadyTime last_event;
  };
  Task<void> RunStart(hermes::StartCommand start, std::shared_ptr<Starting> starting);
  Task<void> WaitForStart(std::shared_ptr<Call> call, std::shared_ptr<Session> session,
                          std::shared_ptr<Starting> starting, std::optional<SteadyTime> until);
  // What somebody waits for, and may be told about; its functions keep alive what they look at.
  struct Waiting {
    std::function<bool()> over;
    std::function<std::string_view()> phase;
    Event* changed;
    SteadyTime* last_event;
    std::shared_ptr<CommandRun> run = nullptr;  // if there is one yet
  };
  Task<bool> TellPhases(std::shared_ptr<Call> call, Waiting waiting,
                        std::optional<SteadyTime> until);
  Task<absl::StatusOr<Followed>> FindToFollow(v1::AttachRequest request);
  Task<absl::StatusOr<std::shared_ptr<CommandRun>>> Find(CommandRef name);
  Task<void> AddIfMatches(CommandInfo row, CommandFilter filter,
                          v1::ListCommandsResponse* response);
  Task<absl::Status> Follow(std::shared_ptr<Call> call, Followed followed);
  Task<absl::StatusOr<Follower::Result>> RunFollower(std::shared_ptr<Call> call,
                                                     Followed* followed);
  Task<absl::StatusOr<Followed>> FirstOfInteract(std::shared_ptr<Call> call);
  static Task<void> PumpInput(Workers* workers, std::shared_ptr<Call> call,
                              std::shared_ptr<CommandRun> run);

  RpcContext& context_;
  Disconnects disconnects_;
};

}  // namespace hermes
