#include "daemon/rpc/admin_service.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <utility>

#include "daemon/rpc/encode.h"
#include "daemon/runtime/log.h"

namespace hermes {
namespace {

uint64_t ResidentBytes() {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(fopen("/proc/self/statm", "re"), fclose);
  unsigned long size = 0;
  unsigned long resident = 0;
  if (file == nullptr || fscanf(file.get(), "%lu %lu", &size, &resident) != 2) return 0;
  return uint64_t{resident} * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

void EncodeStats(const Stats& stats, v1::Stats* to) {
  to->set_sessions(stats.sessions);
  to->set_running_commands(stats.running_commands);
  to->set_commands_started(stats.commands_started);
  to->set_commands_finished(stats.commands_finished);
  to->set_commands_killed(stats.commands_killed);
  to->set_commands_unknown(stats.commands_unknown);
  to->set_commands_adopted(stats.commands_adopted);
  to->set_output_bytes(stats.output_bytes);
  to->set_output_bytes_dropped(stats.output_bytes_dropped);
  to->set_readers(stats.readers);
  to->set_kill_survivors(stats.kill_survivors);
  to->set_sync_conflicts(stats.sync_conflicts);
  to->set_sync_drift(stats.sync_drift);
}

void EncodeSeconds(Duration duration, google::protobuf::Duration* to) {
  constexpr int64_t kNanosPerSecond = 1'000'000'000;
  to->set_seconds(duration.count() / kNanosPerSecond);
  to->set_nanos(static_cast<int32_t>(duration.count() % kNanosPerSecond));
}

}  // namespace

void AdminService::Register(Handlers& handlers) {
  handlers.Unary(Method::kInfo, this, &AdminService::Info);
  handlers.Unary(Method::kCapabilities, this, &AdminService::Capabilities);
  handlers.Unary(Method::kDrain, this, &AdminService::Drain);
}

Task<absl::StatusOr<v1::InfoResponse>> AdminService::Info(Caller, v1::InfoRequest) {
  const ServerInfo& info = context_.info;
  v1::InfoResponse response;
  response.set_version(info.version);
  response.set_commit(info.commit);
  response.set_daemon_id(info.daemon_id);
  const auto started =
      std::chrono::duration_cast<std::chrono::seconds>(info.start_time.time_since_epoch());
  response.mutable_start_time()->set_seconds(started.count());
  response.set_pid(getpid());
  response.set_uid(getuid());
  response.set_draining(context_.table.draining());
  EncodeStats(context_.table.stats(), response.mutable_stats());
  response.set_unpack_confinement(context_.table.stats().unpack_confinement);
  EncodeSeconds(context_.loop.TakeMaxLag(), response.mutable_stats()->mutable_loop_lag_max());
  response.mutable_stats()->set_rss_bytes(ResidentBytes());
  const TableLimits& limits = context_.table.limits();
  v1::Limits* wire = response.mutable_limits();
  wire->set_max_sessions(limits.max_sessions);
  wire->set_max_commands(limits.max_commands);
  wire->set_max_commands_per_session(limits.max_commands_per_session);
  EncodeSeconds(limits.request_id_retention, wire->mutable_request_id_retention());
  EncodeSeconds(limits.result_retention, wire->mutable_result_retention());
  wire->set_max_script_bytes(kMaxScriptBytes);
  EncodeSeconds(info.limits.max_run_timeout, wire->mutable_max_run_timeout());
  co_return response;
}

Task<absl::StatusOr<v1::CapabilitiesResponse>> AdminService::Capabilities(Caller,
                                                                          v1::CapabilitiesRequest) {
  v1::CapabilitiesResponse response;
  for (Backend* backend : context_.engines.backends()) {
    v1::BackendCapabilities* wire = response.add_backends();
    wire->set_backend(std::string(backend->name()));
    const absl::Status available = backend->Available();
    wire->set_available(available.ok());
    wire->set_unavailable_reason(std::string(available.message()));
    Encode(backend->runner_capabilities(), wire->mutable_runner());
    Encode(backend->plain_capabilities(), wire->mutable_plain());
  }
  co_return response;
}

Task<absl::StatusOr<v1::DrainResponse>> AdminService::Drain(Caller caller, v1::DrainRequest) {
  LogInfo("drain asked for by uid " + std::to_string(caller.uid));
  // Posted, so that this answer is on its way before the calls are stopped.
  if (on_drain_) context_.loop.Post(std::exchange(on_drain_, nullptr));
  co_return v1::DrainResponse();
}

}  // namespace hermes
