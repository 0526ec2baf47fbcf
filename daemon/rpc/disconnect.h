#pragma once

// What happens to a command when the client of its Execute or Interact goes away. Loop thread only.

#include <map>
#include <memory>

#include "daemon/core/command_run.h"
#include "daemon/core/requests.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task_group.h"

namespace hermes {

// How long CANCEL_AFTER_GRACE waits for a reader to come back.
inline constexpr Duration kDisconnectGrace = std::chrono::seconds(30);

class Disconnects {
 public:
  Disconnects(Loop& loop, Clock& clock, TaskGroup& tasks)
      : loop_(loop), clock_(clock), tasks_(tasks) {}

  // A client left without having been told of the command's end.
  void Left(std::shared_ptr<CommandRun> run, OnDisconnect policy);

  // Somebody reads this command (again).
  void Back(const CommandRun& run) { leaving_.erase(&run); }

  // Nobody is cancelled any more: commands outlive a drain.
  void Clear() { leaving_.clear(); }

 private:
  struct Leaving {
    std::shared_ptr<CommandRun> run;
    std::unique_ptr<Clock::Alarm> alarm;
  };
  void Due(const CommandRun* run);
  void Cancel(std::shared_ptr<CommandRun> run);

  Loop& loop_;
  Clock& clock_;
  TaskGroup& tasks_;
  std::map<const CommandRun*, Leaving> leaving_;
};

}  // namespace hermes
