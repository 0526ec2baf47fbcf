#include "backends/ssh/ssh_connection.h"

namespace hermes {
namespace {

constexpr char kSlotBusyUrl[] = "hermes/slot-busy";

}  // namespace

absl::Status SlotBusy(std::string_view why) {
  absl::Status status =
      absl::ResourceExhaustedError("the host refuses one more channel: " + std::string(why));
  status.SetPayload(kSlotBusyUrl, absl::Cord());
  return status;
}

bool IsSlotBusy(const absl::Status& status) { return status.GetPayload(kSlotBusyUrl).has_value(); }

}  // namespace hermes
