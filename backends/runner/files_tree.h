#pragma once

// A mount's root as the file service sees it: directories held open, no link below the root ever
// followed. Failures leave errno.

#include <stdint.h>
#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>

#include "backends/runner/sys.h"
#include "sync/name_rules.h"

namespace hermes::runner {

inline constexpr std::string_view kStagePrefix = ".hermesd-stage-";

bool IsEpoch(std::string_view text);  // 16 to 64 hex digits

// A version of a file as requests spell it: 64 hex digits, then 'x' if it is executable, else '-'.
std::string ContentText(std::string_view digest, bool executable);

// What is behind one name.
struct Found {
  enum Kind { kNothing, kFile, kDirectory, kOther, kFailed } kind = kNothing;
  std::string content;  // of kFile: its ContentText
  struct stat facts;    // of kFile: from before it was read
};

class FilesTree {
 public:
  FilesTree() = default;
  // `path`: absolute, or "~/..." below the home. Links on the way to the root are followed.
  // `only`: of a file mount, which has a token of its own.
  FilesTree(std::string_view path, std::string_view only);

  bool Open();  // false with ENOENT: it is not there
  // The directory that it is in, made with what is missing above that.
  Fd MakeParent(mode_t mode) const;
  // Becomes `name` in the directory `at`, which is made.
  bool MakeIn(int at, const std::string& name, mode_t mode);
  bool is_open() const { return root_.valid(); }
  int root() const { return root_.get(); }
  const std::string& path() const { return path_; }
  const std::string& epoch_name() const { return epoch_name_; }
  std::string Epoch() const;  // empty: there is none that is one

  // The directory that holds `name`, valid until the next call; -1: ENOENT, ELOOP (a link is on the
  // way), ENOTDIR (something else is). With `mode` what is missing is made.
  int Above(std::string_view name, mode_t mode = 0);
  // For reading; -1 as above, or with EINVAL: it is no regular file.
  Fd OpenFile(std::string_view name, struct stat* facts);
  Found Find(std::string_view name);
  // After its last file was removed: the directories above `name` that are empty now.
  void RemoveEmptied(std::string_view name);

 private:
  const std::string path_;
  const std::string epoch_name_;
  Fd root_;
  std::string above_;  // what above_fd_ is
  Fd above_fd_;
};

std::string Leaf(std::string_view name);

// Hashes at most `bytes` of what is open; *bytes becomes what there was. nullopt: errno.
std::optional<std::string> HashFile(int fd, uint64_t* bytes);

}  // namespace hermes::runner
