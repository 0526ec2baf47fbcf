#pragma once

// The text that a shell on the far side runs for one command. Pure: strings in, strings out; fuzzed; shared by the
// daemon (plain engine) and the runner.
//
// The far end starts `bash --norc --noprofile -c kBoot` (or sh) with two readable descriptors: 9 holds the prelude
// (functions, aliases), 8 the command text. Exported variables travel in the process environment, not in text.
// Both texts close their descriptor first, so nothing of ours is inherited by what the user runs. A shell may be
// started ahead of time: it sources 9 at once and blocks reading 8 until the command comes.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/engine/shell_state.h"

namespace hermes::shell {

inline constexpr int kCommandFd = 8;
inline constexpr int kPreludeFd = 9;

// The constant argument of -c: the same for every command, so `ps` shows nothing of the user's.
std::string_view Boot(Kind kind);

// Functions and aliases of `state`, for descriptor 9. Safe whatever names and values the state holds: malformed ones
// are left out, values are quoted, never expanded. A function called `builtin` is never restored.
std::string Prelude(Kind kind, const State& state, bool sudo_askpass);

struct Command {
  std::string_view script;
  std::string_view cwd;  // where it runs; a failing cd ends the shell with kBadCwdExit before the script starts
  std::vector<std::pair<std::string, std::string>> env;  // exported here as text: only for a shell started ahead
  std::string_view capture_path;  // where the hook writes the state; empty: state is not captured
  std::string_view nonce;         // unguessable; begins and ends the capture
};

inline constexpr int kBadCwdExit = 126;

// The command text for descriptor 8: close it, cd, run the script as `bash -c` would (line numbers from 1, $0 = the
// shell's name, aliases expanded, no -e from us), capture inline at its end, by an EXIT hook when it ends early; exit
// with the script's status. xtrace is off during the hook and leaves no trace line of ours.
std::string CommandText(Kind kind, const Command& command);

// For the login environment of a new session: run by a login shell, writes one capture to `capture_path`.
std::string LoginCaptureText(Kind kind, std::string_view capture_path, std::string_view nonce);

}  // namespace hermes::shell
