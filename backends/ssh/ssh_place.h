#pragma once

// How hermes-runner comes to a far host: the one command that finds it there and becomes it, or
// asks for it first. Pure text; the conversation is in ssh_runner.h. The command means the same in
// every login shell: it is `sh -c` with one line in single quotes, and no single quote, backslash,
// "!" or newline inside.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hermes::ssh {

// One program that could be put there. An empty digest: this daemon carries none.
struct Program {
  std::string sha256;  // 64 hex digits
  size_t bytes = 0;
};

struct PlaceQuestion {
  std::string directory;  // of the runner: two links never share one
  std::string nonce;      // marks our lines among what a login shell may say
  Program x86_64;
  Program aarch64;
  bool files = false;  // it becomes a file service instead of the runner's link
};

std::string PlaceCommand(const PlaceQuestion& question);

// Ends the runner of `directory` and removes what PlaceCommand and the runner made, unless a
// session has state there or a command is left. What other daemons use stays.
std::string LeaveCommand(const std::string& directory);

// The first marked line: what the place is, and whether the runner starts now (kRun: the stream is
// its from here on), waits for its program's bytes (kPut), or cannot run there (kNone).
struct PlaceAnswer {
  enum class Verdict { kRun, kPut, kNone };
  Verdict verdict = Verdict::kNone;
  std::string arch;   // as uname names it
  std::string os;     // as uname names it
  std::string tools;  // those that are there, comma-separated
  std::string shell;  // the login shell
  std::string text;   // the runner's directory; of kNone: why not
};

// nullopt: `line` (without its newline) is not the marked line. Hostile input.
std::optional<PlaceAnswer> ParsePlaceAnswer(std::string_view line, std::string_view nonce);

// The line after the bytes: true: stored, the runner starts now; false: damaged on the way or no
// room. nullopt: not a marked line.
std::optional<bool> ParsePutAnswer(std::string_view line, std::string_view nonce);

}  // namespace hermes::ssh
