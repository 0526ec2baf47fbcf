// Sub-commands that run commands or join running ones.

#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <iostream>

#include "client/commands.h"
#include "client/error.h"
#include "client/foreground.h"
#include "client/outcome.h"
#include "client/parse.h"
#include "client/terminal.h"
#include "client/text.h"

namespace hermes::client {
namespace {

absl::Status NotOneOf(std::string_view option, const std::string& text, std::string_view choices) {
  return absl::InvalidArgumentError(std::string(option) + " '" + text + "' is not one of " +
                                    std::string(choices));
}

absl::StatusOr<v1::OnDisconnect> ParseOnDisconnect(const ExecArgs& args) {
  // Whoever chose the request id can come back to the command; nobody else can.
  if (!args.on_disconnect) return args.request_id ? v1::DETACH : v1::CANCEL_AFTER_GRACE;
  if (*args.on_disconnect == "detach") return v1::DETACH;
  if (*args.on_disconnect == "cancel") return v1::CANCEL;
  if (*args.on_disconnect == "cancel-after-grace") return v1::CANCEL_AFTER_GRACE;
  return NotOneOf("--on-disconnect", *args.on_disconnect, "detach, cancel, cancel-after-grace");
}

absl::StatusOr<v1::StateMode> ParseState(const std::string& text) {
  if (text == "commit") return v1::COMMIT;
  if (text == "read-only") return v1::READ_ONLY;
  if (text == "isolated") return v1::ISOLATED;
  return NotOneOf("--state", text, "commit, read-only, isolated");
}

absl::StatusOr<v1::OutputPolicy::Overflow> ParseOverflow(const std::string& text) {
  if (text == "drop") return v1::OutputPolicy::DROP_MIDDLE;
  if (text == "block") return v1::OutputPolicy::BLOCK_PROCESS;
  if (text == "kill") return v1::OutputPolicy::KILL;
  return NotOneOf("--overflow", text, "drop, block, kill");
}

// A script may be longer than what the kernel lets through as one argument (128 KiB).
absl::StatusOr<std::string> ReadScript(const std::string& file) {
  constexpr size_t kMostBytes = 4 << 20;  // of the API; longer is refused here
  std::ifstream stream;
  if (file != "-") stream.open(file, std::ios::binary);
  std::istream& in = file == "-" ? std::cin : stream;
  std::string script(kMostBytes + 1, '\0');
  in.read(script.data(), static_cast<std::streamsize>(script.size()));
  script.resize(static_cast<size_t>(in.gcount()));
  if (in.bad() || (file != "-" && !stream.is_open())) {
    return absl::InvalidArgumentError("--file " + file + " cannot be read");
  }
  if (script.size() > kMostBytes) {
    return absl::InvalidArgumentError("--file " + file + " is longer than 4 MiB");
  }
  return script;
}

absl::Status FillScriptFile(const ExecArgs& args, v1::ExecuteRequest* request) {
  if (!args.words.empty() || args.argv) {
    return absl::InvalidArgumentError("--file does not go with words after -- or --argv");
  }
  if (*args.file == "-" && (args.interactive || args.tty)) {
    return absl::InvalidArgumentError("--file - takes stdin; it does not go with -i or --tty");
  }
  CLIENT_TRY(*request->mutable_shell(), ReadScript(*args.file));
  return absl::OkStatus();
}

absl::Status FillProgram(const ExecArgs& args, v1::ExecuteRequest* request) {
  if (args.file) return FillScriptFile(args, request);
  if (args.words.empty()) {
    return absl::InvalidArgumentError(
        "nothing to run: put a shell script after --, or with --argv a program and its arguments");
  }
  if (args.argv) {
    for (const std::string& word : args.words) request->mutable_argv()->add_args(word);
    return absl::OkStatus();
  }
  std::string script;
  for (const std::string& word : args.words) script += (script.empty() ? "" : " ") + word;
  request->set_shell(script);
  return absl::OkStatus();
}

absl::Status FillEnvironment(const ExecArgs& args, v1::ExecuteRequest* request) {
  absl::Status filled = FillPairs(args.env, "--env", request->mutable_env());
  if (!filled.ok()) return filled;
  for (const std::string& name : args.secret_env) {
    const char* value = getenv(name.c_str());
    if (value == nullptr || name.empty()) {
      return absl::InvalidArgumentError("--secret-env " + name +
                                        ": hermesctl's own environment has no such variable");
    }
    (*request->mutable_secret_env())[name] = value;
  }
  return FillPairs(args.labels, "--label", request->mutable_labels());
}

absl::Status FillLimits(const ExecArgs& args, v1::ExecuteRequest* request) {
  if (args.timeout) {
    CLIENT_TRY(*request->mutable_run_timeout(), ParseDuration(*args.timeout));
  }
  if (args.kill_grace) {
    CLIENT_TRY(*request->mutable_kill_grace(), ParseDuration(*args.kill_grace));
  }
  v1::OutputPolicy& output = *request->mutable_output();
  output.set_merge_stderr(args.merge);
  if (args.output_limit) {
    CLIENT_TRY(uint64_t limit, ParseSize(*args.output_limit));
    output.set_limit_bytes(limit);
  }
  if (args.overflow) {
    CLIENT_TRY(v1::OutputPolicy::Overflow overflow, ParseOverflow(*args.overflow));
    output.set_overflow(overflow);
  }
  return absl::OkStatus();
}

absl::Status CheckTogether(const Context& context, const ExecArgs& args) {
  if (args.tty && context.format != Format::kTable) {
    return absl::InvalidArgumentError("--tty shows a terminal; it does not go with -o");
  }
  if (args.tty && args.detach) {
    return absl::InvalidArgumentError("--tty needs a foreground; it does not go with --detach");
  }
  return absl::OkStatus();
}

int StartDetached(Context& context, const v1::ExecuteRequest& request) {
  absl::StatusOr<v1::Command> command = context.connection.StartCommand(request);
  if (!command.ok()) return Fail(command.status());
  int printed = Print(Formatted(context, *command, ForTerminal(ShortName(command->name())) + "\n"));
  if (command->state() != v1::Command::NEVER_STARTED) return printed;
  Say(ForTerminal(DescribeEnd(*command)));
  return ExitCodeOf(*command);
}

}  // namespace

absl::StatusOr<v1::ExecuteRequest> BuildExecute(const ExecArgs& args) {
  v1::ExecuteRequest request;
  CLIENT_TRY(*request.mutable_request_id(), RequestId(args.request_id));
  CLIENT_TRY(*request.mutable_session(), ParseSession(args.session));
  if (absl::Status s = FillProgram(args, &request); !s.ok()) return s;
  if (absl::Status s = FillEnvironment(args, &request); !s.ok()) return s;
  if (absl::Status s = FillLimits(args, &request); !s.ok()) return s;
  if (args.cwd) request.set_cwd(*args.cwd);
  request.set_stdin(args.interactive || args.tty ? v1::STDIN_OPEN : v1::STDIN_NULL);
  if (args.tty) *request.mutable_pty() = CurrentTerminal();
  CLIENT_TRY(v1::OnDisconnect on_disconnect, ParseOnDisconnect(args));
  request.set_on_disconnect(args.detach ? v1::DETACH : on_disconnect);
  if (args.state) {
    CLIENT_TRY(v1::StateMode state, ParseState(*args.state));
    request.set_state_mode(state);
  }
  if (const char* force = getenv("HERMES_FORCE_FILE_SYNC"); force != nullptr && *force != '\0') {
    request.set_sync_before(v1::FORCE);
  }
  if (args.no_sync) request.set_sync_before(v1::SKIP);
  return request;
}

int Exec(Context& context, const ExecArgs& args) {
  absl::StatusOr<v1::ExecuteRequest> request = BuildExecute(args);
  if (!request.ok()) return Fail(request.status());
  if (absl::Status status = CheckTogether(context, args); !status.ok()) return Fail(status);
  if (args.detach) return StartDetached(context, *request);
  Foreground foreground;
  foreground.format = context.format;
  foreground.tty = args.tty;
  foreground.interactive = args.interactive || (args.tty && isatty(STDIN_FILENO) != 0);
  foreground.cancel_on_closed_output = request->on_disconnect() != v1::DETACH;
  foreground.target.start = *std::move(request);
  foreground.target.interact = args.tty;
  return RunForeground(context.connection, std::move(foreground));
}

int Shell(Context& context, const std::string& session) {
  ExecArgs args;
  args.session = session;
  args.words = {"exec \"${SHELL:-bash}\" -i"};
  args.tty = true;
  args.interactive = true;
  return Exec(context, args);
}

int Attach(Context& context, const AttachArgs& args) {
  absl::StatusOr<std::string> name = ParseCommand(args.command);
  if (!name.ok()) return Fail(name.status());
  Foreground foreground;
  foreground.format = context.format;
  foreground.interactive = args.interactive || args.tty;
  foreground.tty = args.tty;
  // Whoever attaches did not start the command: what it does when all have left, it has declared.
  foreground.cancel_on_interrupt = false;
  foreground.cancel_on_closed_output = false;
  foreground.target.name = *name;
  foreground.target.from.set_stdout_offset(args.from_stdout);
  foreground.target.from.set_stderr_offset(args.from_stderr);
  foreground.target.interact = args.tty;
  return RunForeground(context.connection, std::move(foreground));
}

}  // namespace hermes::client
