#include "backends/ssh/ssh_connection.h"

namespace hermes {
namespace {

constexpr char kSlotBusyUrl[] = "hermes/slot-busy";

}  // namespace

bool MixesPrograms(std::string_view version) {
  return version.find("dropbear") != std::string_view::npos;
}

absl::Status SlotBusy(std::string_view why) {
  absl::Status status =
      absl::ResourceExhaustedError("the host refuses one more channel: " + std::string(why));
  status.SetPayload(kSlotBusyUrl, absl::Cord());
  return status;
}

bool IsSlotBusy(const absl::Status& status) { return status.GetPayload(kSlotBusyUrl).has_value(); }

}  // namespace hermes
