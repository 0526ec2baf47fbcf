#pragma once

// Who is at the other end of each connection, from the kernel. gRPC shows a handler only the number
// of the connection's descriptor ("fd:20017"); this maps it back. A number names one connection
// only: numbers are taken in rotation from a range of their own, and gRPC closes a descriptor,
// which frees its number, only when no call of the connection is left. Thread-safe.

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/core/requests.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/mutex.h"

namespace hermes {

// Connections beyond these are closed at once; the client sees UNAVAILABLE.
inline constexpr size_t kMaxConnections = 1024;
inline constexpr size_t kMaxConnectionsPerUid = 64;
inline constexpr size_t kMaxConnectionsWithoutRights = 4;  // per uid: enough to be told why

struct AccessRules {
  uint32_t own_uid = 0;
  std::vector<uint32_t> full;
  std::vector<uint32_t> operate;

  // The daemon's own account and root may do everything.
  Role RoleOf(uint32_t uid) const;
  bool admits_others() const { return !full.empty() || !operate.empty(); }
};

class Peers {
 public:
  struct Limits {
    size_t connections = kMaxConnections;
    size_t per_uid = kMaxConnectionsPerUid;
    // The range of descriptor numbers; capped by the process' limit.
    int first_fd = 16'384;
    int end_fd = 49'152;
  };
  Peers(AccessRules access, Limits limits);

  // Identifies a connected Unix socket and gives it a number of its own. The caller hands that
  // descriptor to gRPC, which closes it. QUOTA-like refusals are plain statuses for the log.
  absl::StatusOr<Fd> Admit(Fd connection);

  // `peer` as gRPC tells it. nullopt: not one of ours, to be refused.
  std::optional<Caller> Find(std::string_view peer) const;

  // Connections that are not closed yet; forgets the others.
  size_t Sweep();

 private:
  struct Entry {
    Caller caller;
    uint64_t inode = 0;  // of the socket: tells whether the number still means this connection
  };
  void SweepLocked() EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckCaps(const Caller& caller) EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Fd> Renumber(const Fd& connection) EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const AccessRules access_;
  const Limits limits_;
  mutable Mutex mutex_;
  std::map<int, Entry> entries_ GUARDED_BY(mutex_);  // also closed ones, until the next sweep
  int next_fd_ GUARDED_BY(mutex_);
};

}  // namespace hermes
