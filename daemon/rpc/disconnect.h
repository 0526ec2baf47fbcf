#pragma once

// What happens to a command when those who follow it have gone away. The last one that leaves
// decides; who only looks at what is there now is none of them. Loop thread only.

#include <map>
#include <memory>
#include <optional>

#include "daemon/core/command_run.h"
#include "daemon/core/model.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task_group.h"

namespace hermes {

// How long CANCEL_AFTER_GRACE waits for a reader to come back; after a restart, CANCEL does, too.
inline constexpr Duration kDisconnectGrace = std::chrono::seconds(30);

class Disconnects {
 public:
  Disconnects(Loop& loop, Clock& clock, TaskGroup& tasks, Duration grace = kDisconnectGrace)
      : loop_(loop), clock_(clock), tasks_(tasks), grace_(grace) {}

  // Somebody follows this command, until Went. When the first one is back, those who left are
  // forgotten.
  void Came(std::shared_ptr<CommandRun> run);

  // One of them does not follow it any more. `left`: what becomes of the command, for they did not
  // mean to go; nullopt: they did, or were told of its end.
  void Went(const CommandRun& run, std::optional<OnDisconnect> left);

  // A command of an earlier daemon: its reader had no chance to come back yet.
  void TakeUp(std::shared_ptr<CommandRun> run);

  // Nobody is cancelled any more: commands outlive a drain.
  void Clear() { followed_.clear(); }

 private:
  struct Followed {
    std::shared_ptr<CommandRun> run;
    int readers = 0;
    std::optional<OnDisconnect> left;  // of the last one that left, while others read on
    std::unique_ptr<Clock::Alarm> alarm;
  };
  void Arm(Followed& followed);
  void Due(const CommandRun* run);
  void Cancel(std::shared_ptr<CommandRun> run);

  Loop& loop_;
  Clock& clock_;
  TaskGroup& tasks_;
  const Duration grace_;
  std::map<const CommandRun*, Followed> followed_;  // that have readers, or will be cancelled
};

}  // namespace hermes
