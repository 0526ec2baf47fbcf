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

void Disconnects::Left(std::shared_ptr<CommandRun> run, OnDisconnect policy) {
  if (run->ended() || policy == OnDisconnect::kDetach) return;
  if (policy == OnDisconnect::kCancel) return Cancel(std::move(run));
  const CommandRun* key = run.get();
  // Posted: an alarm is not destroyed inside its own call.
  auto due = [this, key] { loop_.Post([this, key] { Due(key); }); };
  Leaving& leaving = leaving_[key];
  leaving.run = std::move(run);
  leaving.alarm = clock_.At(clock_.Now() + kDisconnectGrace, std::move(due));
}

void Disconnects::Due(const CommandRun* key) {
  const auto found = leaving_.find(key);
  if (found == leaving_.end()) return;
  std::shared_ptr<CommandRun> run = std::move(found->second.run);
  leaving_.erase(found);
  if (!run->ended() && run->readers() == 0) Cancel(std::move(run));
}

void Disconnects::Cancel(std::shared_ptr<CommandRun> run) {
  const CommandInfo& info = run->info();
  LogInfo("cancelled: its client left", {info.session_id, info.id, info.run_id});
  tasks_.Spawn("cancel " + info.id, KillRun(std::move(run)));
}

}  // namespace hermes
