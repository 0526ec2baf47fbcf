#pragma once

// From a START frame to a Launch: environment, working directory, script texts, pipes or terminal,
// and how the state will be captured.

#include "backends/engine/frames.h"
#include "backends/runner/commit.h"
#include "backends/runner/launch.h"
#include "backends/runner/place.h"
#include "backends/runner/session.h"
#include "backends/runner/sys.h"

namespace hermes::runner {

struct Prepared {
  Launch launch;
  Capture capture;
  // The runner's ends. No `err` when it is merged or a terminal.
  Fd in;
  Fd out;
  Fd err;
  // The command's ends, closed after the fork.
  Fd theirs[5];
  LaunchFailure failure;  // stage other than kNone: nothing can be started
};

Prepared Prepare(const frames::Start& start, SessionTable& sessions, Session& session,
                 const Place& place);

}  // namespace hermes::runner
