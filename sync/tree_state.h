#pragma once

// TreeState: what is known of a host tree between two looks at it: the manifest, and for each file
// what makes reading it again unnecessary. Pure; never wrong about its own structure: what is a
// file has nothing below it.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sync/content.h"
#include "sync/manifest.h"
#include "sync/stat_key.h"

namespace hermes::sync {

class TreeState {
 public:
  struct File {
    Content content;
    StatKey key;
    bool trusted = false;  // an equal key means equal bytes
    bool apart = false;    // may change without a notice: hard links, targets of links
  };

  const File* Find(const std::string& path) const;
  bool HasDirectory(const std::string& path) const { return directories_.contains(path); }
  // What is there now, in a known directory. The path is plain and a RelPath, but for SetOdd: any
  // bytes.
  void SetFile(const std::string& path, const File& file);
  void SetOdd(const std::string& path, Oddity oddity, bool apart = false);
  void SetDirectory(const std::string& path);
  void Drop(const std::string& path);  // nothing, neither there nor below
  void Clear();

  // Everything known that lies directly in a directory ("" is the root), directories included.
  std::vector<std::string> ChildrenOf(const std::string& directory) const;

  const Manifest& manifest() const { return manifest_; }
  uint64_t generation() const { return generation_; }  // grows with each change of the manifest
  uint64_t bytes() const { return bytes_; }
  size_t directories() const { return directories_.size(); }
  // What may change without a notice, files and oddities.
  const std::set<std::string>& apart() const { return apart_; }

 private:
  void SetApart(const std::string& path, bool apart);
  void DropBelow(const std::string& path);
  void DropFile(const std::string& path);
  void DropOdd(const std::string& path);

  std::map<std::string, File> files_;
  std::set<std::string> directories_;
  std::set<std::string> apart_;
  Manifest manifest_;
  uint64_t generation_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace hermes::sync
