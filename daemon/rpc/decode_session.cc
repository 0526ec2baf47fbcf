#include <array>
#include <utility>

#include "daemon/rpc/decode.h"
#include "daemon/rpc/decode_sync.h"
#include "daemon/rpc/digest.h"
#include "daemon/rpc/filter.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr std::string_view kLabelPrefix = "label.";

absl::Status CheckPassword(std::string_view password) {
  if (password.size() > kMaxPasswordBytes) return BadField("sudo_password", "is too long");
  // sudo reads one line.
  if (password.find_first_of(std::string_view("\0\n", 2)) != std::string_view::npos) {
    return BadField("sudo_password", "must not contain NUL or a line's end");
  }
  return absl::OkStatus();
}

absl::StatusOr<RunnerPolicy> DecodeRunner(v1::RunnerPolicy runner) {
  switch (runner) {
    case v1::RUNNER_POLICY_UNSPECIFIED:
      return RunnerPolicy::kDefault;
    case v1::RUNNER_AUTO:
      return RunnerPolicy::kAuto;
    case v1::RUNNER_NEVER:
      return RunnerPolicy::kNever;
    case v1::RUNNER_REQUIRE:
      return RunnerPolicy::kRequire;
    default:
      return BadField("runner", "is not a policy that this daemon knows");
  }
}

absl::StatusOr<SshSpec> DecodeSsh(const v1::SshPlace& place) {
  SshSpec spec;
  spec.host = place.host();
  spec.user = place.user();
  spec.port = place.port();
  spec.key_file = place.key_file();
  spec.host_key = place.host_key();
  switch (place.transport()) {
    case v1::SshPlace::TRANSPORT_UNSPECIFIED:
      break;
    case v1::SshPlace::OPENSSH:
      spec.transport = SshTransportChoice::kOpenSsh;
      break;
    case v1::SshPlace::LIBSSH2:
      spec.transport = SshTransportChoice::kLibssh2;
      break;
    default:
      return BadField("ssh.transport", "is not a transport that this daemon knows");
  }
  spec.config_file = place.config_file();
  for (const v1::SshPlace::Option& option : place.options()) {
    spec.options.emplace_back(option.name(), option.value());
  }
  RETURN_IF_ERROR(CheckSshSpec(spec, "ssh"));
  return spec;
}

// What makes two creations the same. Waiting is not part of it.
std::string DigestOfBody(v1::CreateSessionRequest& request) {
  request.clear_request_id();
  request.clear_wait_ready();
  return DigestOf(request);
}

std::optional<SessionState> SessionStateOf(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, SessionState>, 7> kStates = {{
      {"OPENING", SessionState::kOpening},
      {"READY", SessionState::kReady},
      {"DEGRADED", SessionState::kDegraded},
      {"CLOSING", SessionState::kClosing},
      {"CLOSED", SessionState::kClosed},
      {"FAILED", SessionState::kFailed},
      {"LOST", SessionState::kLost},
  }};
  for (const auto& [known, state] : kStates) {
    if (known == name) return state;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<CreateSession> DecodeCreate(v1::CreateSessionRequest request, DecodeLimits limits,
                                           uint32_t uid) {
  CreateSession create;
  create.uid = uid;
  if (!request.request_id().empty()) {
    ASSIGN_OR_RETURN(create.request_id, ParseUuid("request_id", request.request_id()));
  }
  create.wait_ready = request.wait_ready();
  create.digest = DigestOfBody(request);
  if (!request.session_id().empty() && !IsId(request.session_id())) {
    return BadName("session_id", request.session_id(),
                   "must match [a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?");
  }
  create.id = request.session_id();
  if (request.backend().empty()) return BadField("backend", "is required");
  if (!IsId(request.backend())) return BadField("backend", "is not a backend's name");
  create.backend = request.backend();
  RETURN_IF_ERROR(CheckPath("cwd", request.cwd()));
  create.cwd = request.cwd();
  EnvBudget budget;
  ASSIGN_OR_RETURN(create.env, ParseEnv("env", request.env(), budget));
  ASSIGN_OR_RETURN(create.labels, ParseLabels("labels", request.labels()));
  if (request.has_idle_ttl()) {
    ASSIGN_OR_RETURN(create.idle_ttl,
                     ParseDuration("idle_ttl", request.idle_ttl(), {.limit = limits.max_ttl}));
  }
  if (request.has_lease()) {
    ASSIGN_OR_RETURN(create.lease, ParseDuration("lease", request.lease(),
                                                 {.limit = limits.max_ttl, .zero_allowed = false}));
  }
  ASSIGN_OR_RETURN(create.runner, DecodeRunner(request.runner()));
  if (request.has_ssh()) {
    ASSIGN_OR_RETURN(create.ssh, DecodeSsh(request.ssh()));
  }
  ASSIGN_OR_RETURN(create.sync, DecodeSyncSettings(request));
  RETURN_IF_ERROR(CheckPassword(request.sudo_password()));
  create.sudo_password = std::move(*request.mutable_sudo_password());
  return create;
}

absl::StatusOr<UpdateSession> DecodeUpdate(const v1::UpdateSessionRequest& request,
                                           DecodeLimits limits) {
  UpdateSession update;
  ASSIGN_OR_RETURN(update.id, ParseSessionName("session.name", request.session().name()));
  if (request.update_mask().paths().empty()) {
    return BadField("update_mask", "must name labels, idle_ttl or sudo_password");
  }
  update.etag = request.session().etag();
  for (const std::string& path : request.update_mask().paths()) {
    if (path == "labels") {
      ASSIGN_OR_RETURN(update.labels, ParseLabels("session.labels", request.session().labels()));
    } else if (path == "idle_ttl") {
      ASSIGN_OR_RETURN(update.idle_ttl,
                       ParseDuration("session.idle_ttl", request.session().idle_ttl(),
                                     {.limit = limits.max_ttl}));
    } else if (path == "sudo_password") {
      RETURN_IF_ERROR(CheckPassword(request.sudo_password()));
      update.sudo_password = request.sudo_password();
    } else {
      return BadField("update_mask",
                      "knows labels, idle_ttl and sudo_password, not " + Shown(path));
    }
  }
  return update;
}

absl::StatusOr<RenewCall> DecodeRenew(const v1::RenewSessionRequest& request, DecodeLimits limits) {
  RenewCall call;
  ASSIGN_OR_RETURN(call.session, ParseSessionName("name", request.name()));
  ASSIGN_OR_RETURN(call.extend, ParseDuration("extend", request.extend(),
                                              {.limit = limits.max_ttl, .zero_allowed = false}));
  return call;
}

absl::StatusOr<SessionTable::Filter> DecodeSessionFilter(std::string_view text) {
  SessionTable::Filter filter;
  ASSIGN_OR_RETURN(FilterTerms terms, ParseFilter(text));
  for (auto& [key, value] : terms) {
    if (key == "state") {
      filter.state = SessionStateOf(value);
      if (!filter.state) return BadField("filter", "there is no state " + Shown(value));
    } else if (key == "backend") {
      filter.backend = std::move(value);
    } else if (key.starts_with(kLabelPrefix) && IsLabelKey(key.substr(kLabelPrefix.size()))) {
      filter.labels[key.substr(kLabelPrefix.size())] = std::move(value);
    } else {
      return BadField("filter", "knows state, backend and label.KEY, not " + Shown(key));
    }
  }
  return filter;
}

absl::StatusOr<ListSessionsCall> DecodeListSessions(const v1::ListSessionsRequest& request) {
  ListSessionsCall call;
  ASSIGN_OR_RETURN(call.page_size, ParsePageSize(request.page_size(), kStandardPage, kMaxPage));
  ASSIGN_OR_RETURN(call.after, DecodePageToken("sessions", request.page_token()));
  ASSIGN_OR_RETURN(call.filter, DecodeSessionFilter(request.filter()));
  return call;
}

absl::StatusOr<CleanupCall> DecodeCleanup(const v1::CleanupRequest& request) {
  CleanupCall call;
  if (!request.request_id().empty()) {
    ASSIGN_OR_RETURN(call.request_id, ParseUuid("request_id", request.request_id()));
  }
  ASSIGN_OR_RETURN(call.session, ParseSessionName("name", request.name()));
  call.discard = request.discard();
  ASSIGN_OR_RETURN(std::optional<Duration> grace,
                   DecodeGrace(request.has_grace(), request.grace()));
  call.grace = grace.value_or(kStandardGrace);
  return call;
}

}  // namespace hermes
