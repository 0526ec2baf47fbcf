#pragma once

// Signals as calls on one thread of their own, where anything may be done. The signals are blocked
// in the creating thread and in all that it starts later: create this before the first gRPC call.

#include <functional>
#include <initializer_list>
#include <thread>

namespace hermes::client {

class SignalWatcher {
 public:
  // `on_signal` runs on the watcher's thread, once per delivered signal.
  SignalWatcher(std::initializer_list<int> signals, std::function<void(int)> on_signal);
  // No call runs after this. The signals stay blocked.
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  void Run();

  std::function<void(int)> on_signal_;
  int signal_fd_;
  int stop_fd_;
  std::thread thread_;
};

}  // namespace hermes::client
