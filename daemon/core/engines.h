#pragma once

// EngineFactory: from a session's wishes to a Sandbox and the Engine that runs commands in it. The
// seam where main wires the backends and where tests put a scripted world. Loop thread only.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "daemon/core/requests.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"

namespace hermes {

// Told when the place behind a session was replaced (another runner process): new incarnation,
// state generation.
using IncarnationChanged = std::function<void(std::string incarnation, uint64_t generation)>;

struct OpenPlace {
  std::unique_ptr<Sandbox> sandbox;
  std::unique_ptr<Engine> engine;
};

class EngineFactory {
 public:
  virtual ~EngineFactory() = default;
  // Unknown backend: BAD_FIELD naming those that exist. Never another backend than the one asked
  // for.
  // A place that its backend can't make sense of: BAD_FIELD, too.
  virtual absl::Status CheckBackend(const std::string& backend, const SandboxSpec& spec) const = 0;
  virtual std::vector<Backend*> backends() const = 0;
  struct Request {
    std::string backend;
    std::string session_id;
    std::string handle;  // empty: a new place; else the one it names
    SshSpec ssh = {};    // for the ssh backend
    RunnerPolicy runner = RunnerPolicy::kDefault;
    std::string engine = {};  // the one that this session has already; empty: choose by policy
    IncarnationChanged changed;
    std::function<void(bool)> reachable;  // told when contact to the place is lost and found again
    WishPtr wish = {};  // withdrawn: nobody wants the place any more, it need not be reached
  };
  virtual Task<absl::StatusOr<OpenPlace>> Open(Request request) = 0;
};

}  // namespace hermes
