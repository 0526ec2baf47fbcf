#include "client/outcome.h"

#include "client/parse.h"

namespace hermes::client {
namespace {

constexpr int kSignalBase = 128;

std::string DescribeTree(const v1::TreeReport& tree) {
  if (tree.survivors() > 0) {
    std::string text = std::to_string(tree.survivors()) + " of its processes still live";
    for (int i = 0; i < tree.survivor_pids_size(); ++i) {
      text += (i == 0 ? ": pid " : ", ") + std::to_string(tree.survivor_pids(i));
    }
    return text;
  }
  return tree.verified() ? "all of its processes are gone"
                         : "whether all of its processes are gone could not be verified";
}

std::string DescribeLaunchFailure(const v1::LaunchFailure& failure) {
  std::string text = "could not be started";
  if (failure.stage() != v1::LaunchFailure::STAGE_UNSPECIFIED) {
    text += " (" + v1::LaunchFailure::Stage_Name(failure.stage()) + ")";
  }
  if (!failure.message().empty()) text += ": " + failure.message();
  if (!failure.errno_name().empty()) text += " [" + failure.errno_name() + "]";
  return text;
}

std::string DescribeCause(const v1::Command& command) {
  switch (command.exit().cause()) {
    case v1::Exit::RUN_TIMEOUT:
      return "timed out and was killed";
    case v1::Exit::CANCELLED:
      return "was cancelled";
    case v1::Exit::OUTPUT_LIMIT:
      return "was killed: it reached its output limit";
    case v1::Exit::SANDBOX_LOST:
      return "was lost with its sandbox";
    case v1::Exit::LEASE_EXPIRED:
      return "was killed: the session's time is over";
    case v1::Exit::LAUNCH_FAILED:
      return DescribeLaunchFailure(command.exit().launch_failure());
    case v1::Exit::DAEMON_RESTARTED:
      return "was never started: the daemon stopped before it could be sent";
    case v1::Exit::RUNNER_DIED:
      return "lost its supervisor";
    default:
      return command.state() == v1::Command::UNKNOWN ? "was out of contact for good" : "was killed";
  }
}

}  // namespace

bool HasEnded(const v1::Command& command) {
  switch (command.state()) {
    case v1::Command::EXITED:
    case v1::Command::KILLED:
    case v1::Command::NEVER_STARTED:
    case v1::Command::UNKNOWN:
      return true;
    default:
      return false;
  }
}

int ExitCodeOf(const v1::Command& command) {
  if (!command.has_exit() || !HasEnded(command) || command.state() == v1::Command::UNKNOWN) {
    return kExitHermes;
  }
  const v1::Exit& exit = command.exit();
  bool success = command.state() == v1::Command::EXITED && exit.has_code() && exit.code() == 0;
  if (exit.shell_code() != 0) return exit.shell_code() & 0xff;
  if (success) return 0;
  if (exit.has_signal()) return kSignalBase + exit.signal();
  if (exit.has_code() && exit.code() != 0) return exit.code() & 0xff;
  return kExitHermes;
}

std::string DescribeEnd(const v1::Command& command) {
  std::string name = ShortName(command.name());
  const v1::Exit& exit = command.exit();
  std::string text;
  switch (command.state()) {
    case v1::Command::EXITED:
      return "";
    case v1::Command::KILLED:
    case v1::Command::NEVER_STARTED:
      text = name + " " + DescribeCause(command);
      break;
    case v1::Command::UNKNOWN:
      text = "the outcome of " + name + " is not known: it " + DescribeCause(command);
      break;
    default:
      return name + " has not ended: " + v1::Command::State_Name(command.state());
  }
  if (exit.has_tree() && (exit.tree().survivors() > 0 || !exit.tree().verified())) {
    text += "; " + DescribeTree(exit.tree());
  }
  return text;
}

std::string DescribeGap(const v1::Gap& gap) {
  std::string channel = gap.channel() == v1::STDERR ? "stderr"
                        : gap.channel() == v1::TTY  ? "tty"
                                                    : "stdout";
  std::string text = channel + ": bytes " + std::to_string(gap.from_offset()) + " to " +
                     std::to_string(gap.to_offset()) + " are missing";
  if (!gap.reason().empty()) text += " (" + gap.reason() + ")";
  return text;
}

}  // namespace hermes::client
