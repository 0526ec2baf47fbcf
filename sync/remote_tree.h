#pragma once

// RemoteTree: what sync asks of the far end of a mount. Implemented once over whatever can run a
// program there: level A is the runner's own file service, level B a POSIX shell with common tools
// (shell_tree.h). Both give the same answers. Everything that comes back is hostile input:
// bounded, parsed whole, and never a path that leaves the mount. Loop thread; calls may overlap, as
// a push goes on during a fetch; the object outlives them.
//
// BACKEND_UNREACHABLE: the stream broke or the answer is cut short; nothing may be concluded, and
// Look and Fetch may be repeated. SYNC_FAILED: the far side answers nonsense, or cannot do it, with
// what it said. CAPABILITY_MISSING: one of those tools is not there. CANCELLED: the root's wish was
// withdrawn.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"
#include "sync/manifest.h"
#include "sync/plan.h"

namespace hermes::sync {

// The far root of a mount, and which of its names count. Our token is a file in it,
// `.hermesd-epoch`; several file mounts may share a directory, so theirs have the file's name
// behind that. Where that name is too long there is no token, and so no base.
struct RemoteRoot {
  std::string path;                      // absolute, or "~/..." below the home over there
  std::optional<RelPath> only;           // of a file mount
  std::vector<std::string> ignore;       // IgnoreList::CheckPatterns has accepted them
  uint64_t max_file_bytes = UINT64_MAX;  // a bigger file is an oddity
  WishPtr wish = {};                     // of who asks: withdrawn, the call ends soon
};

enum class ToolLevel : char { kRunner = 'A', kShell = 'B' };

struct RemoteLook {
  ToolLevel level = ToolLevel::kShell;
  bool exists = false;  // the root is there
  std::string epoch;    // our token below the root; empty: none
  Digest digest;        // of the manifest
  bool same = false;    // it is the expected one, and the manifest was not sent
  Manifest manifest;    // sizes are 0 at level B
};

enum class Placed : char {
  kDone = 'p',
  kConflict = 'c',  // neither what was expected nor what is wanted is there: left alone
  kFailed = 'f',    // could not be placed; the others were
};

// Gives the bytes of the files that a push sends, in the order of its changes.
class BlobSource {
 public:
  virtual ~BlobSource() = default;
  struct Blob {
    std::string bytes;    // the next piece; empty: the end of this file
    bool failed = false;  // with the end: what was given is no version of the file (it changed
                          // while it was read): the far side is told not to place it
  };
  // Pieces of the change at `index` until one is empty. The size was told by the change's `wanted`:
  // exactly that many bytes are given in all, padded if the file has shrunk.
  virtual Task<Blob> Read(size_t index) = 0;
};

struct RemoteApply {
  RemoteRoot root;
  std::string epoch;  // written below the root if it can be; 16 to 64 hex digits; empty: it stays
  std::string known_epoch;  // with another one there nothing is placed, all are kFailed; empty: any
  std::vector<RemoteChange> changes;  // `wanted` of nullopt deletes
  bool secret = false;                // files 0600, new directories 0700
  BlobSource* source = nullptr;       // outlives the call
  // Called at most once, before the far side has answered, where it can make a command wait for
  // this apply: with CommandSpec::after of one.
  std::function<void(std::string run_id)> on_follow = nullptr;
};

struct RemoteApplied {
  std::string epoch;  // that was below the root before; empty: none, or no root
  std::vector<Placed> placed;
};

class RemoteTree {
 public:
  virtual ~RemoteTree() = default;

  virtual Task<absl::StatusOr<RemoteLook>> Look(RemoteRoot root,
                                                std::optional<Digest> expected) = 0;

  // One exec, staged and then placed by rename: file by file, or a root or directory that is
  // missing whole. What Placed says of each change, in their order. Without changes it still makes
  // the root and writes the epoch. After an error any of them may have been placed: Look again.
  virtual Task<absl::StatusOr<RemoteApplied>> Apply(RemoteApply apply) = 0;

  // A tar stream of exactly these names (those that are still there), handed over piece by piece;
  // an error of `take` ends it. The stream is raw: hermes-unpack verifies it. Their size only helps
  // to choose a way.
  using TakeBytes = std::function<Task<absl::Status>(std::string_view bytes)>;
  struct Wanted {
    std::vector<RelPath> names;
    uint64_t bytes = 0;  // of all, as the look told; 0: it told none
  };
  virtual Task<absl::Status> Fetch(RemoteRoot root, Wanted wanted, TakeBytes take) = 0;
};

}  // namespace hermes::sync
