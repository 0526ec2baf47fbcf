#include "sync/name_rules.h"

#include <utility>

namespace hermes::sync {
namespace {

// The next part of `*rest`, which loses it and the slash behind it.
std::string_view Cut(std::string_view* rest) {
  const size_t slash = rest->find('/');
  const std::string_view part = rest->substr(0, slash);
  rest->remove_prefix(slash == rest->npos ? rest->size() : slash + 1);
  return part;
}

bool PartEscapes(std::string_view part) {
  return part.empty() || part == "." || part == ".." || part.find('\0') != part.npos;
}

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

// Whether `pattern` matches `path` or a directory above it, part by part.
bool MatchFromRoot(std::string_view pattern, std::string_view path) {
  while (!pattern.empty()) {
    if (path.empty() || !Match(Cut(&pattern), Cut(&path))) return false;
  }
  return true;
}

}  // namespace

PathFault CheckPath(std::string_view text) {
  bool too_long = text.size() > kMaxPathBytes;
  size_t depth = 0;
  // A trailing slash leaves an empty last part, which must be seen.
  bool more = true;
  for (std::string_view rest = text; more; ++depth) {
    more = rest.find('/') != rest.npos;
    const std::string_view part = Cut(&rest);
    if (PartEscapes(part)) return PathFault::kEscapes;
    too_long = too_long || part.size() > kMaxPartBytes;
  }
  return too_long || depth > kMaxDepth ? PathFault::kTooLong : PathFault::kNone;
}

bool HasPlainName(std::string_view path) { return path.find_first_of("\n\\") == path.npos; }

NameFilter::NameFilter(std::vector<std::string> patterns) {
  for (std::string& pattern : patterns) {
    while (pattern.ends_with('/')) pattern.pop_back();
    const bool anchored = pattern.find('/') != pattern.npos;
    if (pattern.starts_with('/')) pattern.erase(0, 1);
    (anchored ? anchored_ : anywhere_).push_back(std::move(pattern));
  }
}

bool NameFilter::Ignores(std::string_view path) const {
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

}  // namespace hermes::sync
