#pragma once

// RunnerEngine: commands of one session through the hermes-runner of its place. Made by whoever
// wires backends and sessions; belongs to the Session; loop thread.

#include <functional>
#include <memory>
#include <string>

#include "backends/backend.h"
#include "backends/engine/runner_link.h"

namespace hermes {

struct RunnerEngineOptions {
  // Shared, because the link may connect through it while the session is being closed.
  std::shared_ptr<Sandbox> sandbox;
  Capabilities capabilities;  // the backend's; narrowed if the place has no bash
  std::string reason;         // why this engine, for people
  Duration lease{0};          // 0: commands live on without the daemon
  // Another runner is there; the session was opened anew. May be empty.
  std::function<void(std::string incarnation, uint64_t generation)> changed;
  // The link to the runner went down or came up again. May be empty.
  std::function<void(bool reachable)> reachable;
};

// `links` outlives the engine. Destroying an engine that was not closed leaves the session and its
// commands over there as they are.
std::unique_ptr<Engine> MakeRunnerEngine(RunnerLinks& links, RunnerEngineOptions options);

// An owner's view of a shared sandbox: everything is passed on.
std::unique_ptr<Sandbox> ShareSandbox(std::shared_ptr<Sandbox> sandbox);

}  // namespace hermes
