#include <algorithm>
#include <limits>

#include "daemon/rpc/decode.h"
#include "daemon/rpc/digest.h"
#include "daemon/rpc/filter.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kMaxTermBytes = 64;
constexpr uint32_t kMaxPtySide = 10'000;
constexpr uint32_t kStandardCols = 80;
constexpr uint32_t kStandardRows = 24;
constexpr int kMaxSignal = 64;
// Offsets above this cannot be reached by any stream; keeps sums within 64 bits.
constexpr uint64_t kMaxOffset = uint64_t{1} << 62;
constexpr size_t kMaxIncarnationBytes = 256;

bool HasNul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

absl::Status CheckOffset(std::string_view field, uint64_t offset) {
  if (offset > kMaxOffset) return BadField(field, "is beyond any possible offset");
  return absl::OkStatus();
}

absl::StatusOr<Cursor> DecodeCursor(const v1::Cursor& cursor) {
  RETURN_IF_ERROR(CheckOffset("from.stdout_offset", cursor.stdout_offset()));
  RETURN_IF_ERROR(CheckOffset("from.stderr_offset", cursor.stderr_offset()));
  return Cursor{{cursor.stdout_offset(), cursor.stderr_offset()}};
}

absl::Status CheckIncarnation(std::string_view incarnation) {
  if (incarnation.size() > kMaxIncarnationBytes || !IsPrintable(incarnation)) {
    return BadField("expected_incarnation", "must be an incarnation as sessions show it");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> DecodeArgv(v1::Argv* argv) {
  if (argv->args_size() == 0 || argv->args(0).empty()) {
    return BadField("argv.args", "must name a program");
  }
  if (static_cast<size_t>(argv->args_size()) > kMaxArgs) {
    return BadField("argv.args", "at most " + std::to_string(kMaxArgs) + " arguments are allowed");
  }
  std::vector<std::string> args;
  for (int i = 0; i < argv->args_size(); ++i) {
    std::string* arg = argv->mutable_args(i);
    const std::string field = "argv.args[" + std::to_string(i) + "]";
    if (HasNul(*arg)) return BadField(field, "must not contain NUL");
    if (arg->size() > kMaxArgBytes) {
      return BadField(field, "must have at most " + std::to_string(kMaxArgBytes) + " bytes");
    }
    args.push_back(std::move(*arg));
  }
  return args;
}

absl::Status DecodeProgram(v1::ExecuteRequest& request, StartCommand& start) {
  switch (request.program_case()) {
    case v1::ExecuteRequest::kShell:
      if (request.shell().size() > kMaxScriptBytes) {
        return BadField("shell", "must have at most " + std::to_string(kMaxScriptBytes) + " bytes");
      }
      if (HasNul(request.shell())) return BadField("shell", "must not contain NUL");
      start.spec.script = std::move(*request.mutable_shell());
      start.summary = CutUtf8(start.spec.script, kSummaryBytes);
      return absl::OkStatus();
    case v1::ExecuteRequest::kArgv: {
      ASSIGN_OR_RETURN(start.spec.argv, DecodeArgv(request.mutable_argv()));
      std::string joined;
      for (const std::string& arg : start.spec.argv) {
        if (joined.size() > kSummaryBytes) break;
        joined += (joined.empty() ? "" : " ") + arg;
      }
      start.summary = CutUtf8(joined, kSummaryBytes);
      return absl::OkStatus();
    }
    case v1::ExecuteRequest::PROGRAM_NOT_SET:
      break;
  }
  return BadField("program", "shell or argv is required");
}

absl::Status DecodeEnvironment(const v1::ExecuteRequest& request, CommandSpec& spec) {
  EnvBudget budget;
  ASSIGN_OR_RETURN(spec.env, ParseEnv("env", request.env(), budget));
  ASSIGN_OR_RETURN(spec.secret_env, ParseEnv("secret_env", request.secret_env(), budget));
  for (const auto& [name, value] : spec.secret_env) {
    if (request.env().contains(name)) {
      return BadField("secret_env[" + name + "]", "stands in env, too");
    }
  }
  return absl::OkStatus();
}

absl::Status DecodeStdinMode(v1::ExecuteRequest& request, bool interactive, StartCommand& start) {
  const bool has_data = !request.stdin_data().empty();
  v1::StdinMode mode = request.stdin();
  if (mode == v1::STDIN_UNSPECIFIED) {
    mode = has_data                             ? v1::STDIN_DATA
           : (interactive || request.has_pty()) ? v1::STDIN_OPEN
                                                : v1::STDIN_NULL;
  }
  switch (mode) {
    case v1::STDIN_NULL:
    case v1::STDIN_OPEN:
      if (has_data) return BadField("stdin_data", "needs stdin = STDIN_DATA");
      start.spec.stdin_open = mode == v1::STDIN_OPEN;
      return absl::OkStatus();
    case v1::STDIN_DATA:
      start.spec.stdin_open = true;
      start.stdin_data = std::move(*request.mutable_stdin_data());
      return absl::OkStatus();
    default:
      return BadField("stdin", "is not a mode that this daemon knows");
  }
}

absl::StatusOr<OutputPolicy> DecodeOutput(const v1::OutputPolicy& wire) {
  OutputPolicy policy;
  policy.merge_stderr = wire.merge_stderr();
  policy.limit_bytes = wire.limit_bytes() == 0 ? kStandardOutputLimit : wire.limit_bytes();
  if (policy.limit_bytes < kMinOutputLimit || policy.limit_bytes > kMaxOutputLimit) {
    return BadField("output.limit_bytes", "must be 131072 (128 KiB) to 68719476736 (64 GiB), or 0");
  }
  switch (wire.overflow()) {
    case v1::OutputPolicy::OVERFLOW_UNSPECIFIED:
    case v1::OutputPolicy::DROP_MIDDLE:
      policy.overflow = Overflow::kDropMiddle;
      return policy;
    case v1::OutputPolicy::BLOCK_PROCESS:
      policy.overflow = Overflow::kBlockProcess;
      return policy;
    case v1::OutputPolicy::KILL:
      policy.overflow = Overflow::kKill;
      return policy;
    default:
      return BadField("output.overflow", "is not a policy that this daemon knows");
  }
}

absl::Status DecodeTimes(const v1::ExecuteRequest& request, DecodeLimits limits,
                         ExecuteCall& call) {
  if (request.has_run_timeout()) {
    ASSIGN_OR_RETURN(call.start.spec.run_timeout,
                     ParseDuration("run_timeout", request.run_timeout(),
                                   {.limit = limits.max_run_timeout, .zero_allowed = false}));
  }
  if (request.has_wait_timeout()) {
    ASSIGN_OR_RETURN(call.follow.wait, ParseDuration("wait_timeout", request.wait_timeout(),
                                                     {.limit = limits.max_run_timeout}));
  }
  call.start.spec.kill_grace = kStandardGrace;
  if (request.has_kill_grace()) {
    ASSIGN_OR_RETURN(call.start.spec.kill_grace,
                     ParseDuration("kill_grace", request.kill_grace(), {.limit = kMaxGrace}));
  }
  return absl::OkStatus();
}

absl::StatusOr<SyncBefore> DecodeSyncBefore(v1::SyncBefore before) {
  switch (before) {
    case v1::SYNC_BEFORE_UNSPECIFIED:
    case v1::IF_STALE:
      return SyncBefore::kIfStale;
    case v1::FORCE:
      return SyncBefore::kForce;
    case v1::SKIP:
      return SyncBefore::kSkip;
    default:
      return BadField("sync_before", "is not a mode that this daemon knows");
  }
}

absl::Status DecodeModes(const v1::ExecuteRequest& request, bool background, StartCommand& start) {
  switch (request.state_mode()) {
    case v1::STATE_MODE_UNSPECIFIED:
    case v1::COMMIT:
      start.spec.state_mode = StateMode::kCommit;
      break;
    case v1::READ_ONLY:
      start.spec.state_mode = StateMode::kReadOnly;
      break;
    case v1::ISOLATED:
      start.spec.state_mode = StateMode::kIsolated;
      break;
    default:
      return BadField("state_mode", "is not a mode that this daemon knows");
  }
  switch (request.on_disconnect()) {
    case v1::ON_DISCONNECT_UNSPECIFIED:
      start.on_disconnect = background || start.client_request_id ? OnDisconnect::kDetach
                                                                  : OnDisconnect::kCancelAfterGrace;
      break;
    case v1::DETACH:
      start.on_disconnect = OnDisconnect::kDetach;
      break;
    case v1::CANCEL:
      start.on_disconnect = OnDisconnect::kCancel;
      break;
    case v1::CANCEL_AFTER_GRACE:
      start.on_disconnect = OnDisconnect::kCancelAfterGrace;
      break;
    default:
      return BadField("on_disconnect", "is not a mode that this daemon knows");
  }
  ASSIGN_OR_RETURN(start.sync_before, DecodeSyncBefore(request.sync_before()));
  return absl::OkStatus();
}

// What makes two requests the same: everything but what may differ between two tries.
std::string DigestOfBody(v1::ExecuteRequest& request) {
  std::string id = std::move(*request.mutable_request_id());
  request.clear_request_id();
  request.clear_from();
  request.clear_wait_timeout();
  std::string digest = DigestOf(request);
  request.set_request_id(std::move(id));
  return digest;
}

}  // namespace

absl::StatusOr<PtySize> DecodePty(std::string_view field, const v1::Pty& pty) {
  const std::string prefix(field);
  if (pty.cols() > kMaxPtySide) return BadField(prefix + ".cols", "must be at most 10000");
  if (pty.rows() > kMaxPtySide) return BadField(prefix + ".rows", "must be at most 10000");
  PtySize size;
  size.cols = static_cast<uint16_t>(pty.cols() == 0 ? kStandardCols : pty.cols());
  size.rows = static_cast<uint16_t>(pty.rows() == 0 ? kStandardRows : pty.rows());
  if (pty.term().empty()) return size;
  const bool good = std::all_of(pty.term().begin(), pty.term().end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '+';
  });
  if (!good || pty.term().size() > kMaxTermBytes) {
    return BadField(prefix + ".term", "must match [A-Za-z0-9._+-]{1,64}");
  }
  size.term = pty.term();
  return size;
}

absl::StatusOr<ExecuteCall> DecodeExecute(v1::ExecuteRequest request,
                                          DecodeExecuteOptions options) {
  ExecuteCall call;
  StartCommand& start = call.start;
  start.client_request_id = !request.request_id().empty();
  start.spec.run_id = std::move(options.made_up_id);
  start.uid = options.uid;
  if (start.client_request_id) {
    ASSIGN_OR_RETURN(start.spec.run_id, ParseUuid("request_id", request.request_id()));
  }
  ASSIGN_OR_RETURN(start.session_id, ParseSessionName("session", request.session()));
  ASSIGN_OR_RETURN(call.follow.from, DecodeCursor(request.from()));
  RETURN_IF_ERROR(DecodeTimes(request, options.limits, call));
  start.digest = DigestOfBody(request);
  RETURN_IF_ERROR(DecodeProgram(request, start));
  RETURN_IF_ERROR(CheckPath("cwd", request.cwd()));
  start.spec.cwd = std::move(*request.mutable_cwd());
  RETURN_IF_ERROR(DecodeEnvironment(request, start.spec));
  RETURN_IF_ERROR(DecodeStdinMode(request, options.interactive, start));
  if (request.has_pty()) {
    ASSIGN_OR_RETURN(start.spec.pty, DecodePty("pty", request.pty()));
  }
  RETURN_IF_ERROR(DecodeModes(request, options.background, start));
  ASSIGN_OR_RETURN(start.output, DecodeOutput(request.output()));
  start.spec.merge_stderr = start.output.merge_stderr;
  RETURN_IF_ERROR(CheckIncarnation(request.expected_incarnation()));
  start.expected_incarnation = std::move(*request.mutable_expected_incarnation());
  ASSIGN_OR_RETURN(start.labels, ParseLabels("labels", request.labels()));
  return call;
}

absl::StatusOr<AttachCall> DecodeAttach(const v1::AttachRequest& request, DecodeLimits limits) {
  AttachCall call;
  ASSIGN_OR_RETURN(call.name, ParseCommandName("name", request.name()));
  ASSIGN_OR_RETURN(call.follow.from, DecodeCursor(request.from()));
  RETURN_IF_ERROR(CheckIncarnation(request.expected_incarnation()));
  call.follow.expected_incarnation = request.expected_incarnation();
  call.follow.follow = !request.no_follow();
  if (request.has_wait_timeout()) {
    ASSIGN_OR_RETURN(call.follow.wait, ParseDuration("wait_timeout", request.wait_timeout(),
                                                     {.limit = limits.max_run_timeout}));
  }
  return call;
}

absl::StatusOr<StdinChunk> DecodeStdin(std::string_view field, v1::StdinChunk chunk) {
  const std::string prefix(field);
  RETURN_IF_ERROR(CheckOffset(prefix + ".offset", chunk.offset()));
  if (chunk.data().size() > kMaxStdinChunk) {
    return BadField(prefix + ".data",
                    "must have at most " + std::to_string(kMaxStdinChunk) + " bytes");
  }
  return StdinChunk{chunk.offset(), std::move(*chunk.mutable_data()), chunk.eof()};
}

absl::Status CheckSignal(std::string_view field, int32_t signal) {
  if (signal >= 1 && signal <= kMaxSignal) return absl::OkStatus();
  return BadField(field, "must be 1 to 64");
}

absl::StatusOr<int> DecodeScope(v1::SignalRequest::Scope scope) {
  if (!v1::SignalRequest::Scope_IsValid(scope)) {
    return BadField("scope", "is not a scope that this daemon knows");
  }
  return scope == v1::SignalRequest::SCOPE_UNSPECIFIED ? 0 : static_cast<int>(scope) - 1;
}

absl::StatusOr<std::optional<Duration>> DecodeGrace(bool set,
                                                    const google::protobuf::Duration& grace) {
  if (!set) return std::optional<Duration>();
  ASSIGN_OR_RETURN(Duration value, ParseDuration("grace", grace, {.limit = kMaxGrace}));
  return std::optional<Duration>(value);
}

absl::StatusOr<Duration> DecodeWait(const v1::WaitCommandRequest& request) {
  if (!request.has_timeout()) return kStandardWait;
  return ParseDuration("timeout", request.timeout(), {.limit = kMaxWait});
}

}  // namespace hermes
