#pragma once

// From a START frame to a Launch: environment, working directory, script texts, pipes or terminal,
// and how the state will be captured.

#include <optional>
#include <string>

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
  Fd theirs[6];
  LaunchFailure failure;  // stage other than kNone: nothing can be started
};

Pipes PipesOf(const frames::Start& start);
Prepared Prepare(const frames::Start& start, SessionTable& sessions, Session& session,
                 const Place& place);

// A shell for a command that is still to come: with the session's state, in "/". `text` is the
// pipe that its command text goes into, `ready` gets a byte when it waits for that.
struct PreparedAhead {
  Prepared prepared;
  Fd text;
  Fd ready;
};
PreparedAhead PrepareAhead(SessionTable& sessions, Session& session, const Place& place);

// The text that makes of such a shell what Prepare would have started; completes the capture.
// nullopt: there is a difference that the command could see.
std::optional<std::string> TextAhead(const frames::Start& start, const Session& session,
                                     const Place& place, Capture& capture);

}  // namespace hermes::runner
