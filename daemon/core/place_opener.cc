#include "daemon/core/place_opener.h"

#include <optional>
#include <utility>

#include "backends/engine/runner_engine.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// Gives the connection that showed that a runner runs to whoever connects first; it is not made
// twice.
class ConnectedSandbox : public Sandbox {
 public:
  ConnectedSandbox(std::unique_ptr<Sandbox> inner, std::unique_ptr<Stream> connected)
      : inner_(std::move(inner)), connected_(std::move(connected)) {}
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string boot_line, Lane lane,
                                                           WishPtr wish) override {
    return inner_->OpenStream(std::move(boot_line), lane, std::move(wish));
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner() override {
    if (connected_ != nullptr) co_return std::move(connected_);
    co_return co_await inner_->ConnectRunner();
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane lane, WishPtr wish) override {
    return inner_->OpenFiles(lane, std::move(wish));
  }
  std::string place_key() const override { return inner_->place_key(); }
  std::string description() const override { return inner_->description(); }
  std::string handle() const override { return inner_->handle(); }
  Task<absl::Status> Close(bool destroy) override { return inner_->Close(destroy); }

 private:
  std::unique_ptr<Sandbox> inner_;
  std::unique_ptr<Stream> connected_;
};

}  // namespace

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

absl::Status PlaceOpener::CheckBackend(const std::string& backend, const SandboxSpec& spec) const {
  if (Backend* found = Find(backend)) {
    RETURN_IF_ERROR(found->Check(spec));
    return found->Available();
  }
  std::string known;
  for (const auto& each : backends_)
    known += (known.empty() ? "" : ", ") + std::string(each->name());
  return BadField("backend", "there is no backend '" + backend + "'; there is: " + known);
}

Task<absl::StatusOr<OpenPlace>> PlaceOpener::Open(Request request) {
  Backend* backend = Find(request.backend);
  if (backend == nullptr) co_return CheckBackend(request.backend, {});
  SandboxSpec spec{.session_id = request.session_id, .ssh = request.ssh, .wish = request.wish};
  absl::StatusOr<std::unique_ptr<Sandbox>> sandbox =
      request.handle.empty() ? co_await backend->Open(std::move(spec))
                             : co_await backend->Reattach(std::move(spec), request.handle);
  if (!sandbox.ok()) co_return sandbox.status();
  absl::StatusOr<Choice> choice = co_await Choose(request, **sandbox);
  if (!choice.ok()) {
    if (request.handle.empty()) (void)co_await (*sandbox)->Close(true);
    co_return choice.status();
  }
  std::shared_ptr<Sandbox> shared =
      std::make_shared<ConnectedSandbox>(*std::move(sandbox), std::move(choice->connected));
  OpenPlace place;
  place.sandbox = ShareSandbox(shared);
  if (!choice->runner) {
    PlainEngineOptions options{shared, backend->plain_capabilities(), std::move(choice->reason)};
    place.engine = MakePlainEngine(plain_, std::move(options));
    co_return place;
  }
  RunnerEngineOptions options;
  options.sandbox = shared;
  options.capabilities = backend->runner_capabilities();
  options.reason = std::move(choice->reason);
  options.lease = backend->lease();
  options.changed = std::move(request.changed);
  options.reachable = std::move(request.reachable);
  place.engine = MakeRunnerEngine(links_, std::move(options));
  co_return place;
}

// A session keeps the engine that it began with: its commands and its state are where that one put
// them. Otherwise the policy says, and where that leaves it open, a connection that is tried. A
// place that refuses us for another reason than its runner refuses both engines.
Task<absl::StatusOr<PlaceOpener::Choice>> PlaceOpener::Choose(const Request& request,
                                                              Sandbox& sandbox) {
  if (request.engine == "plain") co_return Choice{false, "the session began with it", nullptr};
  if (request.engine == "runner") co_return Choice{true, "the session began with it", nullptr};
  const RunnerPolicy policy = request.runner == RunnerPolicy::kDefault ? standard_ : request.runner;
  if (policy == RunnerPolicy::kRequire) co_return Choice{true, "the session requires it", nullptr};
  if (policy == RunnerPolicy::kNever) co_return Choice{false, "the policy is never", nullptr};
  if (links_.For(sandbox.place_key())->up()) co_return Choice{true, "it runs here", nullptr};
  absl::StatusOr<std::unique_ptr<Stream>> stream = co_await sandbox.ConnectRunner();
  if (stream.ok()) co_return Choice{true, "it runs here", *std::move(stream)};
  const std::optional<Reason> reason = ReasonOf(stream.status());
  const bool elsewhere = !sandbox.description().empty();  // then nothing else reaches it, either
  if (reason != Reason::k_CAPABILITY_MISSING &&
      (elsewhere || reason != Reason::k_BACKEND_UNREACHABLE)) {
    co_return stream.status();
  }
  co_return Choice{false, "no runner: " + std::string(stream.status().message()), nullptr};
}

}  // namespace hermes
