#include "daemon/rpc/call.h"

#include <utility>

#include "daemon/runtime/status.h"

namespace hermes {

void Call::OnStop(absl::AnyInvocable<void()> on_stop) {
  on_stop_ = std::move(on_stop);
  if (stopped() && on_stop_) std::exchange(on_stop_, nullptr)();
}

void Call::Fail(absl::Status why) {
  if (stopped()) return;
  failure_ = std::move(why);
  StopFor(Stop::kFailed);
}

absl::Status Call::StopStatus() const {
  switch (stop_) {
    case Stop::kNone:
      return absl::OkStatus();
    case Stop::kGone:
      return absl::CancelledError("the client is gone");
    case Stop::kDraining:
      return Error(Reason::k_DRAINING, "the daemon is shutting down: attach again later");
    case Stop::kFailed:
      return failure_;
  }
  return absl::OkStatus();
}

void Call::StopFor(Stop why) {
  if (stopped()) return;
  stop_ = why;
  if (on_stop_) std::exchange(on_stop_, nullptr)();
}

}  // namespace hermes
