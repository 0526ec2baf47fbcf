#pragma once

// What a name inside a mount may be, and which names never travel. Both ends decide it by this
// code: the daemon (rel_path.h, ignore.h and manifest.h show it to the rest of sync) and the
// runner, so nothing but the standard library here. Pure; the names may come from anybody.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace hermes::sync {

inline constexpr size_t kMaxPartBytes = 255;
inline constexpr size_t kMaxPathBytes = 4096;
inline constexpr size_t kMaxDepth = 64;

// Names with a part of this start are ours on both sides: stages, undo, epoch tokens.
inline constexpr std::string_view kOwnPrefix = ".hermesd";

// Why a text is no RelPath. Somebody who lies is told from somebody whose tree is unusual.
enum class PathFault {
  kNone,
  kEscapes,  // absolute, an empty part, "." or "..", NUL: no honest tree has such a name
  kTooLong,  // a part, the whole or the depth is over its limit: odd, yet possible
};

PathFault CheckPath(std::string_view text);

// False for a name that the canonical text leaves out: it has a newline or a backslash.
bool HasPlainName(std::string_view path);

// A pattern without a slash is about every part of a name; one with a slash (a leading one is
// dropped) about the whole, from the mount's root. `*` and `?` never stand for a slash; a backslash
// takes the next byte literally. What matches is ignored with all that is below it.
class NameFilter {
 public:
  NameFilter() = default;
  explicit NameFilter(std::vector<std::string> patterns);

  // `path` or a directory above it is ignored, or is ours (kOwnPrefix).
  bool Ignores(std::string_view path) const;

 private:
  std::vector<std::string> anywhere_;
  std::vector<std::string> anchored_;
};

}  // namespace hermes::sync
