#pragma once

// What callers ask of the core, already decoded and validated field by field (daemon/rpc/decode).
// Plain data.

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/core/model.h"

namespace hermes {

enum class Role { kNone, kOperate, kFull };

// Who is calling, from the kernel. Shown as creator; rights are in `role`.
struct Caller {
  uint32_t uid = 0;
  Role role = Role::kNone;
};

struct CreateSession {
  std::string id;  // empty: make one up
  std::string backend;
  std::string cwd;
  EnvPairs env;
  Labels labels;
  Duration idle_ttl{0};  // 0: none
  Duration lease{0};     // 0: none
  RunnerPolicy runner = RunnerPolicy::kDefault;
  SshSpec ssh;
  SyncSettings sync;  // checked but for what needs the disk: the host roots
  std::string sudo_password;
  bool wait_ready = false;
  std::string request_id;  // empty: none
  std::string digest;      // SHA-256 of the request body
  uint32_t uid = 0;
};

struct UpdateSession {
  std::string id;
  std::string etag;  // empty: do not check
  std::optional<Labels> labels;
  std::optional<Duration> idle_ttl;
  std::optional<std::string> sudo_password;
};

struct StartCommand {
  std::string session_id;
  CommandSpec spec;  // spec.run_id is set; spec.stdin_open is true for inline data, too
  bool client_request_id = false;
  std::string digest;
  // Inline: written, then end of file. Its bytes go into a StdinFile before it is handed over.
  std::optional<std::string> stdin_data;
  OutputPolicy output;
  OnDisconnect on_disconnect = OnDisconnect::kDetach;
  Labels labels;
  std::string expected_incarnation;
  SyncBefore sync_before = SyncBefore::kIfStale;
  std::string summary;
  uint32_t uid = 0;
};

struct StartSync {
  std::string session_id;
  SyncKind kind = SyncKind::kPush;
  bool force = false;            // of kPush
  bool approve_deletes = false;  // of kPull and kPlan
  bool salvage = false;          // of kPull and kPlan
  std::string of_sync;           // of kRevert
  std::string request_id;        // empty: none
  std::string digest;            // SHA-256 of the request body
  uint32_t uid = 0;
};

}  // namespace hermes
