#include "backends/ssh/ssh_connection.h"

#include <sys/stat.h>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr char kSlotBusyUrl[] = "hermes/slot-busy";

constexpr char kLeadBack[] =
    "Let ssh_config lead to the session's host again, and retry; or give the session up (hermesctl "
    "cleanup SESSION --discard) and make a new one.";

}  // namespace

bool IsPinned(const SshSpec& spec) { return spec.host_key.starts_with("SHA256:"); }

bool MixesPrograms(std::string_view version) {
  return version.find("dropbear") != std::string_view::npos;
}

SshPlace PlaceOf(const SshResolved& resolved) {
  return {.name = resolved.user + "@" + resolved.host + ":" + std::to_string(resolved.port),
          .route = resolved.route};
}

absl::Status LeadsElsewhere(const std::string& typed, const SshPlace& was, const SshPlace& now) {
  std::string what = "the session is on " + was.name + ", and ssh_config now leads " + typed;
  what += now.name != was.name ? " to " + now.name
                               : " there by another way, maybe to another machine (ProxyJump, "
                                 "ProxyCommand, HostKeyAlias)";
  return Error(Reason::k_BACKEND_UNREACHABLE, what, {{std::string(kNextKey), kLeadBack}});
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
