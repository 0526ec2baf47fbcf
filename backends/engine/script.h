#pragma once

// The text that a shell on the far side runs for one command. Pure: strings in, strings out;
// fuzzed; shared by the daemon (plain engine) and the runner.
//
// The far end starts `bash --norc --noprofile -c Boot` (or `sh -c Boot`) in the session's directory
// with PWD naming it, the session's variables in its environment, and two descriptors that
// /dev/fd/N can open again (a memfd, a file, a pipe or a FIFO; not a socket): 9 holds the prelude
// (functions, aliases), 8 the command text. The boot sources both, closes both, then runs what the
// command text assigned. So a shell may be started ahead of time: it sources 9 at once and blocks
// on 8, a pipe, until the command text and its end of file come. With ReadyLine at the end of its
// prelude it says when it is there.
//
// Differences from `bash -c` that a script can see: expand_aliases is on; an EXIT trap is set while
// it has none of its own (`set -v` prints it at an early exit); a trace line begins with "+++" for
// "+"; a syntax error is reported by "eval" for "-c"; a script cannot be too long for an argument.
// Of a shell that was started ahead only: /proc/$$/environ shows the session's variables without
// the command's (its children have them all), `ps` an older start, `declare -p SECONDS` a 0 at
// once.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/engine/shell_state.h"

namespace hermes::shell {

inline constexpr int kReadyFd = 7;
inline constexpr int kCommandFd = 8;
inline constexpr int kPreludeFd = 9;

// The constant argument of -c: the same for every command, so `ps` shows nothing of the user's.
std::string_view Boot(Kind kind);

// Functions and aliases of `state`, for descriptor 9. Safe whatever names and values the state
// holds: malformed ones are left out, values are quoted, never expanded. A function called
// `builtin` is never restored.
std::string Prelude(Kind kind, const State& state, bool sudo_askpass);

// For the end of the prelude of a shell that is started ahead: one byte for descriptor 7, closed
// then.
std::string_view ReadyLine(Kind kind);

// Whether a shell that was started ahead, once this variable is exported in it, is like one that
// was started with it: not for names that only the start of a shell or of a program looks at.
bool CanBeSetLater(std::string_view name);
// Whether a shell with this variable may be started ahead: not for one that runs code at its start
// or counts time.
bool CanWait(std::string_view name);

struct Command {
  std::string_view script;  // without NUL
  // Where it runs; empty: where the shell is. A failing cd ends the shell silently with kBadCwdExit
  // before the script starts. OLDPWD is not touched.
  std::string_view cwd;
  // Exported here as text: only for a shell started ahead. Bad names are left out.
  std::vector<std::pair<std::string, std::string>> env;
  bool ahead = false;  // the shell was started ahead: its SECONDS begin now
  // Where the hook writes the state, a regular file in a private directory or a FIFO; opened only
  // at that moment, overwritten. One that was not there gets its mode by the script's umask. Empty:
  // state is not captured.
  std::string_view capture_path;
  std::string_view nonce;  // unguessable; begins and ends the capture; not empty, without NUL
};

inline constexpr int kBadCwdExit = 126;

// The command text for descriptor 8: cd, run the script as `bash -c` would (line numbers from 1, $0
// = the shell's name, no -e from us), capture inline at its end, by an EXIT hook when it ends
// early; exit with the script's status, whatever becomes of the capture. Nothing is captured when
// the script becomes another program (exec) or an EXIT trap of its own ends it early. The hook
// forks nothing and leaves no trace line of ours (but one in a BASH_XTRACEFD file above 2).
std::string CommandText(Kind kind, const Command& command);

// For the login environment of a new session: run by a login shell, writes one capture to
// `capture_path`.
std::string LoginCaptureText(Kind kind, std::string_view capture_path, std::string_view nonce);

}  // namespace hermes::shell
