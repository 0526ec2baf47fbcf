#pragma once

// DirTree: a RemoteTree that is a directory of this host, for tests of who syncs: its answers are
// those of an honest place, unless a test puts something else in their stead.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sync/remote_tree.h"

namespace hermes::sync {

class DirTree : public RemoteTree {
 public:
  explicit DirTree(std::string root) : root_(std::move(root)) {}

  Task<absl::StatusOr<RemoteLook>> Look(RemoteRoot root, std::optional<Digest> expected) override;
  Task<absl::StatusOr<RemoteApplied>> Apply(RemoteApply apply) override;
  Task<absl::Status> Fetch(RemoteRoot root, Wanted wanted, TakeBytes take) override;

  struct Hooks {
    // Before each question, which fails with what it returns.
    std::function<absl::Status(std::string_view verb)> before = nullptr;
    // In the middle of a fetch, before its stream is given.
    std::function<Task<void>()> within_fetch = nullptr;
    std::function<Task<void>()> within_apply = nullptr;  // before anything is placed
    std::optional<std::string> stream = {};              // what a fetch gives
    size_t stream_names = 0;  // a fetch of fewer gives an empty archive instead
    std::function<Task<void>(WishPtr)> behind_stream = nullptr;  // and then this, for that wish
    std::function<void(RemoteLook*)> look = nullptr;             // changes what a look says
    // Behind so many files of a fetch the connection breaks.
    std::optional<size_t> cut_after = {};
    std::function<absl::Status()> after_apply = nullptr;  // what the asker hears
    bool follows = false;                                 // offers a run that a command may follow
  };
  Hooks hooks;

  // What was asked.
  int looks = 0;
  int lists = 0;  // looks that were answered with a list, not with a digest alone
  int applies = 0;
  std::vector<std::string> sent;     // names of all applies
  std::vector<std::string> fetched;  // names of all fetches
  std::vector<size_t> asked;         // files of each fetch
  WishPtr wish;                      // of the last call
  uint64_t sent_bytes = 0;

 private:
  Placed Place(const RemoteApply& apply, const RemoteChange& change, std::string bytes, bool good);
  std::string EpochPath(const RemoteRoot& root) const;

  const std::string root_;
};

}  // namespace hermes::sync
