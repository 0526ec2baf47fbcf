#pragma once

// TaskGroup: owns the background coroutines of one object. The owner stops what its tasks wait for
// (closes streams, sets flags), then awaits Join(); destroying a group with live tasks is a bug.
// Loop thread only. A task that lets an exception escape is a bug and ends the process with the
// task's name.

#include <list>
#include <string>
#include <vector>

#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

class TaskGroup {
 public:
  explicit TaskGroup(Loop& loop) : loop_(loop), changed_(loop) {}
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Starts `task` on the next turn of the loop. Names show up in logs and lists.
  void Spawn(std::string name, Task<void> task);

  // Returns when no task is left. New tasks may still be spawned while it waits; they are waited
  // for, too.
  Task<void> Join();

  std::vector<std::string> Names() const { return {names_.begin(), names_.end()}; }
  bool empty() const { return names_.empty(); }

 private:
  Loop& loop_;
  Event changed_;
  std::list<std::string> names_;
};

}  // namespace hermes
