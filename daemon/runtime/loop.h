#pragma once

// The one loop: an io_context and the thread that runs it. Everything belongs to the loop unless
// its header says otherwise. Created and destroyed by main (or a test), outlives all that uses it.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include <asio/any_io_executor.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include "absl/functional/any_invocable.h"

namespace hermes {

class Loop {
 public:
  Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  asio::io_context& context() { return context_; }
  asio::any_io_executor executor() { return context_.get_executor(); }

  // Runs until Stop(), also when there is nothing to do; the calling thread becomes the loop
  // thread. May be called again afterwards: then the handlers that were left run.
  void Run();

  // Thread-safe. Ends the Run() or RunReady() under way, or else the next one, after the handler
  // that runs now.
  void Stop();

  // Runs everything that is ready now and returns: for tests and the simulator, on the thread that
  // calls it.
  void RunReady();

  // Thread-safe. Runs `work` on the loop later; never inline.
  void Post(absl::AnyInvocable<void()> work);

  // True on the loop thread (the thread inside Run or RunReady).
  bool OnLoop() const { return thread_.load() == std::this_thread::get_id(); }

  // Thread-safe. Longest time that a Post() waited for its turn since the last call: how late the
  // loop was.
  std::chrono::nanoseconds TakeMaxLag();

 private:
  void RecordLag(int64_t lag_ns);

  asio::io_context context_{1};
  // Keeps an idle Run() from returning.
  asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};
  std::atomic<std::thread::id> thread_;
  std::atomic<int64_t> max_lag_ns_{0};
};

}  // namespace hermes
