#pragma once

// PlaceOpener: the EngineFactory of a real daemon. Finds the backend by name, opens or takes up its
// place, chooses the engine by policy. Owned by main; loop thread.

#include <memory>
#include <string>
#include <vector>

#include "backends/engine/runner_link.h"
#include "daemon/core/engines.h"

namespace hermes {

class PlaceOpener : public EngineFactory {
 public:
  // `standard` is what a session gets that names no policy. `links` outlives the engines.
  PlaceOpener(RunnerLinks& links, RunnerPolicy standard) : links_(links), standard_(standard) {}

  void Add(std::unique_ptr<Backend> backend) { backends_.push_back(std::move(backend)); }

  absl::Status CheckBackend(const std::string& backend) const override;
  std::vector<Backend*> backends() const override;
  Task<absl::StatusOr<OpenPlace>> Open(Request request) override;

 private:
  Backend* Find(const std::string& name) const;

  RunnerLinks& links_;
  RunnerPolicy standard_;
  std::vector<std::unique_ptr<Backend>> backends_;
};

}  // namespace hermes
