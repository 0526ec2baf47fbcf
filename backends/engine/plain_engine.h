#pragma once

// PlainEngine: commands of one session with nothing over there but a shell: one stream per command,
// started and watched by a reader of ours (plain_text.h). The session's state is kept here and sent
// with each command; it is gone with the daemon, and so are the ends of commands that run then.
//
// A place may let a stream wait for its turn, for minutes. Start waits for it a short time: what
// goes wrong until then is the Start's error. Later the channel is there and tells nothing yet: the
// command waits its turn with no limit of its own (run_timeout counts over there, from the start),
// stdin written to it waits, a kill, a signal that asks for the end, or Close ends it at once as
// NEVER_STARTED, and a stream that comes for it afterwards is dropped before anything is written. A
// place that then gives no stream ends it as NEVER_STARTED, cause LAUNCH_FAILED, with the reason in
// Outcome::state_reason.
//
// Made by whoever wires backends and sessions; belongs to the Session; loop thread.

#include <chrono>
#include <memory>
#include <string>

#include "backends/backend.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"

namespace hermes {

// A login that is refused has mostly failed by then; a caller of Start is not kept longer.
inline constexpr Duration kStartPatience = std::chrono::seconds(3);

// Until the place has told what it is, at Open: start files may be slow, and over there its login
// shell is given ten seconds more. A connection that is dead is known sooner. Beyond it:
// CAPABILITY_MISSING, for the login shell runs something else.
inline constexpr Duration kPlainOpenLimit = std::chrono::seconds(30);

struct PlainEngineOptions {
  std::shared_ptr<Sandbox> sandbox;
  Capabilities capabilities;  // the backend's; narrowed if the place has no bash
  std::string reason;         // why this engine, for people
  Duration start_patience = kStartPatience;
};

struct PlainEngineDeps {
  Loop& loop;
  Clock& clock;
  Random& random;
  Duration open_limit = kPlainOpenLimit;
};

// The deps outlive the engine by one turn of the loop. Destroying an engine that was not closed
// breaks its streams; the commands over there run on until they write to them, or to their
// deadline.
std::unique_ptr<Engine> MakePlainEngine(PlainEngineDeps deps, PlainEngineOptions options);

}  // namespace hermes
