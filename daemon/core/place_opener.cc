#include "daemon/core/place_opener.h"

#include <optional>
#include <utility>

#include "backends/engine/runner_engine.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/status.h"

namespace hermes {

// One who asks a place whether a runner is there; others wait for what comes of it.
struct PlaceOpener::Inquiry {
  explicit Inquiry(Loop& loop) : changed(loop) {}
  std::optional<absl::Status> answer;
  bool given_up = false;  // then it is no answer
  Event changed;
};

const PlaceOpener::Known* PlaceOpener::Find(const std::string& name) const {
  for (const Known& known : backends_) {
    if (known.backend->name() == name) return &known;
  }
  return nullptr;
}

std::vector<Backend*> PlaceOpener::backends() const {
  std::vector<Backend*> all;
  for (const Known& known : backends_) all.push_back(known.backend.get());
  return all;
}

absl::Status PlaceOpener::CheckBackend(const std::string& backend, const SandboxSpec& spec) const {
  if (const Known* found = Find(backend)) {
    RETURN_IF_ERROR(found->backend->Check(spec));
    return found->backend->Available();
  }
  std::string known;
  for (const auto& each : backends_)
    known += (known.empty() ? "" : ", ") + std::string(each.backend->name());
  return BadField("backend", "there is no backend '" + backend + "'; there is: " + known);
}

Task<absl::StatusOr<OpenPlace>> PlaceOpener::Open(Request request) {
  const Known* known = Find(request.backend);
  if (known == nullptr) co_return CheckBackend(request.backend, {});
  Backend* const backend = known->backend.get();
  const RunnerPolicy policy =
      request.runner == RunnerPolicy::kDefault ? known->runner : request.runner;
  SandboxSpec spec{.session_id = request.session_id, .ssh = request.ssh, .wish = request.wish};
  absl::StatusOr<std::unique_ptr<Sandbox>> sandbox =
      request.handle.empty() ? co_await backend->Open(std::move(spec))
                             : co_await backend->Reattach(std::move(spec), request.handle);
  if (!sandbox.ok()) co_return sandbox.status();
  absl::StatusOr<Choice> choice = co_await Choose(request, policy, **sandbox);
  if (!choice.ok()) {
    if (request.handle.empty()) (void)co_await (*sandbox)->Close(true);
    co_return choice.status();
  }
  const std::shared_ptr<Sandbox> shared = *std::move(sandbox);
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
                                                              RunnerPolicy policy,
                                                              Sandbox& sandbox) {
  if (request.engine == "plain") co_return Choice{false, "the session began with it", nullptr};
  if (request.engine == "runner") co_return Choice{true, "the session began with it", nullptr};
  if (policy == RunnerPolicy::kRequire) co_return Choice{true, "the policy is require", nullptr};
  if (policy == RunnerPolicy::kNever) co_return Choice{false, "the policy is never", nullptr};
  RunnerLink::Ptr link = links_.For(sandbox.place_key());
  const absl::Status reached = co_await Reach(link, sandbox, request.wish);
  if (reached.ok()) co_return Choice{true, "it runs here", std::move(link)};
  const std::optional<Reason> reason = ReasonOf(reached);
  const bool elsewhere = !sandbox.description().empty();  // then nothing else reaches it, either
  if (reason != Reason::k_CAPABILITY_MISSING &&
      (elsewhere || reason != Reason::k_BACKEND_UNREACHABLE)) {
    co_return reached;
  }
  co_return Choice{false, "no runner: " + std::string(reached.message()), nullptr};
}

// The place of many sessions that are opened at once is asked once: each connection that nobody
// uses would take a channel from their commands.
Task<absl::Status> PlaceOpener::Reach(RunnerLink::Ptr link, Sandbox& sandbox, WishPtr wish) {
  const std::string key = sandbox.place_key();
  while (!link->reached()) {
    if (IsWithdrawn(wish)) co_return Error(Reason::k_RECONNECTING, "nobody waits for it any more");
    auto [known, mine] = inquiries_.try_emplace(key, nullptr);
    if (mine) {
      const auto inquiry = known->second = std::make_shared<Inquiry>(plain_.loop);
      absl::StatusOr<std::unique_ptr<Stream>> stream = co_await sandbox.ConnectRunner(wish);
      inquiries_.erase(key);
      inquiry->answer = stream.status();
      inquiry->given_up = IsWithdrawn(wish);
      if (stream.ok()) link->Offer(*std::move(stream));
      inquiry->changed.NotifyAll();
      co_return *inquiry->answer;
    }
    const auto inquiry = known->second;
    const Wish::Ear ear(wish, [inquiry] { inquiry->changed.NotifyAll(); });
    while (!inquiry->answer && !IsWithdrawn(wish)) co_await inquiry->changed.Wait();
    if (inquiry->answer && !inquiry->given_up && !inquiry->answer->ok()) co_return *inquiry->answer;
  }
  co_return absl::OkStatus();
}

}  // namespace hermes
