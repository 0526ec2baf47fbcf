#pragma once

// Watch: the kernel's notices (inotify) of changes in a tree's directories, as names to look at
// again. The kernel queues a notice within the writer's own system call, so what a read finds
// covers every change that was finished before it. Names are relative to the root, "" is the root
// itself. One descriptor per tree. Thread-compatible.

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/runtime/fd.h"

namespace hermes::sync {

inline constexpr size_t kMaxWatches = 50'000;  // directories of one tree; beyond it is scanned

// Whether a file system tells of all changes: others than this host or this mount may change a
// network, FUSE or overlay file system without a notice. `type` is statfs's f_type.
bool TellsOfChanges(uint64_t type);

class Watch {
 public:
  // What must be looked at again.
  struct Dirt {
    std::set<std::string> files;        // names that may have changed in any way
    std::set<std::string> directories;  // with all that is below them
    std::set<std::string> stirred;      // directories in which names came or went
    bool all = false;                   // notices were lost, or the root itself moved
  };

  explicit Watch(size_t max_watches = kMaxWatches) : max_watches_(max_watches) {}

  // False: not possible on this file system, or the host has no more of what it takes.
  bool Start(int root);
  // Notices also when one of the directories above moves, as far as they may be read.
  void FollowPath(const std::string& path);
  void Stop();
  bool on() const { return notices_.valid(); }

  // Before the directory is listed. Under a name that is watched already, the new directory takes
  // its place; a directory that is watched under another name moves. False: no more watches.
  bool Add(const std::string& path, int directory);
  void Forget(const std::string& path);  // the directory and all below it

  // True if nothing happened since the last Take: one read that does not block.
  bool Quiet();
  // Adds all that was noticed before the call.
  void Take(Dirt* dirt);

 private:
  bool Fill();  // one read into buffer_; false: there was nothing
  void Note(Dirt* dirt);
  void NoteOne(int wd, uint32_t mask, std::string_view name, Dirt* dirt);
  void Remove(const std::string& path, int wd);

  const size_t max_watches_;
  Fd notices_;
  std::vector<char> buffer_;
  size_t filled_ = 0;  // bytes of buffer_ that were read and not noted yet
  std::map<std::string, int> by_path_;
  std::unordered_map<int, std::string> by_wd_;
};

}  // namespace hermes::sync
