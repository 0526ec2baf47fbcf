#include "sync/land.h"

#include <cerrno>
#include <set>
#include <utility>

#include "daemon/runtime/status.h"
#include "sync/ignore.h"
#include "sync/land_step.h"
#include "sync/look.h"
#include "sync/parents.h"

namespace hermes::sync {
namespace {

// What must stay free beside the files: the journal's and the directories' own blocks.
constexpr uint64_t kSpareBytes = 4 << 20;
constexpr uint64_t kSpareBytesPerFile = 1 << 10;

absl::Status Refused(std::string_view why) { return Error(Reason::k_SYNC_FAILED, why); }

bool IsReserved(const RelPath& path) {
  for (std::string_view part : path.parts()) {
    if (part.starts_with(kOwnPrefix)) return true;
  }
  return false;
}

bool IsStagedName(std::string_view name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos && name.size() < kMaxPartBytes;
}

absl::Status CheckPlan(const std::vector<Change>& changes) {
  std::set<std::string_view> paths;
  std::set<std::string_view> slots;
  for (const Change& change : changes) {
    if (change.from == change.to) return Refused("a change that changes nothing");
    if (IsReserved(change.path)) return Refused("a name that is the daemon's own");
    if (!paths.insert(change.path.str()).second) return Refused("a path that is named twice");
    if (!change.to) continue;
    if (!IsStagedName(change.slot)) return Refused("a staged name that is none");
    if (!slots.insert(change.slot).second) return Refused("a staged file that is used twice");
  }
  return absl::OkStatus();
}

absl::Status CheckRoom(Fs& fs, int handle, uint64_t bytes) {
  uint64_t free = 0;
  int rc = fs.FreeBytes(handle, &free);
  if (rc < 0) return FsError(rc, "ask for the free space");
  if (free >= bytes) return absl::OkStatus();
  return Error(Reason::k_DISK_FULL, "the mount's disk has too little room; nothing was changed");
}

bool NoFiles(const SyncDir& sync) { return sync.files.get() == -ENOENT; }

}  // namespace

uint32_t LandedMode(std::optional<uint32_t> old, bool executable) {
  constexpr uint32_t kReadBits = 0444;
  constexpr uint32_t kExecuteBits = 0111;
  uint32_t mode = old.value_or(0644) & 0777;
  // An executable whose bits differ among owner and others stays as its owner has made it.
  if (executable && (mode & 0100) != 0) return mode;
  mode &= ~kExecuteBits;
  if (!executable) return mode;
  return mode | (mode & kReadBits) >> 2 | 0100;
}

Stage::~Stage() {
  if (sync_.dir.valid() && !landing_) place_.Remove(std::move(sync_));
}

absl::StatusOr<Stage> Landing::NewStage(std::string_view id, uint64_t bytes) {
  // Their sum is of sizes that the far side told.
  const uint64_t needed = bytes > UINT64_MAX - kSpareBytes ? UINT64_MAX : bytes + kSpareBytes;
  RETURN_IF_ERROR(CheckRoom(fs_, root_, needed));
  Place place(fs_, root_);
  ASSIGN_OR_RETURN(SyncDir sync, place.Make(id));
  return Stage(place, std::move(sync));
}

std::optional<uint32_t> Landing::OldMode(const Change& change, Parents& parents) {
  if (!change.from) return std::nullopt;
  int dir = parents.Open(change.path.parent(), Parents::Missing::kFail);
  FileStat stat;
  if (dir < 0 || fs_.StatAt({dir, std::string(change.path.leaf())}, &stat) < 0) return std::nullopt;
  if (stat.type != FileStat::Type::kFile) return std::nullopt;
  return stat.mode;
}

absl::Status Landing::Verify(const Stage& stage, const Change& change, Parents& parents) {
  Handle file(fs_, fs_.OpenFile({stage.files(), change.slot}, Fs::Access::kRead));
  if (!file.valid()) return FsError(file.get(), "open a staged file");
  FileStat stat;
  if (int rc = fs_.Stat(file.get(), &stat); rc < 0) return FsError(rc, "look at a staged file");
  if (stat.type != FileStat::Type::kFile || stat.links != 1 || !stat.ours) {
    return Refused("a staged file is not a plain file of ours");
  }
  Hashed hashed = HashFile(fs_, file.get(), change.to->size);
  if (hashed.error < 0) return FsError(hashed.error, "read a staged file");
  if (hashed.size != change.to->size || hashed.digest != change.to->digest) {
    return Refused("a staged file is not what was announced");
  }
  uint32_t mode = LandedMode(OldMode(change, parents), change.to->executable);
  if (mode == stat.mode) return absl::OkStatus();
  if (int rc = fs_.Chmod(file.get(), mode); rc < 0) return FsError(rc, "set a staged file's mode");
  return absl::OkStatus();
}

absl::Status Landing::Prepare(const Stage& stage, std::vector<Change>* changes) {
  RETURN_IF_ERROR(CheckPlan(*changes));
  RETURN_IF_ERROR(CheckRoom(fs_, root_, kSpareBytes + kSpareBytesPerFile * changes->size()));
  Parents parents(fs_, root_, {}, kNewDirMode);
  for (size_t i = 0; i < changes->size(); ++i) {
    Change& change = (*changes)[i];
    if (change.to) {
      RETURN_IF_ERROR(Verify(stage, change, parents));
    } else {
      change.slot = SlotOfDeletion(i);
    }
  }
  return absl::OkStatus();
}

// Before the sync, so that nothing is moved into a directory that a power cut takes away. Who can't
// be helped here, as behind a file that is to go first, or on a full disk, meets it again later.
void Landing::MakeDirs(const LandPlan& plan) {
  Parents parents(fs_, root_, plan.dirs, kNewDirMode);
  for (const Change& change : plan.changes) {
    if (!change.from) parents.Open(change.path.parent(), Parents::Missing::kMake);
  }
}

absl::StatusOr<LandReport> Landing::Land(Stage stage, std::vector<Change> changes, int64_t now_s) {
  RETURN_IF_ERROR(Prepare(stage, &changes));
  LandPlan plan{now_s, std::move(changes), {}};
  plan.dirs = SurveyDirs(fs_, root_, plan.changes);
  ASSIGN_OR_RETURN(Journal journal, Journal::Create(fs_, stage.sync_.dir.get(), std::move(plan)));
  MakeDirs(journal.plan());
  // The one sync of the batch: from here on a power cut finds staged files, journal, directories.
  if (int rc = fs_.SyncAll(stage.files()); rc < 0) return FsError(rc, "sync the staged files");
  stage.landing_ = true;
  return FinishTurn({fs_, root_}, stage.sync_, journal, true);
}

absl::StatusOr<std::vector<LandReport>> Landing::Recover() {
  Place place(fs_, root_);
  ASSIGN_OR_RETURN(std::vector<std::string> ids, place.Ids());
  std::vector<LandReport> reports;
  for (const std::string& id : ids) {
    auto sync = place.Open(id);
    const std::optional<Reason> reason = ReasonOf(sync.status());
    if (reason == Reason::k_SYNC_HELD || reason == Reason::k_RESULT_EXPIRED) continue;
    RETURN_IF_ERROR(sync.status());
    auto journal = Journal::Open(fs_, sync->dir.get());
    // No file was moved while one of these was missing: they were synced before.
    if (absl::IsNotFound(journal.status()) || (journal.ok() && journal->open() && NoFiles(*sync))) {
      place.Remove(*std::move(sync));
      continue;
    }
    // An unreadable one may name versions of the host, so it stays until it expires.
    if (absl::IsDataLoss(journal.status())) continue;
    RETURN_IF_ERROR(journal.status());
    if (!journal->open()) continue;
    ASSIGN_OR_RETURN(LandReport report, FinishTurn({fs_, root_}, *sync, *journal, false));
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace hermes::sync
