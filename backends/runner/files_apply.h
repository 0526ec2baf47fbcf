#pragma once

// An apply: everything is staged first, under its own names, then placed by rename: file by file,
// a directory that is missing with all that is below it, and a root that is missing whole.

#include <stdint.h>

#include <string>
#include <string_view>
#include <vector>

#include "backends/runner/files_io.h"
#include "backends/runner/files_tree.h"

namespace hermes::runner {

inline constexpr uint32_t kOwnBytes = UINT32_MAX;

struct Change {
  std::string_view name;
  std::string_view expected;  // ContentText; empty: no file
  bool wanted = false;        // else it is to go
  uint64_t size = 0;
  bool executable = false;
  uint64_t time_s = 0;           // of its last change on the other side
  uint32_t same_as = kOwnBytes;  // an earlier change whose bytes these are, too
  std::string content;           // what came
  char result = 'f';             // as the answer says it: p, c or f
  bool removed = false;
  int error = 0;  // errno of an f; 0: what came is no version of the file
};

class Apply {
 public:
  Apply(FilesTree& tree, FilesInput& input, FilesAnswer& answer)
      : tree_(tree), input_(input), answer_(answer) {}
  ~Apply();  // the stage is gone

  std::string_view epoch;        // is written
  std::string_view known_epoch;  // with another one there nothing is placed; empty: any
  bool secret = false;
  std::vector<Change> changes;

  int Run();  // the program's end

 private:
  mode_t DirectoryMode() const { return secret ? 0700 : 0755; }
  bool MakeStage();
  bool Receive(size_t index);
  bool ReceiveBytes(Change& change, int to);
  bool Copy(Change& change, int to);
  bool NotStaged();  // tells errno
  bool NoRoot();     // as well
  bool BecomeRoot();
  void Delete(Change& change);
  void Place(size_t index);
  void PlaceNew(size_t index);
  char Replace(Change& change, const Found& found);
  bool FreeDirectory(const Change& change);
  int Tell();

  FilesTree& tree_;
  FilesInput& input_;
  FilesAnswer& answer_;
  FilesTree stage_;
  Fd parent_;  // of a root that is missing
  int stage_at_ = -1;
  std::string stage_name_;
};

}  // namespace hermes::runner
