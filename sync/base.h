#pragma once

// Base: what both sides of a mount last agreed on, kept over restarts, so that a later session on
// the same two roots moves only what changed since. A file per key: records that are appended, each
// with its own checksum, rewritten as one when most of them are stale.
//
// It is safe to lose: without a base, versions that differ are conflicts and nothing is deleted. So
// a file that cannot be read for any reason is no base; only a record that was cut short at the end
// (its commit was never confirmed) is left out alone.
//
// Thread-compatible; all calls but the getters block: Workers.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/runtime/fd.h"
#include "sync/content.h"
#include "sync/fs.h"
#include "sync/host_tree.h"
#include "sync/manifest.h"
#include "sync/rel_path.h"
#include "sync/stat_key.h"

namespace hermes::sync {

inline constexpr uint64_t kMaxBaseBytes = 256 << 20;  // a longer file is no base

// The new base of one path: nullopt forgets it. `host_key` is HostTree::TrustedKey of that version,
// or an empty one.
struct BaseChange {
  RelPath path;
  MaybeContent content;
  StatKey host_key = {};
};

class Base {
 public:
  // `fs` is asked for what is written, and outlives the base; its handles are descriptors.
  // `directory` is made if only its last part is missing; `key` says which two roots are meant (any
  // text: the place's identity, both roots). SYNC_HELD: somebody else has this base open.
  // DISK_FULL, or a plain status: its file cannot be made.
  static absl::StatusOr<Base> Open(Fs& fs, const std::string& directory, std::string_view key);

  // The token that the far side must show for this base to mean anything; empty: there is no base.
  const std::string& epoch() const { return epoch_; }
  const FileMap& files() const { return files_; }
  // What a push was about to send when nothing more was heard of it: the far side holds this or
  // what files() says.
  const std::map<RelPath, MaybeContent>& sent() const { return sent_; }
  // For HostTree::Setup: which host files need not be read again.
  std::map<std::string, KnownFile> Known() const;

  // Forgets everything and begins a base of a far side that shows `epoch` from now on. What
  // a power cut may bring back is of another token, and so no base.
  absl::Status Begin(std::string_view epoch);
  // All or nothing; outlives this process when it returns OK. A power cut may forget the last ones:
  // then both sides hold the same and the next pull sees it, so no command waits for a disk. On
  // failure the base is as before, here and on disk. CHECKs that there is a base.
  absl::Status Commit(const std::vector<BaseChange>& changes);
  // These are sent(), and nothing else is; a Commit takes out what it decides. As durable as that.
  absl::Status Announce(const std::vector<BaseChange>& changes);

 private:
  Base() = default;
  void Load();
  bool Replay(std::string_view bytes);
  bool ReplayOne(std::string_view payload, bool first);
  void Apply(uint8_t kind, const std::vector<BaseChange>& changes);
  std::string Records() const;
  absl::Status Rewrite(const std::string& records, bool durable);
  void Compact();
  absl::Status Record(uint8_t kind, const std::vector<BaseChange>& changes);
  absl::Status Append(const std::string& record);

  Fs* fs_ = nullptr;
  std::string directory_;
  std::string name_;
  std::string key_;
  Fd file_;            // locked
  uint64_t size_ = 0;  // of the file, up to the last whole record
  bool torn_ = false;  // there may be more behind that
  uint64_t compact_at_ = 0;
  std::string epoch_;
  FileMap files_;
  std::map<RelPath, StatKey> host_keys_;  // of some of files_
  std::map<RelPath, MaybeContent> sent_;
};

}  // namespace hermes::sync
