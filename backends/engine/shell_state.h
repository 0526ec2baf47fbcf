#pragma once

// What a session's shell keeps from one command to the next: exported variables, functions, aliases
// and the working directory; how a shell's own listing of them is parsed (as hostile input), merged
// and stored. Pure values and pure functions, shared by the daemon (plain engine) and the runner,
// so: std::string, containers, no exceptions, no I/O.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace hermes::shell {

enum class Kind : uint8_t { kBash = 1, kSh = 2 };

inline constexpr size_t kMaxStateBytes =
    4 << 20;  // of one capture; a larger one is not committed ("too large")
// The kernel takes no longer single string in an environment; a longer exported variable is left
// out of the state (every program start in that shell would fail with E2BIG anyway).
inline constexpr size_t kMaxVariableBytes = (128 << 10) - 1;

struct Function {
  std::string body;  // as bash prints it: "name () \n{ ... }"
  bool exported = false;
  bool operator==(const Function&) const = default;
};

struct State {
  std::map<std::string, std::string> env;  // raw values
  std::map<std::string, Function> functions;
  std::map<std::string, std::string> aliases;  // raw values
  std::string cwd;
  bool operator==(const State&) const = default;
};

// One shell word made of '..', "..", $'..', backslashes and plain characters, in any mix, as shells
// print values. nullopt: not one whole well-formed word. Never expands anything.
std::optional<std::string> Unquote(std::string_view word);

// [A-Za-z_][A-Za-z0-9_]*: what a shell takes for the name of a variable.
bool IsIdentifier(std::string_view name);

// Functions that would stand between our own text and the shell's builtins: neither captured nor
// restored.
inline bool IsReservedFunction(std::string_view name) {
  return name == "builtin" || name == "command";
}

// The sudo function that the prelude gives to a session with a password, as bash prints it: never
// part of a state.
inline constexpr std::string_view kAskpassSudo = "sudo () \n{ \n    command sudo -A \"$@\"\n}";

// `text` as one single-quoted shell word, valid in every POSIX shell.
std::string Quote(std::string_view text);

// Parses what the capture hook wrote (see script.h). nullopt: incomplete or malformed; `*why` says
// so in a few words fit for CommandInfo ("no trailer", "too large", ...). Read-only variables,
// names that are not identifiers, the shell's own bookkeeping (_, SHLVL, PWD, BASHOPTS, SHELLOPTS,
// ...) and ours are left out.
std::optional<State> ParseCapture(Kind kind, std::string_view captured, std::string_view nonce,
                                  std::string* why);

// Three-way merge by name: what differs between `base` (the state the command started from) and
// `after` is applied to `session`; names in `not_kept` (env and secret_env of the command) are
// passed over; cwd only with `commit_cwd`. True if `session` changed.
bool Merge(const State& base, const State& after, const std::set<std::string>& not_kept,
           bool commit_cwd, State* session);

// The stored form; Decode accepts exactly what Encode makes.
std::string Encode(const State& state);
std::optional<State> Decode(std::string_view text);

}  // namespace hermes::shell
