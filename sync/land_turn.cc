#include "sync/land_turn.h"

#include <algorithm>
#include <set>

#include "daemon/runtime/status.h"
#include "sync/land_step.h"
#include "sync/parents.h"

namespace hermes::sync {
namespace {

class Turn {
 public:
  Turn(const TurnPlace& place, const SyncDir& sync, const Journal& journal)
      : fs_(place.fs),
        files_(sync.files.get()),
        journal_(journal),
        parents_(place.fs, place.root, journal.plan().dirs, kNewDirMode),
        step_(place.fs, parents_, files_) {
    for (uint32_t index : journal.turn()) {
      const Change& change = journal.plan().changes[index];
      changes_.push_back(journal.backwards() ? change.Inverse() : change);
    }
    results_.resize(changes_.size());
    went_back_.resize(changes_.size());
  }

  void Run(bool verified);
  bool full() const { return full_; }
  // Not OK: a version was moved, and what came of it can't be seen.
  const absl::Status& unsettled() const { return unsettled_; }
  void TakeBack();
  void CatchLateWriters();
  void TidyDirs();
  int Sync();

  const std::vector<Change>& changes() const { return changes_; }
  const std::vector<StepResult>& results() const { return results_; }

 private:
  std::vector<size_t> Ordered() const;
  StepResult Settle(const Change& change, bool verified);
  void ClearWay();
  void RemoveMadeDirs();
  std::vector<std::string> RemovableDirs() const;

  Fs& fs_;
  const int files_;
  const Journal& journal_;
  Parents parents_;
  LandStep step_;
  std::vector<Change> changes_;
  std::vector<StepResult> results_;
  std::vector<bool> went_back_;  // what `loose` means is the inverse then
  bool full_ = false;
  absl::Status unsettled_;
};

// Deletions first and from the leaves up: a file may become a directory, and a directory a file.
std::vector<size_t> Turn::Ordered() const {
  std::vector<size_t> order(changes_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [this](size_t a, size_t b) {
    bool a_goes = !changes_[a].to;
    bool b_goes = !changes_[b].to;
    if (a_goes != b_goes) return a_goes;
    return a_goes ? changes_[b].path < changes_[a].path : changes_[a].path < changes_[b].path;
  });
  return order;
}

StepResult Turn::Settle(const Change& change, bool verified) {
  StepResult result = step_.Settle(change, verified);
  if (result.unsettled) unsettled_ = result.why;
  return result;
}

void Turn::Run(bool verified) {
  bool deleting = true;
  for (size_t i : Ordered()) {
    if (deleting && changes_[i].to) {
      deleting = false;
      ClearWay();
    }
    results_[i] = Settle(changes_[i], verified);
    full_ = full_ || results_[i].full;
    if (full_ || !unsettled_.ok()) return;  // the others stay kFailed
  }
}

// The host is as it was: what was done is done backwards, as far as the host lets us.
void Turn::TakeBack() {
  std::vector<size_t> order = Ordered();
  std::reverse(order.begin(), order.end());
  absl::Status why = Error(Reason::k_DISK_FULL, "the host's disk is full; nothing was changed");
  bool deletions = false;
  for (size_t i : order) {
    if (!deletions && !changes_[i].to) {
      deletions = true;
      RemoveMadeDirs();  // one may stand where a deleted file goes back
    }
    StepResult& result = results_[i];
    if (result.ruling.outcome == Outcome::kDone) {
      if (result.loose) step_.CleanUp(changes_[i], true);
      StepResult back = Settle(changes_[i].Inverse(), false);
      went_back_[i] = true;
      result.loose = back.loose;
      if (back.ruling.outcome != Outcome::kDone) continue;
      result = {{Outcome::kFailed, back.ruling.kept}, why, true, back.loose};
    }
    if (result.ruling.outcome == Outcome::kFailed && result.why.ok()) result.why = why;
  }
}

void Turn::RemoveMadeDirs() {
  const std::vector<DirRecord>& dirs = journal_.plan().dirs;
  for (auto dir = dirs.rbegin(); dir != dirs.rend(); ++dir) {
    if (!dir->existed) parents_.Remove(dir->path);
  }
}

// Who had the old file open before it was moved may have written to it since we looked.
void Turn::CatchLateWriters() {
  for (size_t i = 0; i < changes_.size(); ++i) {
    StepResult& result = results_[i];
    if (result.ruling.outcome != Outcome::kDone || result.slot.ino == 0) continue;
    FileStat now;
    int rc = fs_.StatAt({files_, changes_[i].slot}, &now);
    if (rc == 0 && !now.SameBytes(result.slot)) result = Settle(changes_[i], false);
  }
}

// Directories that this turn may remove once they are empty: forwards those that it emptied and
// those that it made in vain, backwards only those that the sync had made. Children first.
std::vector<std::string> Turn::RemovableDirs() const {
  std::set<std::string, std::less<>> emptied;
  for (const Change& change : changes_) {
    if (change.to || journal_.backwards()) continue;
    for (std::string_view dir = change.path.parent(); !dir.empty(); dir = ParentOf(dir)) {
      if (!emptied.emplace(dir).second) break;
    }
  }
  std::vector<std::string> dirs;
  for (const DirRecord& dir : journal_.plan().dirs) {
    if (!dir.existed || emptied.contains(dir.path)) dirs.push_back(dir.path);
  }
  std::reverse(dirs.begin(), dirs.end());
  return dirs;
}

int Turn::Sync() {
  int rc = parents_.SyncTouched(files_);
  bool cleaned = false;
  for (size_t i = 0; i < changes_.size() && rc >= 0; ++i) {
    if (!results_[i].loose) continue;
    const bool done = results_[i].ruling.outcome == Outcome::kDone;
    rc = went_back_[i] ? step_.CleanUp(changes_[i].Inverse(), !done)
                       : step_.CleanUp(changes_[i], done);
    cleaned = true;
  }
  return rc >= 0 && cleaned ? fs_.Sync(files_) : rc;
}

void Turn::TidyDirs() {
  for (const std::string& dir : RemovableDirs()) parents_.Remove(dir);
}

// A directory whose files were deleted, where a file is to come.
void Turn::ClearWay() {
  std::set<std::string_view> files;
  for (const Change& change : changes_) {
    if (change.to) files.insert(change.path.str());
  }
  for (const std::string& dir : RemovableDirs()) {
    std::string_view upto = dir;
    while (!upto.empty() && !files.contains(upto)) upto = ParentOf(upto);
    if (!upto.empty()) parents_.Remove(dir);
  }
}

}  // namespace

absl::StatusOr<LandReport> FinishTurn(const TurnPlace& place, const SyncDir& sync, Journal& journal,
                                      bool verified) {
  LandReport report;
  Turn turn(place, sync, journal);
  turn.Run(verified);
  report.disk_full = turn.full();
  if (turn.full()) turn.TakeBack();
  turn.CatchLateWriters();
  RETURN_IF_ERROR(turn.unsettled());
  turn.TidyDirs();
  if (int rc = turn.Sync(); rc < 0) return FsError(rc, "make the renames durable");

  std::vector<Ruling> rulings;
  for (size_t i = 0; i < turn.changes().size(); ++i) {
    const Change& change = turn.changes()[i];
    const StepResult& result = turn.results()[i];
    rulings.push_back(result.ruling);
    report.results.push_back(
        {change.path, result.ruling.outcome, result.ruling.kept, !change.to, result.why});
  }
  RETURN_IF_ERROR(journal.Commit(rulings));
  return report;
}

}  // namespace hermes::sync
