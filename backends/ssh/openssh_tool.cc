#include "backends/ssh/openssh_tool.h"

#include <unistd.h>

#include <csignal>
#include <memory>
#include <utility>

#include "backends/ssh/openssh_words.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// What the run and its listeners share; they may outlast it when a grandchild holds a pipe.
struct Run {
  explicit Run(Loop& loop) : changed(loop) {}
  Event changed;
  std::unique_ptr<Child> child;
  std::shared_ptr<Words> out;
  std::shared_ptr<Words> err;
};

Task<Child::ExitStatus> AwaitAll(std::shared_ptr<Run> run) {
  const Child::ExitStatus status = co_await run->child->Wait();
  while (!run->out->ended() || !run->err->ended()) co_await run->changed.Wait();
  co_return status;
}

void GiveUp(Run& run) {
  run.child->SignalGroup(SIGKILL);
  run.out->Stop();
  run.err->Stop();
}

}  // namespace

Task<absl::StatusOr<ToolResult>> RunTool(Loop& loop, Clock& clock, ChildSpec spec) {
  const std::string name = spec.argv.front();
  auto run = std::make_shared<Run>(loop);
  Child::Pipes pipes;
  auto child = Child::Spawn(loop, std::move(spec), &pipes);
  if (!child.ok()) {
    co_return Error(Reason::k_CAPABILITY_MISSING, std::string(child.status().message()));
  }
  run->child = *std::move(child);
  close(pipes.stdin_fd);
  auto notify = [run] { run->changed.NotifyAll(); };
  run->out = Words::Gather(loop, pipes.stdout_fd, kMaxToolOutput, notify);
  run->err = Words::Gather(loop, pipes.stderr_fd, kMaxComplaint, notify);

  bool expired = false;
  const Child::ExitStatus status = co_await WithDeadline(
      clock, clock.Now() + kToolLimit, AwaitAll(run), [run] { GiveUp(*run); }, &expired);
  if (expired || run->out->cut()) {
    co_return Error(Reason::k_BACKEND_UNREACHABLE,
                    name + (expired ? " did not end within 10 seconds while it read its "
                                      "configuration (is there a Match exec that hangs?)"
                                    : " said more than can be of use"));
  }
  co_return ToolResult{status, run->out->text(), run->err->text()};
}

}  // namespace hermes
