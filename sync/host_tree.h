#pragma once

// HostTree: what a mount's end on the host holds right now. After Refresh, its manifest has every
// change that was finished before the call, in time that grows with the changes, not with the tree.
//
// How it knows: notices of the kernel where those tell everything (Watch), else stat keys of all
// files. Not seen by kChanges: stores through a shared mapping before it is closed, and writes
// through a hard link that was made elsewhere since the file was last read. For those the owner
// asks for kStats now and then, and for kBytes rarely. Not seen by Unchanged(): that a directory
// above a directory mount's root moved which this account may not read (each Refresh sees it).
//
// Thread-compatible; Refresh and the constructor block, so they run on Workers. Unchanged() is for
// the loop, while no Refresh runs.

#include <dirent.h>
#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/fd.h"
#include "sync/file_bytes.h"
#include "sync/host_root.h"
#include "sync/ignore.h"
#include "sync/manifest.h"
#include "sync/mount.h"
#include "sync/stat_key.h"
#include "sync/tree_state.h"
#include "sync/watch.h"

namespace hermes::sync {

enum class Effort {
  kChanges,  // what was noticed, or all stat keys where nothing is noticed
  kStats,    // all stat keys
  kBytes,    // all bytes
};

struct KnownFile {  // from an earlier life: a file with this key need not be read again
  Content content;
  StatKey key;
};

class HostTree {
 public:
  struct Setup {
    const HostRoot* root;  // outlives the tree, as the clock does
    const Clock* clock;
    Mount mount;
    std::map<std::string, KnownFile> known = {};
    size_t max_watches = kMaxWatches;  // 0: scan only
  };

  // Looks at nothing yet: the first Refresh scans.
  explicit HostTree(Setup setup);

  // True only if the last Refresh still holds: nothing was changed before this call. One system
  // call where the tree is watched and has no hard links; otherwise a stat for each of those; two
  // stats for a file mount. Always false where the tree must be scanned, has links that the mount
  // follows, or has too much to stat on the loop.
  bool Unchanged();

  // SYNC_FAILED: the root is gone, the mount's limits are exceeded, or something could not be read
  // for lack of resources. Then the manifest is not to be used, and the next Refresh looks at
  // everything again.
  absl::Status Refresh(Effort effort);

  const Manifest& manifest() const { return state_.manifest(); }
  uint64_t generation() const { return state_.generation(); }  // grows as the manifest changes
  bool watching() const { return watch_.on(); }

  int64_t MtimeNs(const RelPath& path) const;  // 0: there is no such file

  // The key to remember a file's content by; an inode of 0: it can't be trusted (yet).
  StatKey TrustedKey(const RelPath& path) const;

 private:
  enum class Trust { kKeys, kNothing };

  void StartWatch();
  void StartAnew();
  void Scan(Trust trust);
  void LookAtDirt(const Watch::Dirt& dirt);
  bool ListAgain(Watch::Dirt* later);
  void LookAtAll(const std::set<std::string>& paths, Trust trust);
  void LookAtDirectory(const std::string& path, Trust trust);
  void List(int directory, const std::string& path, Trust trust);
  void LookIn(int directory, const std::string& path, Trust trust);
  void LookAtFile(int directory, const std::string& path, const struct stat& seen, Trust trust);
  void Follow(int directory, const std::string& path, Trust trust);
  void ReadFile(const Fd& file, const std::string& path, bool apart);
  void Fail(const std::string& path, int error);
  void SetOdd(const std::string& path, Oddity oddity, bool apart = false);
  void Drop(const std::string& path);
  bool LeadsToSecret(const Fd& target) const;
  bool IsWithheld(const std::string& path) const;
  bool Trusted(const std::string& path, const StatKey& key) const;
  bool SameApart(const std::string& path) const;
  absl::Status CheckLimits() const;
  Fd OpenTarget(int directory, const std::string& path) const;

  const HostRoot& root_;
  const Clock& clock_;
  const Mount mount_;
  const IgnoreList ignore_;
  const bool withholds_;                    // names of secrets, which are told
  std::map<std::string, KnownFile> known_;  // until a Refresh succeeds
  const bool local_;                        // the root's file system
  const bool watchable_;
  Watch watch_;
  TreeState state_;
  Watch::Dirt dirt_;                 // noticed and not yet looked at with success
  std::set<std::string> listed_;     // directories, by the Refresh that runs
  std::set<std::string> unsettled_;  // changed while they were read
  bool rescan_ = true;               // what is known is not enough: look at everything
  absl::Status failure_;             // of the Refresh that runs
};

}  // namespace hermes::sync
