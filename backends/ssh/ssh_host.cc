#include "backends/ssh/ssh_host.h"

#include <utility>

namespace hermes {

SshHost::SshHost(Deps deps, SshTransport& transport, SshTarget target, SshResolved resolved,
                 std::shared_ptr<SshGate> gate)
    : deps_(deps),
      transport_(transport),
      target_(std::move(target)),
      resolved_(std::move(resolved)),
      gate_(std::move(gate)),
      command_lane_(MakeLane(Duration::zero())),
      bulk_lane_(MakeLane(kBulkIdleLimit)) {}

SshHost::~SshHost() {
  command_lane_->Stop();
  bulk_lane_->Stop();
}

SshLane::Ptr SshHost::MakeLane(Duration idle_limit) const {
  return std::make_shared<SshLane>(
      SshLane::Deps{.loop = deps_.loop,
                    .clock = deps_.clock,
                    .random = deps_.random,
                    .transport = transport_,
                    .target = target_,
                    .gate = gate_,
                    .place = resolved_,
                    .logins_at_once = resolved_.first_hop.empty() ? 1 : kMostJumpLogins,
                    .idle_limit = idle_limit,
                    .credential_files = resolved_.credential_files,
                    .known_hosts_files = resolved_.known_hosts_files});
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> SshHost::Open(std::string command, Lane lane,
                                                            WishPtr wish) {
  if (lane == Lane::kControl) {
    return OpenControl(command_lane_, bulk_lane_, std::move(command), std::move(wish));
  }
  return SshLane::Run(lane == Lane::kBulk ? bulk_lane_ : command_lane_, std::move(command),
                      std::move(wish));
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> SshHost::OpenControl(SshLane::Ptr first,
                                                                   SshLane::Ptr other,
                                                                   std::string command,
                                                                   WishPtr wish) {
  absl::StatusOr<std::unique_ptr<Stream>> stream =
      co_await SshLane::Run(std::move(first), command, wish, /*may_wait=*/false);
  if (stream.ok() || !IsSlotBusy(stream.status())) co_return stream;
  co_return co_await SshLane::Run(std::move(other), std::move(command), std::move(wish));
}

std::shared_ptr<SshGate> SshGates::For(const SshResolved& resolved) {
  const std::string name = resolved.first_hop.empty()
                               ? resolved.host + ":" + std::to_string(resolved.port)
                               : resolved.first_hop;
  std::erase_if(gates_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<SshGate>& known = gates_[name];
  std::shared_ptr<SshGate> gate = known.lock();
  if (gate == nullptr) known = gate = std::make_shared<SshGate>(loop_);
  return gate;
}

SshHosts::Use::Use(SshHosts& hosts, std::shared_ptr<SshHost> host)
    : hosts_(hosts), host_(std::move(host)) {
  ++host_->users_;
  host_->linger_.reset();
}

SshHosts::Use::~Use() {
  if (--host_->users_ == 0) hosts_.Release(host_);
}

Task<absl::StatusOr<std::shared_ptr<SshHosts::Use>>> SshHosts::For(SshTarget target) {
  const SteadyTime now = deps_.clock.Now();
  const SshResolved* resolved = nullptr;
  auto [from, to] = resolved_.equal_range(target.spec.host);
  for (; from != to; ++from) {
    if (from->second.target == target && from->second.until > now)
      resolved = &from->second.resolved;
  }
  if (resolved == nullptr) {
    absl::StatusOr<SshResolved> fresh = co_await transport_.Resolve(target);
    if (!fresh.ok()) co_return fresh.status();
    if (resolved_.size() >= kMaxResolved) resolved_.clear();
    Known known{target, *std::move(fresh), deps_.clock.Now() + kResolvedLife};
    resolved = &resolved_.emplace(target.spec.host, std::move(known))->second.resolved;
  }
  std::shared_ptr<SshHost>& host = hosts_[resolved->sharing_key];
  if (host == nullptr) {
    host = std::make_shared<SshHost>(deps_, transport_, std::move(target), *resolved,
                                     gates_.For(*resolved));
  }
  co_return std::make_shared<Use>(*this, host);
}

void SshHosts::Forget(const SshTarget& target) {
  std::erase_if(resolved_, [&target](const auto& entry) { return entry.second.target == target; });
}

void SshHosts::Release(const std::shared_ptr<SshHost>& host) {
  const std::string key = host->resolved().sharing_key;
  host->linger_ = deps_.clock.At(deps_.clock.Now() + kHostLinger, [this, key] {
    auto it = hosts_.find(key);
    if (it == hosts_.end() || it->second->users_ != 0) return;
    hosts_.erase(it);
  });
}

}  // namespace hermes
