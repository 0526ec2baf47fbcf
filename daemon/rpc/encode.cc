#include "daemon/rpc/encode.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <string.h>

#include <utility>

#include "daemon/core/session_names.h"
#include "daemon/rpc/encode_sync.h"
#include "daemon/rpc/errors.h"
#include "daemon/rpc/fields.h"

namespace hermes {
namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr int kCodeTimeout = 124;
constexpr int kCodeNone = 125;
constexpr int kCodeNotRunnable = 126;
constexpr int kCodeNotFound = 127;
constexpr int kCodeSignal = 128;
constexpr int kCodeCancelled = 130;

void EncodeLabels(const Labels& labels, google::protobuf::Map<std::string, std::string>* to) {
  for (const auto& [key, value] : labels) (*to)[key] = value;
}

void EncodeCursor(const Cursor& cursor, v1::Cursor* to) {
  to->set_stdout_offset(cursor.offset[0]);
  to->set_stderr_offset(cursor.offset[1]);
}

v1::Session::State StateOf(SessionState state) {
  switch (state) {
    case SessionState::kOpening:
      return v1::Session::OPENING;
    case SessionState::kReady:
      return v1::Session::READY;
    case SessionState::kDegraded:
      return v1::Session::DEGRADED;
    case SessionState::kClosing:
      return v1::Session::CLOSING;
    case SessionState::kClosed:
      return v1::Session::CLOSED;
    case SessionState::kFailed:
      return v1::Session::FAILED;
    case SessionState::kLost:
      return v1::Session::LOST;
  }
  return v1::Session::STATE_UNSPECIFIED;
}

v1::Command::State StateOf(CommandState state) {
  switch (state) {
    case CommandState::kQueued:
      return v1::Command::QUEUED;
    case CommandState::kLaunching:
      return v1::Command::LAUNCHING;
    case CommandState::kRunning:
      return v1::Command::RUNNING;
    case CommandState::kExited:
      return v1::Command::EXITED;
    case CommandState::kKilled:
      return v1::Command::KILLED;
    case CommandState::kNeverStarted:
      return v1::Command::NEVER_STARTED;
    case CommandState::kUnknown:
      return v1::Command::UNKNOWN;
  }
  return v1::Command::STATE_UNSPECIFIED;
}

v1::Exit::Cause CauseOf(Cause cause) {
  switch (cause) {
    case Cause::kUnspecified:
      return v1::Exit::CAUSE_UNSPECIFIED;
    case Cause::kNatural:
      return v1::Exit::NATURAL;
    case Cause::kRunTimeout:
      return v1::Exit::RUN_TIMEOUT;
    case Cause::kCancelled:
      return v1::Exit::CANCELLED;
    case Cause::kOutputLimit:
      return v1::Exit::OUTPUT_LIMIT;
    case Cause::kSandboxLost:
      return v1::Exit::SANDBOX_LOST;
    case Cause::kLeaseExpired:
      return v1::Exit::LEASE_EXPIRED;
    case Cause::kLaunchFailed:
      return v1::Exit::LAUNCH_FAILED;
    case Cause::kDaemonRestarted:
      return v1::Exit::DAEMON_RESTARTED;
    case Cause::kRunnerDied:
      return v1::Exit::RUNNER_DIED;
  }
  return v1::Exit::CAUSE_UNSPECIFIED;
}

v1::LaunchFailure::Stage StageOf(LaunchStage stage) {
  switch (stage) {
    case LaunchStage::kNone:
      return v1::LaunchFailure::STAGE_UNSPECIFIED;
    case LaunchStage::kBadCwd:
      return v1::LaunchFailure::BAD_CWD;
    case LaunchStage::kNotFound:
      return v1::LaunchFailure::NOT_FOUND;
    case LaunchStage::kNotExecutable:
      return v1::LaunchFailure::NOT_EXECUTABLE;
    case LaunchStage::kArgsTooLong:
      return v1::LaunchFailure::ARGS_TOO_LONG;
    case LaunchStage::kResources:
      return v1::LaunchFailure::RESOURCES;
    case LaunchStage::kPty:
      return v1::LaunchFailure::PTY;
    case LaunchStage::kAfter:  // what it followed is an error of its own
    case LaunchStage::kOther:
      return v1::LaunchFailure::OTHER;
  }
  return v1::LaunchFailure::OTHER;
}

v1::KillMethod MethodOf(KillMethod method) {
  switch (method) {
    case KillMethod::kUnspecified:
      return v1::KILL_METHOD_UNSPECIFIED;
    case KillMethod::kSupervisor:
      return v1::SUPERVISOR;
    case KillMethod::kGroupAndCookie:
      return v1::GROUP_AND_COOKIE;
    case KillMethod::kGroup:
      return v1::GROUP;
    case KillMethod::kSandboxStop:
      return v1::SANDBOX_STOP;
  }
  return v1::KILL_METHOD_UNSPECIFIED;
}

int LaunchCode(LaunchStage stage) {
  switch (stage) {
    case LaunchStage::kNotFound:
      return kCodeNotFound;
    case LaunchStage::kBadCwd:
    case LaunchStage::kNotExecutable:
    case LaunchStage::kArgsTooLong:
      return kCodeNotRunnable;
    default:
      return kCodeNone;
  }
}

// What stands before the bytes of a length-delimited field.
std::string Prefix(int field, size_t bytes) {
  constexpr uint32_t kLengthDelimited = 2;
  std::string prefix;
  google::protobuf::io::StringOutputStream stream(&prefix);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.WriteVarint32(static_cast<uint32_t>(field) << 3 | kLengthDelimited);
  coded.WriteVarint64(bytes);
  coded.Trim();
  return prefix;
}

// One overload per kind of event.
struct EventEncoder {
  bool has_pty;
  v1::CommandEvent* to;

  void operator()(StartedInfo started) const {
    v1::Started* wire = to->mutable_started();
    wire->set_name(CommandName(started.command.session_id, started.command.id));
    wire->set_pid(started.command.pid);
    wire->set_attached_to_existing(started.attached_to_existing);
    EncodeCursor(started.start, wire->mutable_start());
  }
  void operator()(OutputPiece piece) const {
    v1::Output* wire = to->mutable_output();
    wire->set_channel(ChannelOf(piece.stream, has_pty));
    wire->set_offset(piece.offset);
    wire->set_data(std::move(piece.data));
  }
  void operator()(GapPiece gap) const {
    v1::Gap* wire = to->mutable_gap();
    wire->set_channel(ChannelOf(gap.stream, has_pty));
    wire->set_from_offset(gap.from);
    wire->set_to_offset(gap.to);
    wire->set_reason(std::move(gap.reason));
  }
  void operator()(PhaseInfo phase) const {
    to->mutable_phase()->set_name(std::move(phase.name));
    to->mutable_phase()->set_detail(std::move(phase.detail));
  }
  void operator()(BeatInfo beat) const {
    EncodeCursor(beat.produced, to->mutable_beat()->mutable_produced());
  }
  void operator()(FinishedInfo finished) const { Encode(finished.command, to->mutable_finished()); }
};

}  // namespace

void EncodeTime(WallTime time, google::protobuf::Timestamp* to) {
  const int64_t nanos = time.time_since_epoch().count();
  int64_t seconds = nanos / kNanosPerSecond;
  if (nanos % kNanosPerSecond < 0) --seconds;
  to->set_seconds(seconds);
  to->set_nanos(static_cast<int32_t>(nanos - seconds * kNanosPerSecond));
}

void EncodeDuration(Duration duration, google::protobuf::Duration* to) {
  to->set_seconds(duration.count() / kNanosPerSecond);
  to->set_nanos(static_cast<int32_t>(duration.count() % kNanosPerSecond));
}

int ShellCode(const Outcome& outcome) {
  const int code = outcome.signalled ? kCodeSignal + outcome.value : outcome.value;
  switch (outcome.state) {
    case CommandState::kExited:
      return code;
    case CommandState::kKilled:
      if (outcome.cause == Cause::kRunTimeout) return kCodeTimeout;
      if (outcome.cause == Cause::kCancelled) return kCodeCancelled;
      return code != 0 ? code : kCodeNone;  // killed is never a success
    case CommandState::kNeverStarted:
      return LaunchCode(outcome.launch_stage);
    default:
      return kCodeNone;
  }
}

v1::Channel ChannelOf(OutputStream stream, bool has_pty) {
  if (stream == OutputStream::kStderr) return v1::STDERR;
  return has_pty ? v1::TTY : v1::STDOUT;
}

void Encode(const TreeReport& tree, v1::TreeReport* to) {
  constexpr size_t kMaxPids = 16;
  to->set_method(MethodOf(tree.method));
  to->set_signalled(tree.signalled);
  to->set_survivors(tree.survivors);
  to->set_verified(tree.verified);
  for (size_t i = 0; i < tree.survivor_pids.size() && i < kMaxPids; ++i) {
    to->add_survivor_pids(tree.survivor_pids[i]);
  }
}

void Encode(const Outcome& outcome, v1::Exit* to) {
  const bool told =
      outcome.state == CommandState::kExited || outcome.state == CommandState::kKilled;
  if (told && outcome.signalled) to->set_signal(outcome.value);
  if (told && !outcome.signalled) to->set_code(outcome.value);
  to->set_cause(CauseOf(outcome.cause));
  if (outcome.tree) Encode(*outcome.tree, to->mutable_tree());
  to->set_shell_code(ShellCode(outcome));
  if (outcome.launch_stage != LaunchStage::kNone) {
    v1::LaunchFailure* failure = to->mutable_launch_failure();
    failure->set_stage(StageOf(outcome.launch_stage));
    failure->set_errno_value(outcome.launch_errno);
    const char* name = strerrorname_np(outcome.launch_errno);
    if (outcome.launch_errno != 0 && name != nullptr) failure->set_errno_name(name);
    if (outcome.launch_errno != 0) failure->set_message(strerrordesc_np(outcome.launch_errno));
  }
  if (told) {
    EncodeDuration(std::chrono::microseconds(outcome.user_us), to->mutable_user_cpu());
    EncodeDuration(std::chrono::microseconds(outcome.system_us), to->mutable_system_cpu());
    to->set_max_rss_bytes(outcome.max_rss_bytes);
  }
}

void Encode(const CommandInfo& info, v1::Command* to) {
  to->set_name(CommandName(info.session_id, info.id));
  to->set_state(StateOf(info.state));
  EncodeCursor(info.produced, to->mutable_produced());
  EncodeTime(info.create_time, to->mutable_create_time());
  if (info.start_time) EncodeTime(*info.start_time, to->mutable_start_time());
  if (info.end_time) EncodeTime(*info.end_time, to->mutable_end_time());
  EncodeLabels(info.labels, to->mutable_labels());
  if (info.client_request_id) to->set_request_id(info.run_id);
  to->set_incarnation(info.incarnation);
  to->set_residual(info.residual);
  to->set_pid(info.pid);
  to->set_summary(info.summary);
  to->set_creator_uid(info.creator_uid);
  if (!info.outcome) return;
  Encode(*info.outcome, to->mutable_exit());
  to->set_cwd_after(info.outcome->cwd);
  to->set_shell_generation_after(info.outcome->generation);
  to->set_state_committed(info.outcome->state_committed);
  to->set_state_reason(info.outcome->state_reason);
}

void EncodeRun(CommandRun& run, v1::Command* to) {
  Encode(run.info(), to);
  if (run.ended()) return;
  to->mutable_produced()->set_stdout_offset(run.log().end(OutputStream::kStdout));
  to->mutable_produced()->set_stderr_offset(run.log().end(OutputStream::kStderr));
}

void Encode(const Capabilities& capabilities, v1::Capabilities* to) {
  to->set_split_stderr(capabilities.split_stderr);
  to->set_merged_order(capabilities.merged_order);
  to->set_pty(capabilities.pty);
  to->set_stdin_stream(capabilities.stdin_stream);
  to->set_survives_daemon(capabilities.survives_daemon);
  to->set_remote_deadline(capabilities.remote_deadline);
  to->set_shell_functions(capabilities.shell_functions);
  to->set_residual_tracking(capabilities.residual_tracking);
  to->set_kill_method(MethodOf(capabilities.kill_method));
  to->set_kill_verified(capabilities.kill_verified);
  to->set_argv(capabilities.argv);
  to->set_max_concurrent_commands(capabilities.max_concurrent_commands);
}

void Encode(const SshSpec& spec, v1::SshPlace* to) {
  to->set_host(spec.host);
  to->set_user(spec.user);
  to->set_port(spec.port);
  to->set_key_file(spec.key_file);
  to->set_host_key(spec.host_key);
  to->set_transport(static_cast<v1::SshPlace::Transport>(spec.transport));
  to->set_config_file(spec.config_file);
  for (const auto& [name, value] : spec.options) {
    v1::SshPlace::Option* option = to->add_options();
    option->set_name(name);
    option->set_value(value);
  }
}

void Encode(const SessionInfo& info, v1::Session* to) {
  to->set_name(SessionName(info.id));
  to->set_backend(info.backend);
  to->set_state(StateOf(info.state));
  to->set_etag(std::to_string(info.version));
  EncodeLabels(info.labels, to->mutable_labels());
  EncodeTime(info.create_time, to->mutable_create_time());
  if (info.expire_time) EncodeTime(*info.expire_time, to->mutable_expire_time());
  if (info.idle_ttl.count() > 0) EncodeDuration(info.idle_ttl, to->mutable_idle_ttl());
  to->set_cwd(info.cwd);
  to->set_shell_generation(info.generation);
  to->set_incarnation(info.incarnation);
  Encode(info.capabilities, to->mutable_capabilities());
  for (const Condition& condition : info.conditions) {
    v1::Condition* wire = to->add_conditions();
    wire->set_type(condition.type);
    wire->set_status(condition.status);
    wire->set_reason(condition.reason);
    wire->set_message(FitText(condition.message, kMaxErrorText));
    EncodeTime(condition.since, wire->mutable_last_transition_time());
  }
  to->set_creator_uid(info.creator_uid);
  to->set_engine(info.engine);
  to->set_engine_reason(info.engine_reason);
  to->set_running_commands(info.running_commands);
  if (!info.ssh.host.empty()) Encode(info.ssh, to->mutable_ssh());
  to->set_place(info.place);
  if (!info.sync.mounts.empty()) Encode(info.sync, to);
}

std::string EncodeHead(const OutputPiece& piece, bool has_pty, WallTime now) {
  v1::CommandEvent event;
  EncodeTime(now, event.mutable_time());
  v1::Output output;
  output.set_channel(ChannelOf(piece.stream, has_pty));
  output.set_offset(piece.offset);
  const std::string fields = output.SerializeAsString();
  std::string head = event.SerializeAsString();
  const std::string prefix = Prefix(v1::Output::kDataFieldNumber, piece.data.size());
  head += Prefix(v1::CommandEvent::kOutputFieldNumber,
                 fields.size() + prefix.size() + piece.data.size());
  return head + fields + prefix;
}

void Encode(CommandEvent event, bool has_pty, WallTime now, v1::CommandEvent* to) {
  EncodeTime(now, to->mutable_time());
  std::visit(EventEncoder{has_pty, to}, std::move(event));
}

}  // namespace hermes
