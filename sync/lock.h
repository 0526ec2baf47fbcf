#pragma once

// SyncLock: nobody else changes a root while we compare and apply. Three parts: an flock on the
// file that other programs on this account lock as well (~/.hermes/.sync.lock; advisory, whole
// file, exclusive); one on the root's own staging directory, for daemons that share no such file;
// and within this process the set of roots that somebody works on. Held for the moment of applying,
// never for a download. The file is never written, truncated or removed: who else uses it may do
// either. Thread-safe.

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/mutex.h"

namespace hermes::sync {

using RootKey = std::pair<uint64_t, uint64_t>;  // device and inode of a root directory

struct LockRequest {
  std::string file;  // empty: no other program is known to sync these files
  std::vector<RootKey> roots;
  // A root's directory, or -1. Where nothing was ever staged there is nothing to lock, or to land.
  int dir = -1;
};

class SyncLocks;

// Held until destroyed. The locks outlive it.
class SyncLock {
 public:
  SyncLock(SyncLock&& other) noexcept;
  SyncLock& operator=(SyncLock&&) = delete;
  ~SyncLock();

 private:
  friend class SyncLocks;
  SyncLock(SyncLocks& locks, std::vector<RootKey> roots)
      : locks_(&locks), roots_(std::move(roots)) {}
  SyncLocks* locks_;
  std::vector<RootKey> roots_;
  Fd file_;
  Fd place_;
};

class SyncLocks {
 public:
  // At once or SYNC_HELD, whose metadata names the holder's process ("pid") where the kernel tells.
  // SYNC_FAILED: the file is a link, no regular file, or another account's; or can't be opened.
  // A missing file is made, and its directory, both for this account alone. All roots or none.
  absl::StatusOr<SyncLock> TryAcquire(const LockRequest& request);

 private:
  friend class SyncLock;
  bool Claim(const std::vector<RootKey>& roots);
  void Release(const std::vector<RootKey>& roots);

  Mutex mutex_;
  std::set<RootKey> busy_ GUARDED_BY(mutex_);
};

}  // namespace hermes::sync
