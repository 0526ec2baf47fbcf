#include "sync/ignore.h"

#include <utility>

#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

constexpr std::string_view kLockFile = ".sync.lock";

// Wildcards against one part. Linear in memory, |pattern| * |text| in time at the worst: text is a
// peer's.
bool Match(std::string_view pattern, std::string_view text) {
  size_t p = 0;
  size_t t = 0;
  size_t star = pattern.npos;  // the last `*` seen, and how far it reaches in `text`
  size_t reach = 0;
  while (t < text.size()) {
    const char want = p < pattern.size() ? pattern[p] : '\0';
    const size_t escape = want == '\\' && p + 1 < pattern.size() ? 1 : 0;
    if (want == '*' && p < pattern.size()) {
      star = p++;
      reach = t;
    } else if (p < pattern.size() && (want == '?' || pattern[p + escape] == text[t])) {
      p += 1 + escape;
      ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++reach;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::string_view Cut(std::string_view* rest) {
  const size_t slash = rest->find('/');
  const std::string_view part = rest->substr(0, slash);
  rest->remove_prefix(slash == rest->npos ? rest->size() : slash + 1);
  return part;
}

// Whether `pattern` matches `path` or a directory above it, part by part.
bool MatchFromRoot(std::string_view pattern, std::string_view path) {
  while (!pattern.empty()) {
    if (path.empty() || !Match(Cut(&pattern), Cut(&path))) return false;
  }
  return true;
}

}  // namespace

IgnoreList::IgnoreList(std::vector<std::string> patterns) {
  for (std::string& pattern : patterns) {
    while (pattern.ends_with('/')) pattern.pop_back();
    const bool anchored = pattern.find('/') != pattern.npos;
    if (pattern.starts_with('/')) pattern.erase(0, 1);
    (anchored ? anchored_ : anywhere_).push_back(std::move(pattern));
  }
}

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

bool IgnoreList::Ignores(std::string_view path) const {
  for (const std::string& pattern : anchored_) {
    if (MatchFromRoot(pattern, path)) return true;
  }
  for (std::string_view rest = path; !rest.empty();) {
    const std::string_view part = Cut(&rest);
    if (part.starts_with(kOwnPrefix)) return true;
    for (const std::string& pattern : anywhere_) {
      if (Match(pattern, part)) return true;
    }
  }
  return false;
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
