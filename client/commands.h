#pragma once

// One function per sub-command, with its arguments as typed by the user. Each checks its arguments,
// does its calls, prints data to stdout and messages to stderr, and returns the process's exit
// code. Only for the main thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/connection.h"
#include "client/sink.h"

namespace hermes::client {

struct Context {
  Connection& connection;
  Format format = Format::kTable;
  bool colour = false;
  bool progress = false;  // stderr is a terminal that can show it
};

using Text = std::optional<std::string>;  // an option that may be absent

struct SessionCreateArgs {
  std::string name;  // empty: the daemon makes one up
  std::string backend = "local";
  Text cwd, ttl, lease, runner, request_id;
  Text host, user, key, host_key, transport, config_file;
  uint32_t port = 0;
  std::vector<std::string> ssh_options;
  std::vector<std::string> env, labels;
  std::vector<std::string> mounts;  // see client/mounts
  Text mount_profile, hermes_home, on_sync_error, sync_interval;
  std::vector<std::string> credentials;
  bool sudo_password_stdin = false;
  bool no_wait = false;
};
// The request that the arguments mean; with a request id in any case. Reads a sudo password from
// stdin if they say so.
absl::StatusOr<v1::CreateSessionRequest> BuildCreate(const SessionCreateArgs& args);
int SessionCreate(Context& context, const SessionCreateArgs& args);

struct SessionListArgs {
  std::vector<std::string> labels;
  Text state, backend;
};
int SessionList(Context& context, const SessionListArgs& args);
int SessionShow(Context& context, const std::string& session);
int SessionWatch(Context& context, const SessionListArgs& args);

struct SessionUpdateArgs {
  std::string session;
  std::vector<std::string> labels;  // replaces all labels
  Text ttl;
  bool sudo_password_stdin = false;
  bool forget_sudo_password = false;
};
int SessionUpdate(Context& context, const SessionUpdateArgs& args);
int SessionRenew(Context& context, const std::string& session, const std::string& extend);

struct CleanupArgs {
  std::vector<std::string> sessions;
  bool discard = false;
  Text grace;
};
int Cleanup(Context& context, const CleanupArgs& args);

struct ExecArgs {
  std::string session;
  std::vector<std::string> words;  // what stood after --
  bool argv = false;
  bool merge = false;
  bool interactive = false;
  bool tty = false;
  bool detach = false;
  bool no_sync = false;
  Text file;  // holds the script; "-" is stdin
  Text timeout, cwd, kill_grace, request_id, on_disconnect, state, output_limit, overflow;
  std::vector<std::string> env, secret_env, labels;
};
// The request that the arguments mean; with a request id in any case.
absl::StatusOr<v1::ExecuteRequest> BuildExecute(const ExecArgs& args);
int Exec(Context& context, const ExecArgs& args);
int Shell(Context& context, const std::string& session);

struct AttachArgs {
  std::string command;
  uint64_t from_stdout = 0;
  uint64_t from_stderr = 0;
  bool interactive = false;
  bool tty = false;
};
int Attach(Context& context, const AttachArgs& args);

struct LogsArgs {
  std::string command;
  bool follow = false;
  bool stderr_stream = false;
  Text head, tail, grep;
  uint64_t since_offset = 0;
};
int Logs(Context& context, const LogsArgs& args);

struct SyncArgs {
  std::string session;
  bool force = false;
};
int Sync(Context& context, const SyncArgs& args);

struct SyncBackArgs {
  std::string session;
  bool dry_run = false;
  bool approve_deletes = false;
  bool salvage = false;
};
int SyncBack(Context& context, const SyncBackArgs& args);
int Undo(Context& context, const std::string& sync);
// The syncs of a session ("box"), or one of them with its entries ("box/s1").
int Syncs(Context& context, const std::string& text);

struct PsArgs {
  std::string session;  // empty: all
  Text state;
  std::vector<std::string> labels;
};
int Ps(Context& context, const PsArgs& args);

struct KillArgs {
  std::vector<std::string> commands;
  Text signal, scope, grace;  // without a signal: a verified kill of the whole tree
};
int Kill(Context& context, const KillArgs& args);
int Wait(Context& context, const std::string& command, const Text& timeout);

int Info(Context& context);
int Capabilities(Context& context);
int Drain(Context& context);

// What the functions above share.

// Prints the failure and returns 125.
int Fail(const absl::Status& status);
// Writes data to stdout; the exit code says whether that worked.
int Print(const std::string& data);
// The text of a message, in the context's format; `table` is used for Format::kTable.
std::string Formatted(const Context& context, const google::protobuf::Message& message,
                      const std::string& table);
// Of a call on several names `-o json` gives one document: an array.
bool AsArray(const Context& context, size_t names);
int PrintArray(const std::vector<const google::protobuf::Message*>& messages);
// KEY=VALUE texts into a map; a key that comes twice is refused.
absl::Status FillPairs(const std::vector<std::string>& texts, std::string_view what,
                       google::protobuf::Map<std::string, std::string>* out);
// "state=READY AND label.a=b"
std::string Filter(const Text& state, const Text& backend, const std::vector<std::string>& labels);
// The given request id, which must be a UUID, or a new one.
absl::StatusOr<std::string> RequestId(const Text& given);
int64_t NowSeconds();

}  // namespace hermes::client
