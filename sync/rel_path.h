#pragma once

// RelPath: the name of something inside a mount, as bytes, checked part by part. Whoever holds one
// knows that it is relative, has no empty part, no "." or "..", no NUL, and is within the limits,
// so it can be walked below a held directory and never leads out of it by its text alone. Pure.

#include <compare>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sync/name_rules.h"

namespace hermes::sync {

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
