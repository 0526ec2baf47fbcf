#pragma once

// The values that core, store and rpc pass around: what a session and a command are, seen from
// outside. Plain data, no behaviour, no thread of its own.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "daemon/runtime/clock.h"
#include "sync/mount.h"
#include "sync/report.h"

namespace hermes {

using Labels = std::map<std::string, std::string>;

enum class SessionState { kOpening, kReady, kDegraded, kClosing, kClosed, kFailed, kLost };

enum class RunnerPolicy { kDefault, kAuto, kNever, kRequire };

struct Condition {
  std::string type;
  bool status = true;
  std::string reason;
  std::string message;
  WallTime since;
};

enum class OnSyncError { kFail, kRunStale };
enum class SyncBefore { kIfStale, kForce, kSkip };

// A session's mounts, and how they are kept in step.
struct SyncSettings {
  std::vector<sync::Mount> mounts;  // of a MountTable
  OnSyncError on_error = OnSyncError::kFail;
  Duration min_interval{0};  // between two pushes that nobody forces
  std::string lock_file;     // see sync::LockRequest
  bool operator==(const SyncSettings&) const = default;
};

// A session as it is stored and shown.
struct SessionInfo {
  std::string id;  // without "sessions/"
  std::string backend;
  SessionState state = SessionState::kOpening;
  uint64_t version = 0;  // grows with each change; the etag
  Labels labels;
  WallTime create_time;
  std::optional<WallTime> expire_time;
  Duration idle_ttl{0};  // 0: never
  RunnerPolicy runner = RunnerPolicy::kDefault;
  std::string first_cwd;  // as asked for at creation
  EnvPairs first_env;
  std::string cwd;
  uint64_t generation = 0;
  std::string incarnation;
  Capabilities capabilities;
  std::vector<Condition> conditions;
  uint32_t creator_uid = 0;
  std::string engine;
  std::string engine_reason;
  uint32_t running_commands = 0;  // shown, not stored
  std::string sandbox_handle;     // stored, not shown
  std::string place;              // where it is, for people; empty: this host
  std::string request_id;
  std::string request_digest;
  SshSpec ssh;  // of a session on another host
  SyncSettings sync;
  std::string place_key;  // stored, not shown: Sandbox::place_key(), once it was opened
  bool discard = false;   // stored, not shown: its cleanup gave up what is not on the host
  bool has_secret =
      false;  // a sudo password was given; where it is kept, it is kept in memory only
  // One hermesd per store today; kept so that a fleet can share one later.
  std::string owner;
  uint64_t epoch = 0;
};

enum class Overflow { kDropMiddle, kBlockProcess, kKill };

struct OutputPolicy {
  bool merge_stderr = false;
  uint64_t limit_bytes = 128ull << 20;  // per stream
  Overflow overflow = Overflow::kDropMiddle;
};

struct Cursor {
  uint64_t offset[kOutputStreams] = {0, 0};
};

// What becomes of a command when those who follow it are gone.
enum class OnDisconnect { kDetach, kCancel, kCancelAfterGrace };

// A command as it is stored and shown.
struct CommandInfo {
  std::string session_id;
  std::string id;      // without "sessions/../commands/"
  std::string run_id;  // UUID: the request id, or one made up
  bool client_request_id = false;
  std::string request_digest;  // SHA-256 of the request body: same id with another body is refused
  CommandState state = CommandState::kQueued;
  std::optional<Outcome> outcome;
  Cursor produced;
  WallTime create_time;
  std::optional<WallTime> start_time;
  std::optional<WallTime> end_time;
  Labels labels;
  std::string incarnation;
  bool residual = false;
  int64_t pid = 0;
  std::string summary;  // first bytes of script or argv
  uint32_t creator_uid = 0;
  bool has_pty = false;
  OutputPolicy output;
  Duration kill_grace{0};
  // What the place knows it by; empty: run_id. Another one each time where a start may come to
  // nothing and be tried again, for the place never starts an id twice.
  std::string far_id;
  OnDisconnect on_disconnect = OnDisconnect::kDetach;  // stored, not shown

  const std::string& FarId() const { return far_id.empty() ? run_id : far_id; }
};

enum class SyncKind { kPush, kPull, kPlan, kRevert };
enum class SyncState { kRunning, kDone, kFailed, kInterrupted };

// A sync as it is stored and shown.
struct SyncInfo {
  std::string session_id;
  std::string id;  // without "sessions/../syncs/"
  SyncKind kind = SyncKind::kPush;
  SyncState state = SyncState::kRunning;
  std::string reason;   // of kFailed: the catalogue's word
  std::string message;  // of kFailed
  sync::SyncProgress progress;
  sync::SyncReport report;
  std::string of_sync;  // of kRevert: the id of what it takes back
  WallTime create_time;
  std::optional<WallTime> end_time;
  std::optional<WallTime> expire_time;  // of report.revertible
  uint64_t entries_total = 0;
  uint32_t creator_uid = 0;
  std::string request_id;  // empty: none
  std::string request_digest;
};

}  // namespace hermes
