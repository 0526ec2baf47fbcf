#pragma once

// Workers: a small pool of threads for blocking work (files, hashing, DNS). Jobs start in the order
// of the calls; Run() waits its turn, it never fails. A waiting coroutine holds exactly one place
// in the queue, so its callers bound it. Destroyed after all Run() calls have returned.

#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/mutex.h"
#include "daemon/runtime/pending.h"
#include "daemon/runtime/task.h"

namespace hermes {

class Workers {
 public:
  virtual ~Workers() = default;

  // Runs `work` on a worker thread and returns its result on the loop. Not ended by cancellation.
  // `work` must not throw and returns something: a Status where there is no value.
  template <typename F, typename T = std::invoke_result_t<F>>
  Task<T> Run(F work) {
    Pending<T> pending(loop_);
    Submit([pending, work = std::move(work)]() mutable { pending.Set(work()); });
    co_return co_await pending.Take();
  }

 protected:
  explicit Workers(Loop& loop) : loop_(loop) {}
  virtual void Submit(absl::AnyInvocable<void()> job) = 0;
  Loop& loop_;
};

class ThreadWorkers : public Workers {
 public:
  ThreadWorkers(Loop& loop, int threads);
  ~ThreadWorkers() override;  // runs what is queued, then joins

 protected:
  void Submit(absl::AnyInvocable<void()> job) override;

 private:
  void ThreadMain();
  Mutex mutex_;
  CondVar wake_;
  std::deque<absl::AnyInvocable<void()>> queue_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// Runs the job at once on the caller's thread: for the simulator.
class InlineWorkers : public Workers {
 public:
  explicit InlineWorkers(Loop& loop) : Workers(loop) {}

 protected:
  void Submit(absl::AnyInvocable<void()> job) override { job(); }
};

}  // namespace hermes
