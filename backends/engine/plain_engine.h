#pragma once

// PlainEngine: commands of one session with nothing over there but a shell: one stream per command,
// started and watched by a reader of ours (plain_text.h). The session's state is kept here and sent
// with each command; it is gone with the daemon, and so are the ends of commands that run then.
// Made by whoever wires backends and sessions; belongs to the Session; loop thread.

#include <memory>
#include <string>

#include "backends/backend.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"

namespace hermes {

struct PlainEngineOptions {
  std::shared_ptr<Sandbox> sandbox;
  Capabilities capabilities;  // the backend's; narrowed if the place has no bash
  std::string reason;         // why this engine, for people
};

struct PlainEngineDeps {
  Loop& loop;
  Clock& clock;
  Random& random;
};

// The deps outlive the engine by one turn of the loop. Destroying an engine that was not closed
// breaks its streams; the commands over there run on until they write to them, or to their
// deadline.
std::unique_ptr<Engine> MakePlainEngine(PlainEngineDeps deps, PlainEngineOptions options);

}  // namespace hermes
