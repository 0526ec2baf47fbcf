#pragma once

// PlaceOpener: the EngineFactory of a real daemon. Finds the backend by name, opens or takes up its
// place, chooses the engine by policy. Owned by main; loop thread.

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
  // `standard` is what a session gets that names no policy. `links` and what `plain` refers to
  // outlive the engines.
  PlaceOpener(RunnerLinks& links, PlainEngineDeps plain, RunnerPolicy standard)
      : links_(links), plain_(plain), standard_(standard) {}

  void Add(std::unique_ptr<Backend> backend) { backends_.push_back(std::move(backend)); }

  absl::Status CheckBackend(const std::string& backend, const SandboxSpec& spec) const override;
  std::vector<Backend*> backends() const override;
  Task<absl::StatusOr<OpenPlace>> Open(Request request) override;

 private:
  struct Choice {
    bool runner = true;
    std::string reason;
    RunnerLink::Ptr link;  // to the runner, until the engine has it; null: not asked for
  };
  struct Inquiry;
  Backend* Find(const std::string& name) const;
  Task<absl::StatusOr<Choice>> Choose(const Request& request, Sandbox& sandbox);
  Task<absl::Status> Reach(RunnerLink::Ptr link, Sandbox& sandbox, WishPtr wish);

  RunnerLinks& links_;
  PlainEngineDeps plain_;
  RunnerPolicy standard_;
  std::vector<std::unique_ptr<Backend>> backends_;
  std::map<std::string, std::shared_ptr<Inquiry>> inquiries_;  // under way, by place key
};

}  // namespace hermes
