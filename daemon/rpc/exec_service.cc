#include "daemon/rpc/exec_service.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/core/session_names.h"
#include "daemon/rpc/encode.h"
#include "daemon/rpc/read_output.h"

namespace hermes {
namespace {

// Rows looked at for one page of ListCommands when a filter drops most of them; then the page ends
// early, with a token to go on.
constexpr size_t kMaxRowsPerPage = 10'000;
constexpr size_t kRowBatch = 500;

// Events of one command, as messages on a call.
class CallSink : public EventSink {
 public:
  CallSink(Clock& clock, std::shared_ptr<Call> call, bool has_pty)
      : clock_(clock), call_(std::move(call)), has_pty_(has_pty) {}

  Task<bool> Send(CommandEvent event) override {
    if (auto* piece = std::get_if<OutputPiece>(&event)) {
      std::string head = EncodeHead(*piece, has_pty_, clock_.NowWall());
      co_return co_await call_->WriteParts(std::move(head), std::move(piece->data));
    }
    const bool last = std::holds_alternative<FinishedInfo>(event);
    message_.Clear();
    Encode(std::move(event), has_pty_, clock_.NowWall(), &message_);
    if (!last) co_return co_await call_->Write(message_);
    call_->SetLast(message_);  // goes out with the final status, in one piece
    co_return !call_->stopped();
  }

 private:
  Clock& clock_;
  std::shared_ptr<Call> call_;
  bool has_pty_;
  v1::CommandEvent message_;
};

// Counts the readers of this daemon.
class ReaderCount {
 public:
  explicit ReaderCount(Stats& stats) : stats_(stats) { ++stats_.readers; }
  ~ReaderCount() { --stats_.readers; }
  ReaderCount(const ReaderCount&) = delete;
  ReaderCount& operator=(const ReaderCount&) = delete;

 private:
  Stats& stats_;
};

std::string_view PhaseOf(const CommandRun& run) {
  if (!run.phase().empty()) return run.phase();
  return run.away_since() ? "reconnecting" : "launching";
}

bool Started(const CommandRun& run) {
  return run.info().state >= CommandState::kRunning || !run.start_error().ok();
}

v1::Command Encoded(CommandRun& run) {
  v1::Command command;
  EncodeRun(run, &command);
  return command;
}

// The last word of a call that speaks of one command and may be stopped before.
absl::Status Answer(Call& call, CommandRun& run) {
  RETURN_IF_ERROR(call.StopStatus());
  RETURN_IF_ERROR(run.start_error());
  call.SetLast(Encoded(run));
  return absl::OkStatus();
}

bool IsReason(const absl::Status& status, Reason reason) { return ReasonOf(status) == reason; }

// One message of a client that types. Stdin that comes after the command stopped taking it is
// dropped: the client could not know.
Task<absl::Status> TakeInput(std::shared_ptr<CommandRun> run, v1::InteractRequest message) {
  switch (message.msg_case()) {
    case v1::InteractRequest::kStdin: {
      CO_ASSIGN_OR_RETURN(StdinChunk chunk,
                          DecodeStdin("stdin", std::move(*message.mutable_stdin())));
      absl::Status status =
          co_await run->WriteStdin(chunk.offset, std::move(chunk.data), chunk.eof);
      co_return IsReason(status, Reason::k_STDIN_CLOSED) ? absl::OkStatus() : status;
    }
    case v1::InteractRequest::kResize: {
      CO_ASSIGN_OR_RETURN(PtySize size, DecodePty("resize", message.resize()));
      co_return run->Resize(size.cols, size.rows);
    }
    case v1::InteractRequest::kSignal: {
      CO_RETURN_IF_ERROR(CheckSignal("signal", message.signal()));
      if (run->ended()) co_return absl::OkStatus();
      co_return run->Signal(message.signal(), 0);
    }
    default:
      co_return BadField("msg", "stdin, resize or signal is required after the first message");
  }
}

}  // namespace

void ExecService::Register(Handlers& handlers) {
  handlers.Stream(Method::kExecute, this, &ExecService::Execute);
  handlers.Stream(Method::kStartCommand, this, &ExecService::StartCommand);
  handlers.Stream(Method::kAttach, this, &ExecService::Attach);
  handlers.Bidi(Method::kInteract, this, &ExecService::Interact);
  handlers.Unary(Method::kWriteStdin, this, &ExecService::WriteStdin);
  handlers.Unary(Method::kSignal, this, &ExecService::Signal);
  handlers.Unary(Method::kCancelCommand, this, &ExecService::Cancel);
  handlers.Stream(Method::kWaitCommand, this, &ExecService::Wait);
  handlers.Unary(Method::kGetCommand, this, &ExecService::Get);
  handlers.Unary(Method::kListCommands, this, &ExecService::List);
  handlers.Unary(Method::kReadOutput, this, &ExecService::Read);
}

void ExecService::TakeUp() {
  for (std::shared_ptr<CommandRun>& run : context_.table.Runs())
    disconnects_.TakeUp(std::move(run));
}

Task<absl::StatusOr<ExecService::Followed>> ExecService::Start(std::shared_ptr<Call> call,
                                                               v1::ExecuteRequest request) {
  DecodeExecuteOptions options{.limits = context_.info.limits,
                               .made_up_id = context_.random.Uuid(),
                               .interactive = call->method() == Method::kInteract,
                               .background = call->method() == Method::kStartCommand,
                               .uid = call->caller().uid};
  const SteadyTime begun = context_.clock.Now();
  const size_t bytes = request.ByteSizeLong();
  auto decode = [request = std::move(request), options = std::move(options)]() mutable {
    return DecodeExecute(std::move(request), std::move(options));
  };
  absl::StatusOr<ExecuteCall> execute =
      co_await RunSized(context_.workers, bytes, std::move(decode));
  if (!execute.ok()) co_return execute.status();
  Followed followed;
  followed.on_disconnect = execute->start.on_disconnect;
  followed.follow = std::move(execute->follow);
  if (followed.follow.wait) followed.until = begun + *followed.follow.wait;
  auto starting = std::make_shared<Starting>(context_.loop);
  starting->last_event = begun;
  absl::StatusOr<std::shared_ptr<Session>> session = context_.table.Find(execute->start.session_id);
  if (session.ok() && call->method() != Method::kStartCommand) {
    context_.tasks.Spawn("start", RunStart(std::move(execute->start), starting));
    co_await WaitForStart(call, *session, starting, followed.until);
  } else {
    starting->result = co_await context_.table.Start(std::move(execute->start));
  }
  if (!starting->result) {
    CO_RETURN_IF_ERROR(call->StopStatus());
    co_return followed;
  }
  absl::StatusOr<Session::StartResult> started = *std::move(starting->result);
  if (!started.ok()) co_return started.status();
  followed.run = std::move(started->run);
  followed.existing = started->existing;
  followed.last_event = starting->last_event;
  co_return followed;
}

Task<void> ExecService::RunStart(hermes::StartCommand start, std::shared_ptr<Starting> starting) {
  starting->result = co_await context_.table.Start(std::move(start));
  starting->changed.NotifyAll();
}

// Whoever follows is told what a long start waits for. Returns without a result when the daemon
// drains, or the caller does not want to wait any longer; a refusal that comes soon is told all the
// same.
Task<void> ExecService::WaitForStart(std::shared_ptr<Call> call, std::shared_ptr<Session> session,
                                     std::shared_ptr<Starting> starting,
                                     std::optional<SteadyTime> until) {
  if (until) until = std::max(*until, context_.clock.Now() + kPhaseAfter);
  call->OnStop([starting] { starting->changed.NotifyAll(); });
  const auto over = [call, starting] {
    return starting->result.has_value() || call->stop() == Call::Stop::kDraining;
  };
  Waiting waiting{.over = over,
                  .phase = [session] { return session->phase(); },
                  .changed = &starting->changed,
                  .last_event = &starting->last_event};
  (void)co_await TellPhases(call, std::move(waiting), until);
  call->OnStop(nullptr);
}

// A phase is told once it was there at two looks in a row, and a beat at the first look that is
// late enough. False: `until` came first.
Task<bool> ExecService::TellPhases(std::shared_ptr<Call> call, Waiting waiting,
                                   std::optional<SteadyTime> until) {
  Clock& clock = context_.clock;
  CallSink sink(clock, call, false);
  const auto wake = [&waiting] { waiting.changed->NotifyAll(); };
  SteadyTime look = clock.Now() + kPhaseAfter;
  std::unique_ptr<Clock::Alarm> look_alarm = clock.At(look, wake), end_alarm;
  if (until) end_alarm = clock.At(*until, wake);
  std::string phase(waiting.phase());
  bool told = false;
  while (!waiting.over()) {
    if (until && clock.Now() >= *until) co_return false;
    if (clock.Now() < look || call->stopped()) {
      co_await waiting.changed->Wait();
      continue;
    }
    look = clock.Now() + kPhaseAfter;
    look_alarm = clock.At(look, wake);
    const std::string before = std::exchange(phase, std::string(waiting.phase()));
    const bool lasts = phase == before;
    const bool news = !std::exchange(told, lasts) && lasts;
    if (!news && clock.Now() < *waiting.last_event + kBeatInterval) continue;
    CommandEvent event = PhaseInfo{.name = phase, .detail = ""};
    if (!news) event = BeatInfo{waiting.run == nullptr ? Cursor{} : waiting.run->produced()};
    co_await sink.Send(std::move(event));
    *waiting.last_event = clock.Now();
  }
  co_return true;
}

Task<absl::StatusOr<std::shared_ptr<CommandRun>>> ExecService::Find(CommandRef name) {
  CO_ASSIGN_OR_RETURN(std::shared_ptr<Session> session, context_.table.Find(name.session));
  co_return co_await session->Find(name.command);
}

Task<absl::StatusOr<ExecService::Followed>> ExecService::FindToFollow(v1::AttachRequest request) {
  CO_ASSIGN_OR_RETURN(AttachCall attach, DecodeAttach(request, context_.info.limits));
  CO_ASSIGN_OR_RETURN(std::shared_ptr<Session> session, context_.table.Find(attach.name.session));
  const std::string& now = session->info().incarnation;
  if (!attach.follow.expected_incarnation.empty() && attach.follow.expected_incarnation != now) {
    co_return Error(Reason::k_INCARNATION_CHANGED, "the sandbox is another one than expected",
                    {{"session", attach.name.session}, {"incarnation", now}});
  }
  Followed followed;
  absl::StatusOr<std::shared_ptr<CommandRun>> run = co_await session->Find(attach.name.command);
  if (!run.ok()) co_return run.status();
  followed.run = *std::move(run);
  followed.existing = true;
  followed.on_disconnect = followed.run->info().on_disconnect;
  followed.follow = std::move(attach.follow);
  followed.last_event = context_.clock.Now();
  if (followed.follow.wait) followed.until = context_.clock.Now() + *followed.follow.wait;
  co_return followed;
}

Task<absl::Status> ExecService::Execute(std::shared_ptr<Call> call, v1::ExecuteRequest request) {
  absl::StatusOr<Followed> followed = co_await Start(call, std::move(request));
  if (!followed.ok()) co_return followed.status();
  if (followed->run == nullptr) co_return absl::OkStatus();
  co_return co_await Follow(std::move(call), *std::move(followed));
}

Task<absl::Status> ExecService::Attach(std::shared_ptr<Call> call, v1::AttachRequest request) {
  absl::StatusOr<Followed> followed = co_await FindToFollow(std::move(request));
  if (!followed.ok()) co_return followed.status();
  co_return co_await Follow(std::move(call), *std::move(followed));
}

Task<absl::StatusOr<ExecService::Followed>> ExecService::FirstOfInteract(
    std::shared_ptr<Call> call) {
  absl::StatusOr<v1::InteractRequest> first =
      co_await ReadRequest<v1::InteractRequest>(context_.workers, call);
  if (!first.ok()) co_return first.status();
  if (first->has_start()) {
    co_return co_await Start(call, std::move(*first->mutable_start()));
  }
  if (first->has_attach()) co_return co_await FindToFollow(std::move(*first->mutable_attach()));
  co_return BadField("msg", "the first message must be start or attach");
}

Task<absl::Status> ExecService::Interact(std::shared_ptr<Call> call) {
  absl::StatusOr<Followed> followed = co_await FirstOfInteract(call);
  if (!followed.ok()) co_return followed.status();
  if (followed->run == nullptr) co_return absl::OkStatus();
  context_.tasks.Spawn("input of " + followed->run->info().id,
                       PumpInput(&context_.workers, call, followed->run));
  co_return co_await Follow(std::move(call), *std::move(followed));
}

// One message at a time: a command that does not read its stdin holds the client, not our memory.
Task<void> ExecService::PumpInput(Workers* workers, std::shared_ptr<Call> call,
                                  std::shared_ptr<CommandRun> run) {
  while (!call->stopped()) {
    absl::StatusOr<std::optional<v1::InteractRequest>> message =
        co_await ReadMessage<v1::InteractRequest>(*workers, call);
    if (!message.ok()) co_return call->Fail(message.status());
    if (!message->has_value()) co_return;
    absl::Status status = co_await TakeInput(run, **std::move(message));
    if (!status.ok()) co_return call->Fail(std::move(status));
  }
}

Task<absl::Status> ExecService::Follow(std::shared_ptr<Call> call, Followed followed) {
  if (followed.follow.follow) disconnects_.Came(followed.run);
  absl::StatusOr<Follower::Result> result = co_await RunFollower(call, &followed);
  call->OnStop(nullptr);
  const bool left = result.ok() && *result == Follower::Result::kReaderGone &&
                    call->stop() != Call::Stop::kDraining;
  if (followed.follow.follow) {
    disconnects_.Went(*followed.run, left ? std::optional(followed.on_disconnect) : std::nullopt);
  }
  if (!result.ok()) co_return result.status();
  if (*result == Follower::Result::kFinished || *result == Follower::Result::kWaitOver ||
      *result == Follower::Result::kCaughtUp) {
    co_return absl::OkStatus();
  }
  co_return call->stopped() ? call->StopStatus() : absl::CancelledError("the client is gone");
}

Task<absl::StatusOr<Follower::Result>> ExecService::RunFollower(std::shared_ptr<Call> call,
                                                                Followed* followed) {
  std::shared_ptr<CommandRun> run = followed->run;
  const FollowRequest& follow = followed->follow;
  Follower::Options options{.from = follow.from,
                            .follow = follow.follow,
                            .attached_to_existing = followed->existing,
                            .wait_until = followed->until};
  Follower follower(context_.clock, run, std::move(options));
  ReaderCount count(context_.table.stats());
  CallSink sink(context_.clock, call, run->info().has_pty);
  call->OnStop([&follower, call = call.get()] {
    call->stop() == Call::Stop::kDraining ? follower.Drain() : follower.Cancel();
  });
  // The follower cannot be stopped before the command has started; this wait can.
  Waiting waiting{.over = [call, run] { return Started(*run) || call->stopped(); },
                  .phase = [run] { return PhaseOf(*run); },
                  .changed = &run->changed(),
                  .last_event = &followed->last_event,
                  .run = run};
  if (!co_await TellPhases(call, std::move(waiting), followed->until))
    co_return Follower::Result::kWaitOver;
  if (!Started(*run)) {
    if (call->stop() != Call::Stop::kDraining) co_return Follower::Result::kReaderGone;
    PhaseInfo phase{.name = "draining", .detail = "attach again"};
    co_await sink.Send(std::move(phase));
    co_return Follower::Result::kDraining;
  }
  co_return co_await follower.Run(sink, followed->last_event);
}

Task<absl::Status> ExecService::StartCommand(std::shared_ptr<Call> call,
                                             v1::ExecuteRequest request) {
  absl::StatusOr<Followed> followed = co_await Start(call, std::move(request));
  if (!followed.ok()) co_return followed.status();
  std::shared_ptr<CommandRun> run = followed->run;
  call->OnStop([run] { run->changed().NotifyAll(); });
  while (!Started(*run) && !call->stopped()) co_await run->changed().Wait();
  co_return Answer(*call, *run);
}

Task<absl::StatusOr<v1::WriteStdinResponse>> ExecService::WriteStdin(
    Caller, v1::WriteStdinRequest request) {
  CO_ASSIGN_OR_RETURN(CommandRef name, ParseCommandName("name", request.name()));
  if (!request.has_chunk()) co_return BadField("chunk", "is required");
  CO_ASSIGN_OR_RETURN(StdinChunk chunk, DecodeStdin("chunk", std::move(*request.mutable_chunk())));
  absl::StatusOr<std::shared_ptr<CommandRun>> run = co_await Find(std::move(name));
  if (!run.ok()) co_return run.status();
  CO_RETURN_IF_ERROR(co_await (*run)->WriteStdin(chunk.offset, std::move(chunk.data), chunk.eof));
  v1::WriteStdinResponse response;
  response.set_accepted_offset((*run)->stdin_accepted());
  response.set_closed(chunk.eof || (*run)->ended());
  co_return response;
}

Task<absl::StatusOr<v1::SignalResponse>> ExecService::Signal(Caller, v1::SignalRequest request) {
  CO_ASSIGN_OR_RETURN(CommandRef name, ParseCommandName("name", request.name()));
  CO_RETURN_IF_ERROR(CheckSignal("signal", request.signal()));
  CO_ASSIGN_OR_RETURN(const int scope, DecodeScope(request.scope()));
  absl::StatusOr<std::shared_ptr<CommandRun>> run = co_await Find(std::move(name));
  if (!run.ok()) co_return run.status();
  CO_RETURN_IF_ERROR((*run)->Signal(request.signal(), scope));
  co_return v1::SignalResponse();
}

Task<absl::StatusOr<v1::Command>> ExecService::Cancel(Caller, v1::CancelCommandRequest request) {
  CO_ASSIGN_OR_RETURN(CommandRef name, ParseCommandName("name", request.name()));
  CO_ASSIGN_OR_RETURN(const std::optional<Duration> grace,
                      DecodeGrace(request.has_grace(), request.grace()));
  absl::StatusOr<std::shared_ptr<CommandRun>> run = co_await Find(std::move(name));
  if (!run.ok()) co_return run.status();
  absl::StatusOr<TreeReport> report =
      co_await (*run)->Kill(grace.value_or((*run)->info().kill_grace), Cause::kCancelled);
  if (!report.ok()) co_return report.status();
  v1::Command command = Encoded(**run);
  // A command that had ended by itself keeps its end; what was left of it is reported here.
  if (command.has_exit() && !command.exit().has_tree()) {
    Encode(*report, command.mutable_exit()->mutable_tree());
  }
  co_return command;
}

Task<absl::Status> ExecService::Wait(std::shared_ptr<Call> call, v1::WaitCommandRequest request) {
  CO_ASSIGN_OR_RETURN(CommandRef name, ParseCommandName("name", request.name()));
  CO_ASSIGN_OR_RETURN(const Duration timeout, DecodeWait(request));
  absl::StatusOr<std::shared_ptr<CommandRun>> found = co_await Find(std::move(name));
  if (!found.ok()) co_return found.status();
  std::shared_ptr<CommandRun> run = *std::move(found);
  const SteadyTime until = context_.clock.Now() + timeout;
  auto alarm = context_.clock.At(until, [run] { run->changed().NotifyAll(); });
  call->OnStop([run] { run->changed().NotifyAll(); });
  while (!run->ended() && run->start_error().ok() && !call->stopped() &&
         context_.clock.Now() < until) {
    co_await run->changed().Wait();
  }
  co_return Answer(*call, *run);
}

Task<absl::StatusOr<v1::Command>> ExecService::Get(Caller, v1::GetCommandRequest request) {
  CO_ASSIGN_OR_RETURN(CommandRef name, ParseCommandName("name", request.name()));
  absl::StatusOr<std::shared_ptr<CommandRun>> run = co_await Find(std::move(name));
  if (!run.ok()) co_return run.status();
  co_return Encoded(**run);
}

Task<absl::StatusOr<v1::ListCommandsResponse>> ExecService::List(Caller,
                                                                 v1::ListCommandsRequest request) {
  CO_ASSIGN_OR_RETURN(ListCommandsCall call, DecodeListCommands(request));
  if (!call.session.empty()) CO_RETURN_IF_ERROR(context_.table.Find(call.session).status());
  v1::ListCommandsResponse response;
  size_t seen = 0;
  size_t bytes = 0;
  while (true) {
    absl::StatusOr<std::vector<CommandInfo>> rows =
        co_await context_.store.ListCommands(call.session, call.before, kRowBatch);
    if (!rows.ok()) co_return rows.status();
    for (const CommandInfo& row : *rows) {
      if (static_cast<size_t>(response.commands_size()) == call.page_size ||
          seen == kMaxRowsPerPage) {
        response.set_next_page_token(EncodePageToken(ListKey(call.session), call.before));
        co_return response;
      }
      ++seen;
      const int before = response.commands_size();
      co_await AddIfMatches(row, call.filter, &response);
      if (response.commands_size() > before) bytes += response.commands(before).ByteSizeLong();
      if (before > 0 && bytes > kMaxPageBytes) {
        response.mutable_commands()->RemoveLast();
        response.set_next_page_token(EncodePageToken(ListKey(call.session), call.before));
        co_return response;
      }
      call.before = call.session.empty() ? row.session_id + "/" + row.id : row.id;
    }
    if (rows->size() < kRowBatch) co_return response;
  }
}

// The row of a live command says how it was accepted; how it is now only the command itself knows.
Task<void> ExecService::AddIfMatches(CommandInfo row, CommandFilter filter,
                                     v1::ListCommandsResponse* response) {
  std::shared_ptr<CommandRun> run;
  if (!row.outcome) {
    absl::StatusOr<std::shared_ptr<CommandRun>> found = co_await Find({row.session_id, row.id});
    if (found.ok()) run = *std::move(found);
  }
  if (!filter.Matches(run == nullptr ? row : run->info())) co_return;
  v1::Command* command = response->add_commands();
  run == nullptr ? Encode(row, command) : EncodeRun(*run, command);
}

Task<absl::StatusOr<v1::ReadOutputResponse>> ExecService::Read(Caller,
                                                               v1::ReadOutputRequest request) {
  CO_ASSIGN_OR_RETURN(ReadCall read, DecodeRead(request));
  absl::StatusOr<std::shared_ptr<CommandRun>> run = co_await Find(read.name);
  if (!run.ok()) co_return run.status();
  co_return co_await ReadOutput(*std::move(run), std::move(read), &context_.workers);
}

}  // namespace hermes
