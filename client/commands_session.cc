// Sub-commands on sessions.

#include <chrono>

#include "client/commands.h"
#include "client/error.h"
#include "client/mounts.h"
#include "client/outcome.h"
#include "client/parse.h"
#include "client/render.h"
#include "client/render_sync.h"
#include "client/terminal.h"
#include "client/text.h"

namespace hermes::client {
namespace {

constexpr int kPageSize = 1000;

absl::StatusOr<v1::RunnerPolicy> ParseRunner(const std::string& text) {
  if (text == "auto") return v1::RUNNER_AUTO;
  if (text == "never") return v1::RUNNER_NEVER;
  if (text == "require") return v1::RUNNER_REQUIRE;
  return absl::InvalidArgumentError("--runner '" + text + "' is not one of auto, never, require");
}

absl::StatusOr<v1::SshPlace::Transport> ParseTransport(const std::string& text) {
  if (text == "auto") return v1::SshPlace::TRANSPORT_UNSPECIFIED;
  if (text == "openssh") return v1::SshPlace::OPENSSH;
  if (text == "libssh2") return v1::SshPlace::LIBSSH2;
  return absl::InvalidArgumentError("--transport '" + text +
                                    "' is not one of auto, openssh, libssh2");
}

// Flags about a host, when one is meant.
absl::Status FillSsh(const SessionCreateArgs& args, v1::CreateSessionRequest* request) {
  const bool asked = args.host || args.user || args.port != 0 || args.key || args.host_key ||
                     args.transport || args.config_file || !args.ssh_options.empty();
  if (args.backend != "ssh") {
    if (!asked) return absl::OkStatus();
    return absl::InvalidArgumentError("--host and the other flags of ssh need --backend ssh");
  }
  if (!args.host) return absl::InvalidArgumentError("--backend ssh needs --host");
  v1::SshPlace& place = *request->mutable_ssh();
  place.set_host(*args.host);
  place.set_user(args.user.value_or(""));
  place.set_port(args.port);
  place.set_key_file(args.key.value_or(""));
  place.set_host_key(args.host_key.value_or(""));
  place.set_config_file(args.config_file.value_or(""));
  if (args.transport) {
    absl::StatusOr<v1::SshPlace::Transport> transport = ParseTransport(*args.transport);
    if (!transport.ok()) return transport.status();
    place.set_transport(*transport);
  }
  for (const std::string& text : args.ssh_options) {
    const size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return absl::InvalidArgumentError("--ssh-option '" + text + "' is not KEY=VALUE");
    }
    v1::SshPlace::Option* option = place.add_options();
    option->set_name(text.substr(0, equals));
    option->set_value(text.substr(equals + 1));
  }
  return absl::OkStatus();
}

absl::Status FillProfile(const SessionCreateArgs& args, const Whereabouts& at,
                         v1::HermesProfile* profile) {
  profile->set_include_secrets(*args.mount_profile == "hermes,secrets=include");
  if (*args.mount_profile != "hermes" && !profile->include_secrets()) {
    return absl::InvalidArgumentError("--mount-profile '" + *args.mount_profile +
                                      "' is not known; there is hermes[,secrets=include]");
  }
  if (!args.hermes_home) {
    return absl::InvalidArgumentError("--mount-profile hermes needs --hermes-home");
  }
  CLIENT_TRY(*profile->mutable_home(), AbsolutePath(*args.hermes_home, at));
  for (const std::string& file : args.credentials) {
    if (file.empty() || file.starts_with('/')) {
      return absl::InvalidArgumentError("--credential '" + file +
                                        "' is not a path below --hermes-home");
    }
    profile->add_credentials(file);
  }
  return absl::OkStatus();
}

absl::Status FillMounts(const SessionCreateArgs& args, v1::CreateSessionRequest* request) {
  const Whereabouts at = CallersWhereabouts();
  for (const std::string& text : args.mounts) {
    CLIENT_TRY(*request->add_mounts(), ParseMount(text, at));
  }
  if (args.mount_profile) {
    absl::Status filled = FillProfile(args, at, request->mutable_profile());
    if (!filled.ok()) return filled;
  } else if (args.hermes_home || !args.credentials.empty()) {
    return absl::InvalidArgumentError("--hermes-home and --credential need --mount-profile hermes");
  }
  if (args.on_sync_error) {
    const bool stale = *args.on_sync_error == "run-stale";
    if (!stale && *args.on_sync_error != "fail") {
      return absl::InvalidArgumentError("--on-sync-error '" + *args.on_sync_error +
                                        "' is not one of fail, run-stale");
    }
    request->mutable_sync()->set_on_error(stale ? v1::SyncPolicy::RUN_STALE : v1::SyncPolicy::FAIL);
  }
  if (args.sync_interval) {
    CLIENT_TRY(*request->mutable_sync()->mutable_min_interval(),
               ParseDuration(*args.sync_interval));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SudoPassword() {
  std::string password;
  if (!ReadSecretLine("sudo password: ", &password) || password.empty()) {
    return absl::InvalidArgumentError("no password came on stdin");
  }
  return password;
}

absl::StatusOr<v1::UpdateSessionRequest> BuildUpdate(const SessionUpdateArgs& args) {
  v1::UpdateSessionRequest request;
  v1::Session& session = *request.mutable_session();
  CLIENT_TRY(*session.mutable_name(), ParseSession(args.session));
  auto& mask = *request.mutable_update_mask();
  if (!args.labels.empty()) {
    absl::Status filled = FillPairs(args.labels, "--label", session.mutable_labels());
    if (!filled.ok()) return filled;
    mask.add_paths("labels");
  }
  if (args.ttl) {
    if (*args.ttl != "none") {
      CLIENT_TRY(*session.mutable_idle_ttl(), ParseDuration(*args.ttl));
    }
    mask.add_paths("idle_ttl");
  }
  if (args.sudo_password_stdin) {
    CLIENT_TRY(*request.mutable_sudo_password(), SudoPassword());
  }
  if (args.sudo_password_stdin || args.forget_sudo_password) mask.add_paths("sudo_password");
  if (mask.paths_size() == 0) {
    return absl::InvalidArgumentError(
        "nothing to change: give --label, --ttl, --sudo-password-stdin or --forget-sudo-password");
  }
  return request;
}

int PrintSession(Context& context, const absl::StatusOr<v1::Session>& session) {
  if (!session.ok()) return Fail(session.status());
  View view{NowSeconds(), context.colour};
  return Print(Formatted(context, *session, RenderSession(*session, view)));
}

int PrintEvent(const Context& context, const v1::SessionEvent& event) {
  if (context.format == Format::kTable) return Print(RenderSessionEvent(event));
  return Print(ToJson(event, JsonStyle::kOneLine));
}

void SayKilled(const v1::CommandKilled& killed) {
  if (killed.tree().survivors() == 0) return;
  v1::Command command;
  command.set_name(killed.name());
  command.set_state(v1::Command::KILLED);
  *command.mutable_exit()->mutable_tree() = killed.tree();
  Say(ForTerminal(DescribeEnd(command)));
}

// What stays over there is told by its names: soon nobody may be able to look.
void SaySaved(Context& context, const v1::SyncJob& job) {
  const bool left = job.rejected() > 0;
  if (SyncExitCode({job, {}}) != 0 || job.applied() > 0 || left) SayText(DescribeSync({job, {}}));
  if (!left) return;
  v1::GetSyncRequest request;
  request.set_name(job.name());
  SyncRecord record{job, {}};
  const absl::StatusOr<v1::SyncJob> whole = context.connection.GetSync(request);
  if (whole.ok()) record.entries.assign(whole->entries().begin(), whole->entries().end());
  SayText(DescribeLeft(record));
}

// What a refused cleanup leaves to decide, for people.
void SayPending(const absl::Status& status, const std::string& session) {
  if (InfoOf(status).reason() != "PULL_PENDING") return;
  SayText("  hermesctl sync-back " + session + " --dry-run    shows what is not on the host\n" +
          "  hermesctl sync-back " + session + "              saves what can be\n" +
          "  hermesctl cleanup " + session + " --discard      gives it up\n");
}

// What a discard could not end.
void SayLeft(const v1::Session& session) {
  for (const v1::Condition& condition : session.conditions()) {
    if (condition.type() != "LEFT_BEHIND") continue;
    Say(ForTerminal(ShortName(session.name()) + ": " + condition.message()));
  }
}

absl::StatusOr<v1::CleanupRequest> BuildCleanup(const CleanupArgs& args,
                                                const std::string& session) {
  v1::CleanupRequest request;
  request.set_request_id(NewRequestId());
  request.set_discard(args.discard);
  CLIENT_TRY(*request.mutable_name(), ParseSession(session));
  if (args.grace) {
    CLIENT_TRY(*request.mutable_grace(), ParseDuration(*args.grace));
  }
  return request;
}

// One attempt to follow one cleanup to its end.
absl::StatusOr<v1::Session> CleanupOnce(Context& context, const v1::CleanupRequest& request) {
  auto stream = context.connection.Cleanup(request);
  if (!stream.ok()) return stream.status();
  v1::CleanupEvent event;
  absl::StatusOr<v1::Session> finished =
      absl::UnavailableError("the stream ended before the cleanup");
  while ((*stream)->Next(&event)) {
    if (event.has_killed()) SayKilled(event.killed());
    if (event.has_sync()) SaySaved(context, event.sync());
    if (event.has_finished()) finished = event.finished();
  }
  absl::Status status = (*stream)->Finish();
  if (finished.ok() || status.ok()) return finished;
  return status;
}

absl::StatusOr<v1::Session> CleanupToTheEnd(Context& context, const v1::CleanupRequest& request) {
  Backoff backoff(context.connection.options().patience);
  while (true) {
    absl::StatusOr<v1::Session> session = CleanupOnce(context, request);
    bool lost = context.connection.was_connected() && IsOutage(session.status());
    if (session.ok() || !lost) return session;
    auto pause = backoff.Next();
    if (pause.count() == 0) return session;
    Say("connection lost, trying again");
    if (!context.connection.Pause(pause)) return session;
  }
}

}  // namespace

absl::StatusOr<v1::CreateSessionRequest> BuildCreate(const SessionCreateArgs& args) {
  v1::CreateSessionRequest request;
  CLIENT_TRY(*request.mutable_request_id(), RequestId(args.request_id));
  if (!args.name.empty()) {
    CLIENT_TRY(std::string name, ParseSession(args.name));
    request.set_session_id(ShortName(name));
  }
  request.set_backend(args.backend);
  if (args.cwd) request.set_cwd(*args.cwd);
  if (args.ttl) {
    CLIENT_TRY(*request.mutable_idle_ttl(), ParseDuration(*args.ttl));
  }
  if (args.lease) {
    CLIENT_TRY(*request.mutable_lease(), ParseDuration(*args.lease));
  }
  if (args.runner) {
    CLIENT_TRY(v1::RunnerPolicy runner, ParseRunner(*args.runner));
    request.set_runner(runner);
  }
  if (absl::Status s = FillSsh(args, &request); !s.ok()) return s;
  if (absl::Status s = FillMounts(args, &request); !s.ok()) return s;
  if (absl::Status s = FillPairs(args.env, "--env", request.mutable_env()); !s.ok()) return s;
  if (absl::Status s = FillPairs(args.labels, "--label", request.mutable_labels()); !s.ok())
    return s;
  if (args.sudo_password_stdin) {
    CLIENT_TRY(*request.mutable_sudo_password(), SudoPassword());
  }
  request.set_wait_ready(!args.no_wait);
  return request;
}

int SessionCreate(Context& context, const SessionCreateArgs& args) {
  absl::StatusOr<v1::CreateSessionRequest> request = BuildCreate(args);
  if (!request.ok()) return Fail(request.status());
  absl::StatusOr<v1::Session> session = context.connection.CreateSession(*request);
  if (!session.ok()) return Fail(session.status());
  return Print(Formatted(context, *session, ShortName(session->name()) + "\n"));
}

int SessionList(Context& context, const SessionListArgs& args) {
  v1::ListSessionsRequest request;
  request.set_page_size(kPageSize);
  request.set_filter(Filter(args.state, args.backend, args.labels));
  std::vector<v1::Session> sessions;
  do {
    absl::StatusOr<v1::ListSessionsResponse> page = context.connection.ListSessions(request);
    if (!page.ok()) return Fail(page.status());
    for (v1::Session& session : *page->mutable_sessions()) sessions.push_back(std::move(session));
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  if (context.format == Format::kTable) {
    return Print(RenderSessions(sessions, View{NowSeconds(), context.colour}));
  }
  std::vector<const google::protobuf::Message*> messages;
  for (const v1::Session& session : sessions) messages.push_back(&session);
  bool lines = context.format == Format::kJsonLines;
  return Print(ToJson(messages, lines ? JsonStyle::kOneLine : JsonStyle::kIndented));
}

int SessionShow(Context& context, const std::string& session) {
  absl::StatusOr<std::string> name = ParseSession(session);
  if (!name.ok()) return Fail(name.status());
  v1::GetSessionRequest request;
  request.set_name(*name);
  return PrintSession(context, context.connection.GetSession(request));
}

int SessionWatch(Context& context, const SessionListArgs& args) {
  v1::WatchSessionsRequest request;
  request.set_filter(Filter(args.state, args.backend, args.labels));
  Backoff backoff(context.connection.options().patience);
  bool told = false;  // of the present outage
  while (true) {
    auto stream = context.connection.WatchSessions(request);
    absl::Status status = stream.status();
    if (stream.ok()) {
      v1::SessionEvent event;
      while ((*stream)->Next(&event)) {
        backoff.Reset();
        told = false;
        if (int code = PrintEvent(context, event); code != 0) return code;
      }
      status = (*stream)->Finish();
    }
    bool lost = context.connection.was_connected() && (status.ok() || IsOutage(status));
    auto pause = lost ? backoff.Next() : std::chrono::milliseconds::zero();
    if (lost && !told) Say("connection lost, trying again");
    told = true;
    if (pause.count() == 0 || !context.connection.Pause(pause)) {
      return Fail(status.ok() ? absl::UnavailableError("the daemon ended the watch") : status);
    }
  }
}

int SessionUpdate(Context& context, const SessionUpdateArgs& args) {
  absl::StatusOr<v1::UpdateSessionRequest> request = BuildUpdate(args);
  if (!request.ok()) return Fail(request.status());
  return PrintSession(context, context.connection.UpdateSession(*request));
}

int SessionRenew(Context& context, const std::string& session, const std::string& extend) {
  absl::StatusOr<std::string> name = ParseSession(session);
  if (!name.ok()) return Fail(name.status());
  absl::StatusOr<google::protobuf::Duration> time = ParseDuration(extend);
  if (!time.ok()) return Fail(time.status());
  v1::RenewSessionRequest request;
  request.set_name(*name);
  *request.mutable_extend() = *time;
  return PrintSession(context, context.connection.RenewSession(request));
}

int Cleanup(Context& context, const CleanupArgs& args) {
  std::vector<v1::CleanupRequest> requests;
  for (const std::string& session : args.sessions) {
    absl::StatusOr<v1::CleanupRequest> request = BuildCleanup(args, session);
    if (!request.ok()) return Fail(request.status());
    requests.push_back(*request);
  }
  const bool together = AsArray(context, requests.size());
  std::vector<v1::Session> all;
  int code = 0;
  for (const v1::CleanupRequest& request : requests) {
    absl::StatusOr<v1::Session> closed = CleanupToTheEnd(context, request);
    int one = closed.ok() ? 0 : Fail(closed.status());
    SayPending(closed.status(), ShortName(request.name()));
    if (closed.ok()) SayLeft(*closed);
    if (closed.ok() && !together) one = Print(Formatted(context, *closed, ""));
    if (closed.ok()) all.push_back(*std::move(closed));
    if (one != 0) code = one;
  }
  if (!together) return code;
  std::vector<const google::protobuf::Message*> messages;
  for (const v1::Session& session : all) messages.push_back(&session);
  const int printed = PrintArray(messages);
  return printed != 0 ? printed : code;
}

}  // namespace hermes::client
