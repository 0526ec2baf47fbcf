#pragma once

// The terminal and the standard streams. The raw state is one per process: whatever way the process
// ends, short of SIGKILL, RestoreTerminal runs (by RawMode's end, at exit, or from the signal
// thread).

#include <string>
#include <string_view>

#include "hermes/v1/exec.pb.h"

namespace hermes::client {

enum class WriteResult { kOk, kClosed, kFailed };  // kClosed: the reader is gone (EPIPE)

// Writes all of it, unbuffered; waits where the descriptor would block.
WriteResult WriteAll(int fd, std::string_view data);

// "hermesctl: <message>\n" on stderr; line ends fit a raw terminal. Thread-safe.
void Say(std::string_view message);
// As Say, without the prefix: text that is complete already.
void SayText(std::string_view text);

// Raw mode of stdin's terminal for the lifetime of this object; nothing where stdin is no terminal.
class RawMode {
 public:
  RawMode();
  ~RawMode();
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;
};

// Idempotent and thread-safe.
void RestoreTerminal();

// Size and kind of our own terminal (of stdout, else stdin); zeros where there is none.
v1::Pty CurrentTerminal();

// One line from stdin without its line end; on a terminal with a prompt and without echo.
// False: stdin ended without any byte.
bool ReadSecretLine(std::string_view prompt, std::string* line);

}  // namespace hermes::client
