#pragma once

// HostRoot: the host's end of a mount, resolved once and held by its descriptor. Everything sync
// does on the host is named below it, so what happens to the path later leads nowhere else.
// Thread-compatible; the calls block, so they are made on Workers.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/runtime/fd.h"
#include "sync/mount.h"
#include "sync/rel_path.h"

namespace hermes::sync {

// What no mount may reach, given by whoever wires the daemon. Links in these paths are resolved.
struct HostFence {
  std::vector<std::string> homes;  // refused: one itself, what lies above it, and its .ssh
  std::vector<std::string> own;    // the daemon's state and runtime directories: refused from above
                                   // and from below
};

class HostRoot;

// Some path of the host is reached through both, by whatever links or bind mounts.
bool Overlap(const HostRoot& one, const HostRoot& other);

// How a far end that lies on this very host lies to a mount's end here.
enum class FarPlace {
  kApart,
  kSame,   // both ends are one directory: there is nothing to move
  kBelow,  // the far end is in the host's: what is sent there is to be sent again
  kAbove,  // the host's is in the far end: what is brought from there is there again
};
// `far`: a directory, which need not exist; of a file mount the one that holds the file. Blocks.
FarPlace PlaceOf(const HostRoot& host, std::string far);

// The homes of root and of all accounts of people in /etc/passwd.
std::vector<std::string> HomesOfPeople();

class HostRoot {
 public:
  // BAD_FIELD: no such file or directory, neither of the two, another kind than the mount says, not
  // below `mount.beneath`, or refused by the fence. A directory that a pull may write is made if
  // only its last part is missing.
  static absl::StatusOr<HostRoot> Open(const Mount& mount, const HostFence& fence);

  // The directory, of a file mount the one that holds the file. Open for reading.
  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }  // of fd(), without links
  dev_t device() const { return device_; }
  ino_t inode() const { return inode_; }

  // The only name of a file mount; nullopt: a directory mount.
  const std::optional<RelPath>& only() const { return only_; }
  MountKind kind() const { return only_ ? MountKind::kFile : MountKind::kDirectory; }

  // SYNC_FAILED if path() no longer leads to the directory held: it was moved, removed or replaced.
  absl::Status CheckSame() const;

 private:
  friend bool Overlap(const HostRoot& one, const HostRoot& other);
  friend FarPlace PlaceOf(const HostRoot& host, std::string far);
  bool IsWithin(const HostRoot& above) const;

  HostRoot() = default;
  Fd fd_;
  std::string path_;
  std::string on_disk_;  // path_ as the file system itself names it, whatever is mounted where
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::optional<RelPath> only_;
};

}  // namespace hermes::sync
