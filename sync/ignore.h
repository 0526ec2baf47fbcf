#pragma once

// Which names of a mount never travel, on either side: the mount's own ignore list, and what sync
// itself refuses whatever the mount says. Pure; the names may come from anybody.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "sync/rel_path.h"

namespace hermes::sync {

inline constexpr size_t kMaxIgnorePatterns = 256;
inline constexpr size_t kMaxIgnoreBytes = 256;  // of one pattern

// Names with a part of this start are ours on both sides: stages, undo, epoch tokens.
inline constexpr std::string_view kOwnPrefix = ".hermesd";

// A pattern without a slash is about every part of a name; one with a slash (a leading one is
// dropped) about the whole, from the mount's root. `*` and `?` never stand for a slash; a backslash
// takes the next byte literally. What matches is ignored with all that is below it.
class IgnoreList {
 public:
  IgnoreList() = default;
  explicit IgnoreList(std::vector<std::string> patterns);  // CheckPatterns has accepted them
  static absl::Status CheckPatterns(const std::vector<std::string>& patterns);  // BAD_FIELD

  // `path` or a directory above it is ignored, or is ours (kOwnPrefix).
  bool Ignores(std::string_view path) const;

 private:
  std::vector<std::string> anywhere_;
  std::vector<std::string> anchored_;
};

// True for what a pull may never write, however it was asked for: what the host would run or log in
// with by itself (.ssh; hooks and settings of git) and the predecessor's lock file.
bool DeniedOnPull(const RelPath& path);

}  // namespace hermes::sync
