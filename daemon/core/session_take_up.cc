// Session's other half: commands of an earlier hermesd are taken up, or end truthfully.

#include <chrono>
#include <utility>

#include "daemon/core/session.h"
#include "daemon/runtime/backoff.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// Between tries to reach the place of a command that has to be taken up again.
constexpr Duration kFirstRetry = std::chrono::milliseconds(200);
constexpr Duration kLastRetry = std::chrono::seconds(30);

}  // namespace

void Session::TakeUp(StoredCommand row) {
  CommandInfo info = row.info;
  row.output_expired = false;
  absl::StatusOr<std::shared_ptr<CommandRun>> restored = Restored(std::move(row));
  if (!restored.ok()) {
    LogError("output not restored: " + std::string(restored.status().message()),
             {info_.id, info.id, info.run_id});
    restored = std::make_shared<CommandRun>(RunDeps(), info, NewLog(info));
  }
  std::shared_ptr<CommandRun> run = *std::move(restored);
  run->set_restored();
  run->set_away(true);
  runs_[info.id] = run;
  run_ids_[info.run_id] = info.id;
  Track(run);
  tasks_.Spawn("adopt " + info.id, Adopt(shared_from_this(), std::move(run)));
}

// A place that cannot be reached just now may still run the command: only the place itself can say
// that it does not.
Task<void> Session::Adopt(std::shared_ptr<Session> self, std::shared_ptr<CommandRun> run) {
  Backoff pause({kFirstRetry, kLastRetry}, deps_.random);
  const std::string run_id = run->info().FarId();
  while (!abandoned_ && !run->drained()) {
    absl::Status status = co_await EnsureEngine();
    if (status.ok() && !run->drained()) {
      absl::StatusOr<std::unique_ptr<Channel>> channel = co_await engine_->Adopt(
          run_id, run->log().end(OutputStream::kStdout), run->log().end(OutputStream::kStderr));
      if (channel.ok()) {
        ++deps_.stats.commands_adopted;
        LogInfo("command adopted", {info_.id, run->info().id, run_id});
        tasks_.Spawn("stdin " + run->info().id, FeedStdin(self, run));
        co_await RunCommand(self, run, *std::move(channel));
        co_return;
      }
      status = channel.status();
    }
    if (ReasonOf(status) == Reason::k_COMMAND_UNKNOWN) {
      // Looked at now: asking may have shown that it is another place.
      co_await EndUnadopted(run, run->info().incarnation == info_.incarnation);
      co_return;
    }
    LogWarning("command not adopted yet: " + std::string(status.message()),
               {info_.id, run->info().id, run_id});
    co_await PauseFor(pause.Next(), run);
  }
}

// A drain does not wait for it, nor does whoever gives up on the run.
Task<void> Session::PauseFor(Duration duration, std::shared_ptr<CommandRun> run) {
  const SteadyTime until = deps_.clock.Now() + duration;
  auto alarm = deps_.clock.At(until, [this] { changed_.NotifyAll(); });
  while (!abandoned_ && !run->drained() && deps_.clock.Now() < until) co_await changed_.Wait();
}

// The place does not know the command, or there is no place any more. In the same place as before,
// unknown means that it was never sent, and the place now refuses it for good; anything else cannot
// be known.
Task<void> Session::EndUnadopted(std::shared_ptr<CommandRun> run, bool same_place) {
  Outcome outcome;
  outcome.state = same_place ? CommandState::kNeverStarted : CommandState::kUnknown;
  outcome.cause = same_place ? Cause::kDaemonRestarted : Cause::kRunnerDied;
  co_await run->EndWith(std::move(outcome));
  Drop(run);
}

}  // namespace hermes
