#include "client/foreground.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "client/error.h"
#include "client/outcome.h"
#include "client/signals.h"
#include "client/stdin_pump.h"
#include "client/terminal.h"
#include "client/text.h"

namespace hermes::client {
namespace {

// How long a closed output may keep us until the command's tree is gone: above the daemon's default
// grace of 2 s between TERM and KILL.
constexpr std::chrono::seconds kCancelPatience(5);

// Cancels a command once, on a thread of its own, so that signals go on being heard.
class Canceller {
 public:
  Canceller(Connection& connection, Follower& follower)
      : connection_(connection), follower_(follower) {}

  ~Canceller() {
    if (thread_.joinable()) thread_.join();
  }

  // False: it was requested before.
  bool Request() {
    std::lock_guard lock(mutex_);
    if (thread_.joinable()) return false;
    thread_ = std::thread([this] { Run(); });
    return true;
  }

  void WaitDone(std::chrono::seconds time) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, time, [this] { return done_; });
  }

 private:
  void Run() {
    v1::CancelCommandRequest request;
    request.set_name(follower_.WaitForName());
    if (!request.name().empty()) {
      absl::StatusOr<v1::Command> answer = connection_.CancelCommand(request);
      if (!answer.ok() && !absl::IsCancelled(answer.status())) SayText(Describe(answer.status()));
    }
    std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }

  Connection& connection_;
  Follower& follower_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
};

// At once, whatever the other threads are doing.
[[noreturn]] void Leave(const Follower& follower, int signal) {
  RestoreTerminal();
  std::string name = follower.name();
  if (name.empty()) {
    Say("left before the command had a name; it may run all the same");
  } else {
    Say("left; to come back: " + AttachHint(name, follower.cursor()));
  }
  _exit(128 + signal);
}

void OnSignal(int signal, const Foreground& foreground, Follower& follower, Canceller& canceller) {
  if (signal == SIGWINCH) {
    if (foreground.tty) follower.Resize(CurrentTerminal());
    return;
  }
  bool cancel = signal == SIGINT && foreground.cancel_on_interrupt;
  if (!cancel || !canceller.Request()) Leave(follower, signal);
  Say("cancelling; Ctrl-C again leaves at once");
}

int Report(const absl::StatusOr<v1::Command>& result, Format format) {
  if (!result.ok()) {
    SayText(Describe(result.status()));
    return kExitHermes;
  }
  std::string end = DescribeEnd(*result);
  if (!end.empty() && format == Format::kTable) Say(ForTerminal(end));
  return ExitCodeOf(*result);
}

}  // namespace

int RunForeground(Connection& connection, Foreground foreground) {
  std::unique_ptr<EventSink> sink = MakeSink(foreground.format);
  Follower follower(connection, *sink, foreground.target);
  Canceller canceller(connection, follower);
  SignalWatcher signals({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH},
                        [&](int signal) { OnSignal(signal, foreground, follower, canceller); });
  std::optional<RawMode> raw;
  if (foreground.tty && foreground.interactive) raw.emplace();
  // A new command gets its size with its start; one that runs already must be told.
  v1::Pty size = CurrentTerminal();
  if (foreground.tty && !foreground.target.name.empty() && size.cols() > 0) follower.Resize(size);
  std::optional<StdinPump> stdin_pump;
  if (foreground.interactive) {
    stdin_pump.emplace(connection, follower, foreground.target.name.empty());
  }

  absl::StatusOr<v1::Command> result = follower.Run();
  if (follower.sink_closed() && !result.ok() && foreground.cancel_on_closed_output) {
    canceller.Request();
    canceller.WaitDone(kCancelPatience);
  }
  connection.Shutdown();
  stdin_pump.reset();
  raw.reset();
  if (follower.sink_closed()) return kExitPipe;
  return Report(result, foreground.format);
}

}  // namespace hermes::client
