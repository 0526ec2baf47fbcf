#pragma once

// RelPath: the name of something inside a mount, as bytes, checked part by part. Whoever holds one
// knows that it is relative, has no empty part, no "." or "..", no NUL, and is within the limits,
// so it can be walked below a held directory and never leads out of it by its text alone. Pure.

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace hermes::sync {

inline constexpr size_t kMaxPartBytes = 255;
inline constexpr size_t kMaxPathBytes = 4096;
inline constexpr size_t kMaxDepth = 64;

// Why a text is no RelPath. Somebody who lies is told from somebody whose tree is unusual.
enum class PathFault {
  kNone,
  kEscapes,  // absolute, an empty part, "." or "..", NUL: no honest tree has such a name
  kTooLong,  // a part, the whole or the depth is over its limit: odd, yet possible
};

PathFault CheckPath(std::string_view text);

class RelPath {
 public:
  // PATH_ESCAPES_ROOT for kEscapes, BAD_FIELD for kTooLong.
  static absl::StatusOr<RelPath> Parse(std::string_view text);

  const std::string& str() const { return text_; }
  std::vector<std::string_view> parts() const;
  std::string_view leaf() const;
  std::string_view parent() const;  // empty: the mount's root
  // True for the directory itself and all below it, part by part: "ab/c" is not within "a".
  bool Within(const RelPath& directory) const;

  auto operator<=>(const RelPath&) const = default;  // bytewise, as `LC_ALL=C sort` has it

 private:
  explicit RelPath(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

}  // namespace hermes::sync
