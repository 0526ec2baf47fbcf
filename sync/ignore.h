#pragma once

// Which names of a mount never travel, on either side: the mount's own ignore list, and what sync
// itself refuses whatever the mount says. Pure; the names may come from anybody.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "sync/name_rules.h"
#include "sync/rel_path.h"

namespace hermes::sync {

inline constexpr size_t kMaxIgnorePatterns = 256;
inline constexpr size_t kMaxIgnoreBytes = 256;  // of one pattern

// The patterns of one mount, as NameFilter reads them.
class IgnoreList {
 public:
  IgnoreList() = default;
  explicit IgnoreList(std::vector<std::string> patterns)  // CheckPatterns has accepted them
      : filter_(std::move(patterns)) {}
  static absl::Status CheckPatterns(const std::vector<std::string>& patterns);  // BAD_FIELD

  // `path` or a directory above it is ignored, or is ours (kOwnPrefix).
  bool Ignores(std::string_view path) const { return filter_.Ignores(path); }

 private:
  NameFilter filter_;
};

// Names under which people keep what nobody else shall see. A directory's mount leaves them out on
// both sides unless it says otherwise (CheckedMount): a work tree is mounted in a hurry.
const std::vector<std::string>& SecretPatterns();
bool NamedLikeSecret(std::string_view name);  // one part of a path

// True for what a pull may never write, however it was asked for: what the host would run or log in
// with by itself (.ssh; hooks and settings of git, and what leads git to others) and the
// predecessor's lock file; in any case of the letters, as there are directories that ignore it.
bool DeniedOnPull(const RelPath& path);

}  // namespace hermes::sync
