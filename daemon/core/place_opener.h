#pragma once

// PlaceOpener: the EngineFactory of a real daemon. Finds the backend by name, opens or takes up its
// place, chooses the engine by the session's policy or the backend's. Owned by main; loop thread.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/engine/plain_engine.h"
#include "backends/engine/runner_link.h"
#include "daemon/core/engines.h"

namespace hermes {

class PlaceOpener : public EngineFactory {
 public:
  // `links` and what `plain` refers to outlive the engines.
  PlaceOpener(RunnerLinks& links, PlainEngineDeps plain) : links_(links), plain_(plain) {}

  // `runner` is what a session there gets that names no policy of its own; never kDefault.
  void Add(std::unique_ptr<Backend> backend, RunnerPolicy runner) {
    backends_.push_back({std::move(backend), runner});
  }

  absl::Status CheckBackend(const std::string& backend, const SandboxSpec& spec) const override;
  std::vector<Backend*> backends() const override;
  Task<absl::StatusOr<OpenPlace>> Open(Request request) override;

 private:
  struct Choice {
    bool runner = true;
    std::string reason;
    RunnerLink::Ptr link;  // to the runner, until the engine has it; null: not asked for
  };
  struct Known {
    std::unique_ptr<Backend> backend;
    RunnerPolicy runner;
  };
  struct Inquiry;
  const Known* Find(const std::string& name) const;
  Task<absl::StatusOr<Choice>> Choose(const Request& request, RunnerPolicy policy,
                                      Sandbox& sandbox);
  Task<absl::Status> Reach(RunnerLink::Ptr link, Sandbox& sandbox, WishPtr wish);

  RunnerLinks& links_;
  PlainEngineDeps plain_;
  std::vector<Known> backends_;  // all are added before the first is looked for
  std::map<std::string, std::shared_ptr<Inquiry>> inquiries_;  // under way, by place key
};

}  // namespace hermes
