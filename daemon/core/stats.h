#pragma once

// Counters and gauges of this daemon as one struct; loop thread only. Shown by AdminService.Info.

#include <cstdint>
#include <map>
#include <string>

namespace hermes {

struct Stats {
  uint64_t sessions = 0;
  uint64_t running_commands = 0;                // accepted and not ended
  std::map<uint32_t, uint64_t> running_of_uid;  // the same, by who started them
  uint64_t commands_started = 0;
  uint64_t commands_finished = 0;
  uint64_t commands_killed = 0;
  uint64_t commands_unknown = 0;
  uint64_t commands_adopted = 0;
  uint64_t output_bytes = 0;
  uint64_t output_bytes_dropped = 0;
  uint64_t stdin_bytes_kept = 0;  // ever; not shown
  uint64_t readers = 0;
  uint64_t kill_survivors = 0;
  uint64_t sync_conflicts = 0;
  uint64_t sync_drift = 0;
  std::string unpack_confinement;  // see InfoResponse
};

}  // namespace hermes
