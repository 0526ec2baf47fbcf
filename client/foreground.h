#pragma once

// A command in the foreground: output out, stdin in, signals and window changes on, exit code back.

#include "client/connection.h"
#include "client/follow.h"

namespace hermes::client {

struct Foreground {
  FollowTarget target;
  Format format = Format::kTable;
  bool interactive = false;  // stdin goes to the command
  bool tty = false;          // our terminal is raw, its size is the command's
  // Ctrl-C and a closed output cancel the command; otherwise they only end hermesctl.
  bool cancel_on_interrupt = true;
  bool cancel_on_closed_output = true;
};

// Blocks SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGWINCH for good: call it from the main thread
// before the connection's first call. Returns the process's exit code.
int RunForeground(Connection& connection, Foreground foreground);

}  // namespace hermes::client
