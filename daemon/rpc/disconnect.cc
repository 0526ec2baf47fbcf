#include "daemon/rpc/disconnect.h"

#include <utility>

#include "daemon/runtime/log.h"

namespace hermes {
namespace {

Task<void> KillRun(std::shared_ptr<CommandRun> run) {
  absl::StatusOr<TreeReport> report = co_await run->Kill(run->info().kill_grace, Cause::kCancelled);
  if (!report.ok()) {
    LogWarning("not cancelled after its client left: " + std::string(report.status().message()),
               {run->info().session_id, run->info().id, run->info().run_id});
  }
}

}  // namespace

void Disconnects::Came(std::shared_ptr<CommandRun> run) {
  Followed& followed = followed_[run.get()];
  if (followed.readers++ > 0) return;
  followed.left.reset();
  followed.alarm.reset();
  followed.run = std::move(run);
}

void Disconnects::Went(const CommandRun& run, std::optional<OnDisconnect> left) {
  const auto found = followed_.find(&run);
  if (found == followed_.end()) return;
  Followed& followed = found->second;
  if (left) followed.left = left;
  if (--followed.readers > 0) return;
  const OnDisconnect policy = followed.left.value_or(OnDisconnect::kDetach);
  if (policy == OnDisconnect::kCancelAfterGrace && !run.ended()) return Arm(followed);
  std::shared_ptr<CommandRun> kept = std::move(followed.run);
  followed_.erase(found);
  if (policy == OnDisconnect::kCancel && !kept->ended()) Cancel(std::move(kept));
}

void Disconnects::TakeUp(std::shared_ptr<CommandRun> run) {
  if (run->ended() || run->info().on_disconnect == OnDisconnect::kDetach) return;
  Followed& followed = followed_[run.get()];
  followed.run = std::move(run);
  Arm(followed);
}

void Disconnects::Arm(Followed& followed) {
  // Posted: an alarm is not destroyed inside its own call.
  auto due = [this, key = followed.run.get()] { loop_.Post([this, key] { Due(key); }); };
  followed.alarm = clock_.At(clock_.Now() + grace_, std::move(due));
}

void Disconnects::Due(const CommandRun* key) {
  const auto found = followed_.find(key);
  if (found == followed_.end() || found->second.readers > 0) return;
  std::shared_ptr<CommandRun> run = std::move(found->second.run);
  followed_.erase(found);
  if (!run->ended()) Cancel(std::move(run));
}

void Disconnects::Cancel(std::shared_ptr<CommandRun> run) {
  const CommandInfo& info = run->info();
  LogInfo("cancelled: its client left", {info.session_id, info.id, info.run_id});
  tasks_.Spawn("cancel " + info.id, KillRun(std::move(run)));
}

}  // namespace hermes
