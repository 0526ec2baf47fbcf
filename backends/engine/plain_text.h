#pragma once

// What the plain engine says to a far shell: the constant boot lines and the texts that their
// readers take from stdin and run. Pure: strings in, strings out. The far side answers with marked
// lines (plain_scanner.h). A text is evaluated by a shell of ours (the reader), which stays between
// the stream and the command: the command is its child, in a process group of its own, and never
// sees the mark that ends it.
//
// A mark is kMarkByte and random hex digits. Lines after the end mark:
//   b<directory>  p<path of the shell>  d<working directory>  t<1: there is a setsid>
//   s<base64> or h<hex>               a piece of the captured state, in order
//   k<signalled> <survivors> <pid>... what a kill found
//   e<status> <signalled> <watchdog>  the last line; on stderr, too
// The line after the start mark tells the command's pid, or one of the kLaunch words below: nothing
// was started.

#include <cstdint>
#include <string>
#include <string_view>

#include "backends/backend.h"
#include "backends/engine/shell_state.h"

namespace hermes::plain {

inline constexpr char kMarkByte = '\x1e';  // seldom the last byte of a piece of output
inline constexpr std::string_view kCookieName = "HERMES_RUN_COOKIE";
// Added to the number of survivors (at most 20) when the watchdog killed the command.
inline constexpr int kWatchdogStatus = 40;
inline constexpr int kMaxToldSurvivors = 20;

inline constexpr std::string_view kLaunchBadCwd = "cwd";
inline constexpr std::string_view kLaunchNotFound = "notfound";
inline constexpr std::string_view kLaunchNotExecutable = "noexec";

// Means the same in every login shell: no single quote, backslash, "!" or newline inside. It reads
// a line with the number of bytes of the text, then that many, and nothing more; of a text that was
// cut off on its way it runs nothing.
std::string_view BootLine(shell::Kind kind);
// What is written first for `text`: its length line and the text.
std::string Framed(std::string_view text);

// What was learned of the place when the session opened.
struct Far {
  shell::Kind kind = shell::Kind::kBash;
  std::string shell_path;  // of the commands' shell
  std::string run_directory;
  bool setsid = false;
};

// Finds out what Far holds and captures the login environment (or, with `login` false, the one that
// the place gives to programs).
std::string OpenText(shell::Kind kind, std::string_view mark, std::string_view nonce, bool login);

struct LadderSpec {
  std::string roots;   // pids of running commands, each with a space before and after
  std::string cookie;  // the value, or the beginning of several
  int64_t grace_ms = 0;
};
std::string KillText(std::string_view mark, const LadderSpec& spec);
// Signals once: the whole tree, or its roots only.
std::string SignalText(std::string_view mark, const LadderSpec& spec, int signal, bool whole_tree);

struct RunSpec {
  const CommandSpec* command = nullptr;  // outlives the call
  const shell::State* state = nullptr;   // that it starts from; outlives the call
  std::string cwd;                       // absolute
  bool nearest = false;                  // a missing cwd: its nearest parent serves
  std::string capture_path;              // empty: state is not captured
  std::string capture_nonce;
  std::string cookie;
  std::string start_mark;
  std::string end_mark;
};
std::string RunText(const Far& far, const RunSpec& spec);

}  // namespace hermes::plain
