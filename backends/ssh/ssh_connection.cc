#include "backends/ssh/ssh_connection.h"

#include <sys/stat.h>

namespace hermes {
namespace {

constexpr char kSlotBusyUrl[] = "hermes/slot-busy";

}  // namespace

bool IsPinned(const SshSpec& spec) { return spec.host_key.starts_with("SHA256:"); }

bool MixesPrograms(std::string_view version) {
  return version.find("dropbear") != std::string_view::npos;
}

std::string StampOf(const std::vector<std::string>& files) {
  std::string all;
  for (const std::string& file : files) {
    struct stat info{};
    if (file.empty() || stat(file.c_str(), &info) != 0) info = {};
    for (const auto number :
         {static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino),
          static_cast<int64_t>(info.st_ctim.tv_sec), static_cast<int64_t>(info.st_ctim.tv_nsec)}) {
      all += std::to_string(number) + " ";
    }
  }
  return all;
}

absl::Status SlotBusy(std::string_view why) {
  absl::Status status = absl::ResourceExhaustedError(
      "the host refuses one more channel (MaxSessions of its sshd): " + std::string(why));
  status.SetPayload(kSlotBusyUrl, absl::Cord());
  return status;
}

bool IsSlotBusy(const absl::Status& status) { return status.GetPayload(kSlotBusyUrl).has_value(); }

}  // namespace hermes
