#include "sync/tree_state.h"

#include <algorithm>

namespace hermes::sync {
namespace {

std::string_view NameOf(const std::string& key) { return key; }
template <typename V>
std::string_view NameOf(const std::pair<const std::string, V>& entry) {
  return entry.first;
}

// The names of `sorted` that begin with `prefix`.
template <typename Sorted>
std::vector<std::string> StartingWith(const Sorted& sorted, const std::string& prefix) {
  std::vector<std::string> names;
  for (auto at = sorted.lower_bound(prefix); at != sorted.end() && NameOf(*at).starts_with(prefix);
       ++at)
    names.emplace_back(NameOf(*at));
  return names;
}

// The names of `sorted` that lie directly below `prefix`, without a walk through what is deeper.
template <typename Sorted>
void AppendLevel(const Sorted& sorted, const std::string& prefix, std::vector<std::string>* names) {
  auto at = sorted.lower_bound(prefix);
  while (at != sorted.end() && NameOf(*at).starts_with(prefix)) {
    const std::string_view name = NameOf(*at);
    const size_t slash = name.find('/', prefix.size());
    if (slash == name.npos) {
      if (!name.empty()) names->emplace_back(name);  // the root is no child
      ++at;
    } else {
      at = sorted.lower_bound(std::string(name.substr(0, slash)) + static_cast<char>('/' + 1));
    }
  }
}

}  // namespace

const TreeState::File* TreeState::Find(const std::string& path) const {
  const auto found = files_.find(path);
  return found == files_.end() ? nullptr : &found->second;
}

void TreeState::SetFile(const std::string& path, const File& file) {
  DropBelow(path);
  DropOdd(path);
  const auto [at, fresh] = files_.try_emplace(path, file);
  const bool differs = fresh || at->second.content != file.content;
  bytes_ += file.content.size - (fresh ? 0 : at->second.content.size);
  at->second = file;
  SetApart(path, file.apart);
  if (!differs) return;
  manifest_.files.insert_or_assign(*RelPath::Parse(path), file.content);
  ++generation_;
}

void TreeState::SetOdd(const std::string& path, Oddity oddity, bool apart) {
  DropBelow(path);
  DropFile(path);
  SetApart(path, apart);
  const auto [at, fresh] = manifest_.oddities.try_emplace(path, oddity);
  if (!fresh && at->second == oddity) return;
  at->second = oddity;
  ++generation_;
}

void TreeState::SetDirectory(const std::string& path) {
  DropFile(path);
  DropOdd(path);
  directories_.insert(path);
}

void TreeState::Drop(const std::string& path) {
  DropBelow(path);
  DropFile(path);
  DropOdd(path);
}

void TreeState::Clear() {
  directories_.insert("");  // a tree of one file may have none
  Drop("");
}

void TreeState::SetApart(const std::string& path, bool apart) {
  if (apart) apart_.insert(path);
  if (!apart) apart_.erase(path);
}

void TreeState::DropBelow(const std::string& path) {
  if (directories_.erase(path) == 0) return;
  const std::string prefix = path.empty() ? "" : path + "/";
  for (const std::string& name : StartingWith(files_, prefix)) DropFile(name);
  for (const std::string& name : StartingWith(manifest_.oddities, prefix)) DropOdd(name);
  for (const std::string& name : StartingWith(directories_, prefix)) directories_.erase(name);
}

void TreeState::DropFile(const std::string& path) {
  const auto found = files_.find(path);
  if (found == files_.end()) return;
  bytes_ -= found->second.content.size;
  files_.erase(found);
  apart_.erase(path);
  manifest_.files.erase(*RelPath::Parse(path));
  ++generation_;
}

void TreeState::DropOdd(const std::string& path) {
  if (manifest_.oddities.erase(path) == 0) return;
  apart_.erase(path);
  ++generation_;
}

std::vector<std::string> TreeState::ChildrenOf(const std::string& directory) const {
  const std::string prefix = directory.empty() ? "" : directory + "/";
  std::vector<std::string> names;
  AppendLevel(files_, prefix, &names);
  AppendLevel(manifest_.oddities, prefix, &names);
  AppendLevel(directories_, prefix, &names);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace hermes::sync
