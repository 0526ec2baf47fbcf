#include "backends/engine/runner_wire.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kMaxReasonText = 200;    // bytes of a state_reason that are kept
constexpr size_t kMaxRefusalText = 1024;  // bytes of a refusal's message that are kept

Cause FromWire(frames::Cause cause) {
  switch (cause) {
    case frames::Cause::kNatural:
      return Cause::kNatural;
    case frames::Cause::kRunTimeout:
      return Cause::kRunTimeout;
    case frames::Cause::kCancelled:
      return Cause::kCancelled;
    case frames::Cause::kOutputLimit:
      return Cause::kOutputLimit;
    case frames::Cause::kSandboxLost:
      return Cause::kSandboxLost;
    case frames::Cause::kLeaseExpired:
      return Cause::kLeaseExpired;
    case frames::Cause::kLaunchFailed:
      return Cause::kLaunchFailed;
    case frames::Cause::kSupervisorDied:
      return Cause::kRunnerDied;
  }
  return Cause::kUnspecified;
}

LaunchStage FromWire(frames::LaunchStage stage) {
  switch (stage) {
    case frames::LaunchStage::kNone:
      return LaunchStage::kNone;
    case frames::LaunchStage::kBadCwd:
      return LaunchStage::kBadCwd;
    case frames::LaunchStage::kNotFound:
      return LaunchStage::kNotFound;
    case frames::LaunchStage::kNotExecutable:
      return LaunchStage::kNotExecutable;
    case frames::LaunchStage::kArgsTooLong:
      return LaunchStage::kArgsTooLong;
    case frames::LaunchStage::kResources:
      return LaunchStage::kResources;
    case frames::LaunchStage::kPty:
      return LaunchStage::kPty;
    case frames::LaunchStage::kOther:
      return LaunchStage::kOther;
    case frames::LaunchStage::kAfter:
      return LaunchStage::kAfter;
  }
  return LaunchStage::kOther;
}

// Who sent the last signal decides between EXITED and KILLED; a supervisor that died without a
// verified kill leaves nobody who knows.
CommandState StateOf(const frames::Exit& exit) {
  if (exit.stage == frames::LaunchStage::kAfter) return CommandState::kNeverStarted;
  switch (exit.cause) {
    case frames::Cause::kNatural:
      return CommandState::kExited;
    case frames::Cause::kLaunchFailed:
      return CommandState::kNeverStarted;
    case frames::Cause::kSupervisorDied:
      return exit.has_tree && exit.tree.verified ? CommandState::kKilled : CommandState::kUnknown;
    default:
      return CommandState::kKilled;
  }
}

frames::StateMode ToWire(StateMode mode) {
  switch (mode) {
    case StateMode::kCommit:
      return frames::StateMode::kCommit;
    case StateMode::kReadOnly:
      return frames::StateMode::kReadOnly;
    case StateMode::kIsolated:
      return frames::StateMode::kIsolated;
  }
  return frames::StateMode::kReadOnly;
}

}  // namespace

uint64_t ToMillis(Duration duration) {
  if (duration <= Duration::zero()) return 0;
  return static_cast<uint64_t>(std::chrono::ceil<std::chrono::milliseconds>(duration).count());
}

frames::Cause ToWire(Cause cause) {
  switch (cause) {
    case Cause::kRunTimeout:
      return frames::Cause::kRunTimeout;
    case Cause::kOutputLimit:
      return frames::Cause::kOutputLimit;
    case Cause::kSandboxLost:
      return frames::Cause::kSandboxLost;
    case Cause::kLeaseExpired:
      return frames::Cause::kLeaseExpired;
    default:
      return frames::Cause::kCancelled;
  }
}

frames::Start ToWire(const std::string& session, CommandSpec spec) {
  frames::Start start;
  start.session = session;
  start.run_id = std::move(spec.run_id);
  start.form = spec.files          ? frames::Form::kFiles
               : spec.argv.empty() ? frames::Form::kScript
                                   : frames::Form::kArgv;
  start.script = std::move(spec.script);
  start.argv = std::move(spec.argv);
  start.cwd = std::move(spec.cwd);
  start.env = std::move(spec.env);
  start.secret_env = std::move(spec.secret_env);
  start.stdin_kind = spec.stdin_open ? frames::StdinKind::kOpen : frames::StdinKind::kNull;
  if (spec.pty) {
    start.pty = 1;
    start.cols = spec.pty->cols;
    start.rows = spec.pty->rows;
    start.term = std::move(spec.pty->term);
  }
  start.merge_stderr = spec.merge_stderr ? 1 : 0;
  start.deadline_ms = ToMillis(spec.run_timeout);
  start.grace_ms = static_cast<uint32_t>(
      std::min<uint64_t>(ToMillis(spec.kill_grace), std::numeric_limits<uint32_t>::max()));
  start.state_mode = ToWire(spec.state_mode);
  return start;
}

TreeReport FromWire(const frames::TreeReport& report) {
  TreeReport out;
  out.method = KillMethod::kSupervisor;
  out.signalled = report.signalled;
  out.survivors = report.survivors;
  out.verified = report.verified != 0;
  for (uint32_t pid : report.pids) out.survivor_pids.push_back(static_cast<int32_t>(pid));
  return out;
}

Outcome FromWire(const frames::Exit& exit) {
  Outcome outcome;
  outcome.state = StateOf(exit);
  outcome.cause = FromWire(exit.cause);
  outcome.signalled = exit.signalled != 0;
  outcome.value = exit.value;
  outcome.launch_stage = FromWire(exit.stage);
  outcome.launch_errno = exit.launch_errno;
  if (exit.has_tree) outcome.tree = FromWire(exit.tree);
  outcome.user_us = exit.user_us;
  outcome.system_us = exit.system_us;
  outcome.max_rss_bytes = std::min(exit.max_rss_kb, std::numeric_limits<uint64_t>::max() >> 10)
                          << 10;
  outcome.residual = exit.residual != 0;
  outcome.state_committed = exit.state_committed != 0;
  outcome.state_reason = Printable(exit.state_reason, kMaxReasonText);
  if (exit.stage == frames::LaunchStage::kAfter)
    outcome.state_reason = "not started: what it was to follow has not ended with 0";
  outcome.generation = exit.generation;
  outcome.cwd = exit.cwd;
  return outcome;
}

Outcome RunnerDiedOutcome() {
  Outcome outcome;
  outcome.state = CommandState::kUnknown;
  outcome.cause = Cause::kRunnerDied;
  outcome.state_reason = "runner died";
  return outcome;
}

absl::Status RefusedStatus(std::string_view reason, std::string_view message) {
  for (const ReasonInfo& info : ReasonCatalogue()) {
    if (info.name == reason) return Error(info.reason, Printable(message, kMaxRefusalText));
  }
  return Error(Reason::k_BUG, "the runner refused: " + Printable(message, kMaxRefusalText));
}

Outcome RefusedOutcome(std::string_view reason, std::string_view message) {
  Outcome outcome;
  if (reason != InfoOf(Reason::k_RESULT_EXPIRED).name) {
    outcome.state = CommandState::kNeverStarted;
    outcome.cause = Cause::kLaunchFailed;
    outcome.launch_stage = LaunchStage::kOther;
  }
  outcome.state_reason = Printable(message.empty() ? reason : message, kMaxReasonText);
  return outcome;
}

std::string Printable(std::string_view text, size_t most) {
  std::string out(text.substr(0, most));
  for (char& c : out) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return out;
}

}  // namespace hermes
