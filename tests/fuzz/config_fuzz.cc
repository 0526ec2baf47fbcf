// An operator's file: any text is a configuration within the documented ranges, or BAD_FIELD.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "daemon/core/config.h"
#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

bool IsAbsolute(std::string_view path) {
  return path.starts_with('/') && path.find('\0') == std::string_view::npos;
}

void CheckRanges(const Config& config) {
  constexpr auto kDay = std::chrono::hours(24);
  constexpr Duration kSecond = std::chrono::seconds(1);
  CHECK(IsAbsolute(config.state_dir) && IsAbsolute(config.runtime_dir));
  CHECK(IsAbsolute(config.socket) && config.socket.size() <= kMaxSocketPathBytes);
  for (const std::string& path : {config.runner.binary, config.runner.dir})
    CHECK(path.empty() || IsAbsolute(path));
  const Config::Limits& limits = config.limits;
  for (const uint32_t sessions : {limits.max_sessions, limits.max_sessions_per_uid})
    CHECK(sessions >= 1 && sessions <= 1'000'000);
  for (const uint32_t commands :
       {limits.max_commands, limits.max_commands_per_uid, limits.max_commands_per_session})
    CHECK(commands >= 1 && commands <= 100'000);
  CHECK(limits.max_run_timeout >= kSecond && limits.max_run_timeout <= 366 * kDay);
  CHECK(limits.result_retention >= kSecond);
  CHECK(limits.result_retention <= limits.request_id_retention);
  CHECK(limits.request_id_retention <= 30 * kDay);
  CHECK(limits.output_spool_bytes >= 1 << 20 && limits.output_spool_bytes <= 1ull << 50);
  for (const RunnerPolicy policy : {config.local.runner, config.ssh.runner})
    CHECK(policy != RunnerPolicy::kDefault);
  for (const auto* uids : {&config.access.full, &config.access.operate})
    for (const uint32_t uid : *uids) CHECK(uid != UINT32_MAX);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<Config> config = ParseConfig(text, "f.toml", {"", "", "", "", "/home/u"});
  if (config.ok()) {
    CheckRanges(*config);
  } else {
    CHECK(ReasonOf(config.status()) == Reason::k_BAD_FIELD);
    CHECK(config.status().message().size() > 6);
  }
  return 0;
}

}  // namespace hermes
