#include "backends/runner/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "backends/engine/script.h"
#include "backends/runner/terminal.h"

namespace hermes::runner {
namespace {

using frames::LaunchStage;

// A directory that somebody removed must not make its session useless: the nearest parent serves,
// as it would in a shell that stood there.
std::string NearestDirectory(std::string path) {
  while (path.size() > 1 && !IsDirectory(path)) {
    size_t slash = path.rfind('/');
    path.resize(slash == std::string::npos || slash == 0 ? 1 : slash);
    if (path[0] != '/') path = "/";
  }
  return path.empty() ? "/" : path;
}

std::string WorkingDirectory(const frames::Start& start, const shell::State& state,
                             const Place& place) {
  if (start.cwd.empty()) return NearestDirectory(state.cwd);
  auto home = state.env.find("HOME");
  std::string cwd = ExpandHome(start.cwd, home != state.env.end() ? home->second : place.home);
  return cwd.substr(0, 1) == "/" ? cwd : state.cwd + "/" + cwd;
}

void SetEnvironment(const frames::Start& start, const Session& session, const Place& place,
                    Prepared& prepared) {
  std::map<std::string, std::string> env = prepared.capture.base->env;
  auto set = [&](const std::string& name, const std::string& value) {
    if (name.empty() || name.find('=') != std::string::npos) return;
    env[name] = value;
    prepared.capture.not_kept.insert(name);
  };
  if (start.pty != 0) set("TERM", start.term.empty() ? "xterm-256color" : start.term);
  if (!session.sudo_password.empty()) set("SUDO_ASKPASS", place.askpass_path());
  for (const auto& [name, value] : start.env) set(name, value);
  for (const auto& [name, value] : start.secret_env) set(name, value);
  env["PWD"] = prepared.launch.cwd;
  prepared.launch.search = env.count("PATH") != 0 ? env["PATH"] : "/usr/local/bin:/usr/bin:/bin";
  for (const auto& [name, value] : env) prepared.launch.AddVariable(name, value);
}

void SetCapture(const frames::Start& start, const Place& place, Capture& capture) {
  capture.commit_cwd = start.cwd.empty();
  if (start.form != frames::Form::kScript)
    capture.why_not = "argv";
  else if (start.state_mode == frames::StateMode::kReadOnly)
    capture.why_not = "read only";
  else if (start.state_mode == frames::StateMode::kIsolated)
    capture.why_not = "isolated";
  else
    capture.path = place.run_directory + "/" + RandomHex(16);
  capture.nonce = RandomHex(16);
}

void SetProgram(const Place& place, Launch& launch) {
  launch.program = place.shell_path;
  std::string boot(shell::Boot(place.shell));
  if (place.shell == shell::Kind::kBash)
    launch.argv = {"bash", "--norc", "--noprofile", "-c", boot};
  else
    launch.argv = {"sh", "-c", boot};
}

LaunchFailure SetShell(const frames::Start& start, const Session& session, const Place& place,
                       Prepared& prepared) {
  if (place.shell_path.empty()) return {.stage = LaunchStage::kNotFound, .error = ENOENT};
  Launch& launch = prepared.launch;
  SetProgram(place, launch);
  shell::Command command{.script = start.script,
                         .cwd = "",  // it starts there already
                         .env = {},
                         .ahead = false,
                         .capture_path = prepared.capture.path,
                         .nonce = prepared.capture.nonce};
  bool askpass = !session.sudo_password.empty();
  std::string prelude = shell::Prelude(place.shell, *prepared.capture.base, askpass);
  std::string text = shell::CommandText(place.shell, command);
  prepared.theirs[3] = TextFile(text, place.run_directory);
  prepared.theirs[4] = TextFile(prelude, place.run_directory);
  launch.command_fd = prepared.theirs[3].get();
  launch.prelude_fd = prepared.theirs[4].get();
  if (launch.command_fd < 0 || launch.prelude_fd < 0)
    return {.stage = LaunchStage::kResources, .error = errno};
  return {};
}

LaunchFailure SetTerminal(const frames::Start& start, Prepared& prepared) {
  Fd master;
  if (!OpenTerminal(start.cols, start.rows, &master, &prepared.theirs[0]))
    return {.stage = LaunchStage::kPty, .error = errno};
  prepared.in.Reset(fcntl(master.get(), F_DUPFD_CLOEXEC, 0));
  prepared.out = std::move(master);
  int slave = prepared.theirs[0].get();
  Launch& launch = prepared.launch;
  launch.pty = true;
  launch.stdin_fd = launch.stdout_fd = launch.stderr_fd = slave;
  return {};
}

LaunchFailure SetPipes(const Pipes& pipes, Prepared& prepared) {
  bool ok = MakePipe(&prepared.out, &prepared.theirs[1]);
  if (!pipes.merged) ok = ok && MakePipe(&prepared.err, &prepared.theirs[2]);
  if (pipes.stdin_open) ok = ok && MakePipe(&prepared.theirs[0], &prepared.in);
  if (!ok) return {.stage = LaunchStage::kResources, .error = errno};
  Launch& launch = prepared.launch;
  launch.stdin_fd = prepared.theirs[0].get();
  launch.stdout_fd = prepared.theirs[1].get();
  launch.stderr_fd = pipes.merged ? launch.stdout_fd : prepared.theirs[2].get();
  return {};
}

// A directory that `cd` enters exactly as a shell that is started there names it.
bool CanBeEnteredLater(const std::string& path) {
  if (path.empty() || path[0] != '/') return false;
  std::string_view rest = std::string_view(path).substr(1);
  while (!rest.empty()) {
    size_t end = std::min(rest.find('/'), rest.size());
    std::string_view part = rest.substr(0, end);
    if (part.empty() || part == "." || part == ".." || end + 1 == rest.size()) return false;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return IsDirectory(path) && access(path.c_str(), X_OK) == 0;
}

bool AddVariables(const frames::Pairs& from, frames::Pairs& to, std::set<std::string>& names) {
  for (const auto& [name, value] : from) {
    if (!shell::CanBeSetLater(name) || value.find('\0') != std::string::npos) return false;
    to.emplace_back(name, value);
    names.insert(name);
  }
  return true;
}

}  // namespace

Pipes PipesOf(const frames::Start& start) {
  return {.stdin_open = start.stdin_kind == frames::StdinKind::kOpen,
          .merged = start.merge_stderr != 0};
}

PreparedAhead PrepareAhead(SessionTable& sessions, Session& session, const Place& place) {
  PreparedAhead ahead;
  Prepared& prepared = ahead.prepared;
  prepared.failure = {.stage = LaunchStage::kOther, .error = EIO};
  prepared.capture.base = sessions.Current(session);
  if (!prepared.capture.base || place.shell != shell::Kind::kBash) return ahead;
  for (const auto& [name, value] : prepared.capture.base->env)
    if (!shell::CanWait(name)) return ahead;
  Launch& launch = prepared.launch;
  launch.cwd = "/";
  launch.ahead = true;
  launch.open_files = place.open_files;
  frames::Start nothing;
  SetEnvironment(nothing, session, place, prepared);
  SetProgram(place, launch);
  bool askpass = !session.sudo_password.empty();
  std::string prelude = shell::Prelude(place.shell, *prepared.capture.base, askpass);
  prelude += shell::ReadyLine(place.shell);
  prepared.theirs[4] = TextFile(prelude, place.run_directory);
  if (!prepared.theirs[4].valid() || !MakePipe(&prepared.theirs[3], &ahead.text) ||
      !MakePipe(&ahead.ready, &prepared.theirs[5]))
    return ahead;
  launch.command_fd = prepared.theirs[3].get();
  launch.prelude_fd = prepared.theirs[4].get();
  launch.ready_fd = prepared.theirs[5].get();
  prepared.failure = SetPipes(session.pipes, prepared);
  return ahead;
}

std::optional<std::string> TextAhead(const frames::Start& start, const Session& session,
                                     const Place& place, Capture& capture) {
  frames::Pairs env;
  if (!AddVariables(start.env, env, capture.not_kept)) return std::nullopt;
  if (!AddVariables(start.secret_env, env, capture.not_kept)) return std::nullopt;
  std::string cwd = WorkingDirectory(start, *capture.base, place);
  if (!CanBeEnteredLater(cwd)) return std::nullopt;
  SetCapture(start, place, capture);
  return shell::CommandText(place.shell, {.script = start.script,
                                          .cwd = cwd,
                                          .env = std::move(env),
                                          .ahead = true,
                                          .capture_path = capture.path,
                                          .nonce = capture.nonce});
}

Prepared Prepare(const frames::Start& start, SessionTable& sessions, Session& session,
                 const Place& place) {
  Prepared prepared;
  bool isolated = start.state_mode == frames::StateMode::kIsolated;
  prepared.capture.base = isolated ? sessions.First(session) : sessions.Current(session);
  if (!prepared.capture.base) {
    prepared.failure = {.stage = LaunchStage::kOther, .error = EIO};
    return prepared;
  }
  Launch& launch = prepared.launch;
  launch.cwd = WorkingDirectory(start, *prepared.capture.base, place);
  launch.deadline_ms = start.deadline_ms;
  launch.grace_ms = start.grace_ms;
  launch.open_files = place.open_files;
  SetEnvironment(start, session, place, prepared);
  SetCapture(start, place, prepared.capture);
  if (start.form == frames::Form::kArgv) {
    launch.argv = start.argv;
    if (!start.argv.empty()) launch.program = start.argv[0];
  } else if (start.form == frames::Form::kFiles) {
    launch.files = true;
    launch.cwd = "/";
  } else {
    prepared.failure = SetShell(start, session, place, prepared);
  }
  if (prepared.failure.stage == LaunchStage::kNone)
    prepared.failure =
        start.pty != 0 ? SetTerminal(start, prepared) : SetPipes(PipesOf(start), prepared);
  return prepared;
}

}  // namespace hermes::runner
