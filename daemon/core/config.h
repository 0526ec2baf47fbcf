#pragma once

// Config: what an operator may set, read once from one TOML file and checked as a whole. Plain
// data; made by main before the loop runs. An error names the file, the line, the key and what
// would be right; an unknown key is an error that names the nearest one. Every key is explained in
// deploy/hermesd.toml.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/core/model.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/log.h"

namespace hermes {

struct Config {
  // Never empty after loading; all absolute.
  std::string state_dir;    // store and kept output
  std::string runtime_dir;  // the socket
  std::string socket;

  struct Limits {
    uint32_t max_sessions = 20'000;
    uint32_t max_sessions_per_uid = 20'000;
    uint32_t max_commands = 4'000;
    uint32_t max_commands_per_uid = 4'000;
    uint32_t max_commands_per_session = 2'000;
    Duration max_run_timeout = std::chrono::hours(7 * 24);
    Duration result_retention = std::chrono::hours(1);
    Duration request_id_retention = std::chrono::hours(24);
    uint64_t output_spool_bytes = 64ull << 30;  // all kept output files together
    bool operator==(const Limits&) const = default;
  } limits;

  struct Access {
    std::vector<uint32_t> full;
    std::vector<uint32_t> operate;
    bool operator==(const Access&) const = default;
  } access;

  LogLevel log_level = LogLevel::kInfo;

  struct Runner {
    std::string binary;  // empty: the one inside hermesd
    std::string dir;     // empty: main looks for a unit's runner
    bool operator==(const Runner&) const = default;
  } runner;

  struct Local {
    bool enabled = true;
    RunnerPolicy runner = RunnerPolicy::kAuto;  // never kDefault
    bool operator==(const Local&) const = default;
  } local;

  struct Ssh {
    bool enabled = true;
    RunnerPolicy runner = RunnerPolicy::kAuto;  // never kDefault
    SshTransportChoice transport = SshTransportChoice::kAuto;
    std::string host_key = "strict";  // of sessions that do not say
    bool operator==(const Ssh&) const = default;
  } ssh;

  struct Sync {
    Duration undo_max_age = std::chrono::hours(7 * 24);
    uint64_t undo_max_bytes = 256 << 20;
    bool operator==(const Sync&) const = default;
  } sync;

  bool operator==(const Config&) const = default;
};

// The longest path that a Unix socket can have.
inline constexpr size_t kMaxSocketPathBytes = 107;

// What the defaults of the paths come from; empty: not set.
struct ConfigEnvironment {
  std::string state_directory;  // $STATE_DIRECTORY and $RUNTIME_DIRECTORY, from systemd
  std::string runtime_directory;
  std::string xdg_state_home;
  std::string xdg_runtime_dir;
  std::string home;
};

// BAD_FIELD for what is wrong with the file, NOT_FOUND or another code when it cannot be read.
absl::StatusOr<Config> LoadConfig(const std::string& path);

// The pure part: `file` is only for messages.
absl::StatusOr<Config> ParseConfig(std::string_view text, const std::string& file,
                                   const ConfigEnvironment& environment);

// For hermesd --dev: no file, everything under `dir` (absolute), the socket at <dir>/hermes.sock.
// BAD_FIELD when that is too long for one.
absl::StatusOr<Config> DevConfig(const std::string& dir);

// Every key there is, with its tables: "limits.max_sessions".
std::vector<std::string> ConfigKeys();

}  // namespace hermes
