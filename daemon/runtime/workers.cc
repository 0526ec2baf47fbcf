#include "daemon/runtime/workers.h"

#include <pthread.h>

#include <utility>

#include "daemon/runtime/check.h"

namespace hermes {

ThreadWorkers::ThreadWorkers(Loop& loop, int threads) : Workers(loop) {
  CHECK(threads > 0);
  threads_.reserve(static_cast<size_t>(threads));
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { ThreadMain(); });
}

ThreadWorkers::~ThreadWorkers() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadWorkers::Submit(absl::AnyInvocable<void()> job) {
  {
    MutexLock lock(mutex_);
    CHECK(!stopping_);
    queue_.push_back(std::move(job));
  }
  wake_.NotifyOne();
}

void ThreadWorkers::ThreadMain() {
  pthread_setname_np(pthread_self(), "hermes-worker");
  while (true) {
    absl::AnyInvocable<void()> job;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stopping_) wake_.Wait(mutex_);
      if (queue_.empty()) return;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    job();
  }
}

}  // namespace hermes
