#pragma once

// What tests of landing share: trees as values, scenarios (a tree before and after), and a
// directory of the real file system.

#include <map>
#include <string>
#include <vector>

#include "sync/land.h"
#include "sync/real_fs.h"
#include "sync/undo.h"

namespace hermes::sync {

struct TestFile {
  std::string text;
  uint32_t mode = 0644;
  bool operator==(const TestFile&) const = default;
  // As landing counts versions: the other permission bits are the host's own affair.
  bool SameVersion(const TestFile& other) const {
    return text == other.text && (mode & 0100) == (other.mode & 0100);
  }
};
using TestTree = std::map<std::string, TestFile>;  // a directory: name ends in "/", no text

MaybeContent ContentOf(const TestTree& tree, const std::string& path);
// All but the place of the stages. Anything but files and directories is left out.
TestTree ReadTree(Fs& fs, int root);
TestTree FilesOf(const TestTree& tree);  // without directories
std::string Describe(const TestTree& tree);
// Makes parents with 0755. Replaces nothing.
void PutFile(Fs& fs, int root, const std::string& path, const TestFile& file);
void PutTree(Fs& fs, int root, const TestTree& tree);

struct Scenario {
  const char* name;
  TestTree before;
  TestTree after;  // only files
};
// Replaced, created and deleted files, directories that come and go.
const std::vector<Scenario>& Scenarios();

// The changes from one tree to another; stages what they need. `id` is the sync's.
struct Staged {
  Stage stage;
  std::vector<Change> changes;
};
absl::StatusOr<Staged> StageAll(Fs& fs, Landing& landing, const TestTree& before,
                                const TestTree& after, const std::string& id);
// Both in one.
absl::StatusOr<LandReport> LandAll(Fs& fs, int root, const TestTree& before, const TestTree& after,
                                   const std::string& id);

// A fresh directory of the real file system, removed at the end. kMemory: of one without a disk, if
// the machine has it, for tests that make thousands.
class RealRoot {
 public:
  enum class Where { kDisk, kMemory };
  explicit RealRoot(Where where = Where::kMemory);
  ~RealRoot();
  RealRoot(const RealRoot&) = delete;
  RealRoot& operator=(const RealRoot&) = delete;

  const std::string& path() const { return path_; }
  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  int fd() const { return root_.get(); }
  RealFs& fs() { return fs_; }
  TestTree tree() { return ReadTree(fs_, fd()); }

 private:
  std::string path_;
  RealFs fs_;
  Handle root_;
};

// Of one path in a report; fails the test if it is not there.
LandResult ResultOf(const LandReport& report, const std::string& path);

}  // namespace hermes::sync
