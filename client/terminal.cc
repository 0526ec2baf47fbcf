#include "client/terminal.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <string>

namespace hermes::client {
namespace {

// What stdin's terminal was before RawMode. Never destroyed: it is used at exit.
struct Saved {
  std::mutex mutex;
  bool raw = false;
  termios before{};
};

Saved& State() {
  static auto* state = new Saved;
  return *state;
}

bool IsRaw() {
  std::lock_guard lock(State().mutex);
  return State().raw;
}

}  // namespace

WriteResult WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    ssize_t count = write(fd, data.data(), data.size());
    if (count >= 0) {
      data.remove_prefix(static_cast<size_t>(count));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      // Somebody who shares the descriptor made it non-blocking.
      pollfd wait{fd, POLLOUT, 0};
      poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      return errno == EPIPE ? WriteResult::kClosed : WriteResult::kFailed;
    }
  }
  return WriteResult::kOk;
}

void Say(std::string_view message) { SayText("hermesctl: " + std::string(message) + "\n"); }

void SayText(std::string_view text) {
  std::string out(text);
  if (IsRaw()) {
    for (size_t at = 0; (at = out.find('\n', at)) != std::string::npos; at += 2) {
      out.replace(at, 1, "\r\n");
    }
  }
  WriteAll(STDERR_FILENO, out);
}

RawMode::RawMode() {
  std::lock_guard lock(State().mutex);
  if (tcgetattr(STDIN_FILENO, &State().before) != 0) return;
  static bool registered = (atexit(RestoreTerminal), true);
  static_cast<void>(registered);
  termios raw = State().before;
  cfmakeraw(&raw);
  State().raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

RawMode::~RawMode() { RestoreTerminal(); }

void RestoreTerminal() {
  std::lock_guard lock(State().mutex);
  if (!State().raw) return;
  tcsetattr(STDIN_FILENO, TCSADRAIN, &State().before);
  State().raw = false;
}

v1::Pty CurrentTerminal() {
  v1::Pty pty;
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0) {
    pty.set_cols(size.ws_col);
    pty.set_rows(size.ws_row);
    const char* term = getenv("TERM");
    if (term != nullptr) pty.set_term(term);
  }
  return pty;
}

bool ReadSecretLine(std::string_view prompt, std::string* line) {
  termios before{};
  bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
  if (terminal) {
    SayText(prompt);
    termios silent = before;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
  }
  bool any = false;
  // Byte by byte: what follows the line belongs to somebody else.
  for (char c = 0; read(STDIN_FILENO, &c, 1) == 1;) {
    any = true;
    if (c == '\n') break;
    *line += c;
  }
  if (terminal) {
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    SayText("\n");
  }
  return any;
}

}  // namespace hermes::client
