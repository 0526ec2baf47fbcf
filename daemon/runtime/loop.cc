#include "daemon/runtime/loop.h"

#include <utility>

#include <asio/post.hpp>
#include <asio/steady_timer.hpp>

#include "daemon/runtime/check.h"

namespace hermes {
namespace {

int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

// asio makes its epoll and event descriptors with the first timer or descriptor and throws if there
// are none left: better here, at start-up, than in the middle of something.
Loop::Loop() { asio::steady_timer first(context_); }

void Loop::Run() {
  CHECK(thread_.load() == std::thread::id());
  thread_.store(std::this_thread::get_id());
  context_.run();
  context_.restart();
  thread_.store(std::thread::id());
}

void Loop::Stop() { context_.stop(); }

void Loop::RunReady() {
  CHECK(thread_.load() == std::thread::id());
  thread_.store(std::this_thread::get_id());
  context_.poll();
  if (context_.stopped()) context_.restart();
  thread_.store(std::thread::id());
}

void Loop::Post(absl::AnyInvocable<void()> work) {
  asio::post(context_, [this, posted = NowNs(), work = std::move(work)]() mutable {
    RecordLag(NowNs() - posted);
    work();
  });
}

void Loop::RecordLag(int64_t lag_ns) {
  int64_t most = max_lag_ns_.load(std::memory_order_relaxed);
  while (lag_ns > most && !max_lag_ns_.compare_exchange_weak(most, lag_ns)) {
  }
}

std::chrono::nanoseconds Loop::TakeMaxLag() {
  return std::chrono::nanoseconds(max_lag_ns_.exchange(0));
}

}  // namespace hermes
