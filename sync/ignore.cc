#include "sync/ignore.h"

#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

constexpr std::string_view kLockFile = ".sync.lock";

}  // namespace

absl::Status IgnoreList::CheckPatterns(const std::vector<std::string>& patterns) {
  if (patterns.size() > kMaxIgnorePatterns)
    return BadField("ignore", "a mount has at most 256 ignore patterns");
  for (const std::string& pattern : patterns) {
    std::string_view rest = pattern;
    while (rest.ends_with('/')) rest.remove_suffix(1);
    if (rest.starts_with('/')) rest.remove_prefix(1);
    if (CheckPath(rest) != PathFault::kNone || pattern.size() > kMaxIgnoreBytes)
      return BadField("ignore", "a pattern is a name, or names with slashes, of at most 256 bytes");
  }
  return absl::OkStatus();
}

bool DeniedOnPull(const RelPath& path) {
  bool in_git = false;
  for (const std::string_view part : path.parts()) {
    if (part == ".ssh") return true;
    if (in_git && (part == "hooks" || part.starts_with("config"))) return true;
    in_git = in_git || part == ".git";
  }
  // A file ".git" says where git finds its hooks.
  return path.leaf() == ".git" || path.leaf() == kLockFile;
}

}  // namespace hermes::sync
