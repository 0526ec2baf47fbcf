#include "daemon/core/place_opener.h"

#include <utility>

#include "backends/engine/runner_engine.h"
#include "daemon/runtime/status.h"

namespace hermes {

Backend* PlaceOpener::Find(const std::string& name) const {
  for (const auto& backend : backends_) {
    if (backend->name() == name) return backend.get();
  }
  return nullptr;
}

std::vector<Backend*> PlaceOpener::backends() const {
  std::vector<Backend*> all;
  for (const auto& backend : backends_) all.push_back(backend.get());
  return all;
}

absl::Status PlaceOpener::CheckBackend(const std::string& backend) const {
  if (Backend* found = Find(backend)) return found->Available();
  std::string known;
  for (const auto& each : backends_)
    known += (known.empty() ? "" : ", ") + std::string(each->name());
  return BadField("backend", "there is no backend '" + backend + "'; there is: " + known);
}

Task<absl::StatusOr<OpenPlace>> PlaceOpener::Open(Request request) {
  Backend* backend = Find(request.backend);
  if (backend == nullptr) co_return CheckBackend(request.backend);
  SandboxSpec spec{.session_id = request.session_id};
  absl::StatusOr<std::unique_ptr<Sandbox>> sandbox =
      request.handle.empty() ? co_await backend->Open(std::move(spec))
                             : co_await backend->Reattach(request.handle);
  if (!sandbox.ok()) co_return sandbox.status();
  RunnerPolicy policy = request.runner == RunnerPolicy::kDefault ? standard_ : request.runner;
  if (policy == RunnerPolicy::kNever) {
    co_return Error(Reason::k_CAPABILITY_MISSING, "the plain engine is not in this build yet",
                    {{"field", "runner"}});
  }
  RunnerEngineOptions options;
  options.sandbox = std::shared_ptr<Sandbox>(*std::move(sandbox));
  options.capabilities = backend->runner_capabilities();
  options.reason = policy == RunnerPolicy::kRequire ? "the session requires it" : "it runs here";
  options.changed = std::move(request.changed);
  options.reachable = std::move(request.reachable);
  OpenPlace place;
  place.sandbox = ShareSandbox(options.sandbox);
  place.engine = MakeRunnerEngine(links_, std::move(options));
  co_return place;
}

}  // namespace hermes
