#include "sync/withheld.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include "sync/ignore.h"

namespace hermes::sync {
namespace {

constexpr size_t kLineBytes = 67;  // of the canonical text, but for the name

// The part of `path` up to the first name that is like a secret's; empty: none is.
std::string_view TopSecret(std::string_view path) {
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view name = path.substr(begin, end - begin);
    if (name.starts_with(kOwnPrefix)) return {};
    if (NamedLikeSecret(name)) return path.substr(0, end);
    begin = end + 1;
  }
  return {};
}

std::string_view NameOf(const RelPath& path) { return path.str(); }
std::string_view NameOf(const std::string& name) { return name; }

// Its nodes move: nothing of a large tree is copied.
template <typename Map>
void Move(Map* from, Map* to) {
  for (auto at = from->begin(); at != from->end();) {
    const auto next = std::next(at);
    if (!TopSecret(NameOf(at->first)).empty()) to->insert(to->end(), from->extract(at));
    at = next;
  }
}

}  // namespace

Manifest TakeWithheld(Manifest* found) {
  Manifest withheld;
  Move(&found->files, &withheld.files);
  Move(&found->oddities, &withheld.oddities);
  return withheld;
}

std::set<std::string> WithheldNames(const Manifest& withheld) {
  std::set<std::string> names;
  for (const auto& [path, content] : withheld.files) names.emplace(TopSecret(path.str()));
  for (const auto& [name, oddity] : withheld.oddities) names.emplace(TopSecret(name));
  return names;
}

FileMap RememberedOf(const FileMap& withheld) {
  size_t bytes = 0;
  for (const auto& [path, content] : withheld) bytes += kLineBytes + path.str().size();
  return bytes <= kMaxWithheldBytes ? withheld : FileMap();
}

Digest DigestWith(const FileMap& files, const FileMap& withheld) {
  if (withheld.empty()) return ManifestDigest(files);
  FileMap both = files;
  both.insert(withheld.begin(), withheld.end());
  return ManifestDigest(both);
}

}  // namespace hermes::sync
