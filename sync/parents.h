#pragma once

// Parents: the directories of a landing, opened beneath the mount's root without following any
// link, made where they miss, and remembered so that they can be synced. Holds one open directory
// at a time: a batch comes sorted. Worker threads; one landing.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "sync/fs.h"
#include "sync/journal.h"

namespace hermes::sync {

inline constexpr uint32_t kNewDirMode = 0755;  // of what a landing makes

class Parents {
 public:
  // Of a directory that is not there. kMake: the caller syncs before it moves anything into one;
  // kMakeDurable: synced here, for what is moved into a directory goes wherever that goes.
  enum class Missing { kFail, kMake, kMakeDurable };

  // `new_dir_mode`: of a directory that is not among `dirs`. `root` stays the caller's.
  Parents(Fs& fs, int root, const std::vector<DirRecord>& dirs, uint32_t new_dir_mode);

  // A handle that lives until the next call, or a negative errno.
  int Open(std::string_view dir, Missing missing);
  void Forget();  // the next Open looks again

  // Something in it changed.
  void Touch(std::string_view dir) { touched_.emplace(dir); }
  // Removes it if it is empty; true if it did.
  bool Remove(const std::string& dir);
  // Makes the changed names durable, with those of `also`.
  int SyncTouched(int also);

 private:
  int Make(const std::string& dir, bool durable);
  int MakeOne(const std::string& parent, const std::string& dir, bool durable);

  Fs& fs_;
  const int root_;
  const uint32_t new_dir_mode_;
  std::map<std::string, uint32_t, std::less<>> modes_;
  std::set<std::string, std::less<>> touched_;
  std::string open_path_;
  Handle open_;
};

// "a/b" of "a/b/c"; "" of "c".
std::string_view ParentOf(std::string_view path);
std::string_view LeafOf(std::string_view path);

// The parents of all changes, parents before children, as they are now.
std::vector<DirRecord> SurveyDirs(Fs& fs, int root, const std::vector<Change>& changes);

}  // namespace hermes::sync
