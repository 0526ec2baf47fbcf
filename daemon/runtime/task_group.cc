#include "daemon/runtime/task_group.h"

#include <cstdlib>
#include <exception>
#include <utility>

#include <asio/co_spawn.hpp>

#include "daemon/runtime/check.h"
#include "daemon/runtime/log.h"

namespace hermes {
namespace {

[[noreturn]] void EndWith(const std::string& name, std::exception_ptr escaped) {
  std::string what = "unknown exception";
  try {
    std::rethrow_exception(escaped);
  } catch (const std::exception& error) {
    what = error.what();
  } catch (...) {
  }
  LogError("task " + name + " let an exception escape: " + what);
  std::abort();
}

}  // namespace

TaskGroup::~TaskGroup() { CHECK(names_.empty()); }

// Posted, because co_spawn on the loop thread would run the task's first part inline.
void TaskGroup::Spawn(std::string name, Task<void> task) {
  auto place = names_.insert(names_.end(), std::move(name));
  loop_.Post([this, place, task = std::move(task)]() mutable {
    asio::co_spawn(loop_.executor(), std::move(task), [this, place](std::exception_ptr escaped) {
      if (escaped != nullptr) EndWith(*place, escaped);
      names_.erase(place);
      if (names_.empty()) changed_.NotifyAll();
    });
  });
}

Task<void> TaskGroup::Join() {
  while (!names_.empty()) co_await changed_.Wait();
}

}  // namespace hermes
