#include "sync/land_step.h"

#include <algorithm>
#include <cerrno>

namespace hermes::sync {
namespace {

using What = Seen::What;

// How often an edit of the host may get in between two moves of one file before we leave it alone.
constexpr int kMaxMoves = 8;

StepResult Done(const FileStat& slot) {
  return {{Outcome::kDone, false}, absl::OkStatus(), false, false, slot};
}
StepResult HostChanged(bool kept) { return {{Outcome::kHostChanged, kept}, absl::OkStatus()}; }
StepResult InTheWay() { return {{Outcome::kInTheWay, false}, absl::OkStatus()}; }
StepResult Failed(int rc, bool kept = false) {
  return {{Outcome::kFailed, kept}, FsError(rc, "put a file in place"), IsFull(rc)};
}
// A look failed: right after a move of ours nobody knows what came of that.
StepResult CannotSee(int rc, bool kept, bool moved) {
  StepResult result = Failed(rc, kept);
  result.unsettled = moved;
  return result;
}
StepResult LostSlot() {
  return {{Outcome::kFailed, false}, FsError(-ENODATA, "the staged file did not survive")};
}

StepResult Loose(StepResult result) {
  result.loose = true;
  return result;
}

// What keeps us from reaching the name is not ours to move.
bool BlocksTheWay(int rc) { return rc == -ELOOP || rc == -ENOTDIR || rc == -EXDEV; }
bool HostVersion(What what) { return what == What::kOther || what == What::kForeign; }

// A move that failed: nullopt-like, `false` means look again.
bool Final(int rc) { return rc < 0 && rc != -ENOENT && rc != -EEXIST; }

StepResult MoveFailed(int rc, bool kept = false) {
  return BlocksTheWay(rc) || rc == -EBUSY ? StepResult{{Outcome::kInTheWay, kept}, {}}
                                          : Failed(rc, kept);
}

}  // namespace

std::string SlotOfDeletion(size_t index) { return ".d" + std::to_string(index); }

Fs::At LandStep::Aside(const Change& change) const { return {files_, ".o" + change.slot}; }

StepResult LandStep::Settle(const Change& change, bool verified) {
  if (!change.from) return Create(change, verified);
  if (!change.to) return Delete(change);
  return Replace(change, verified);
}

Seen LandStep::LookAtSlot(const Change& change, bool verified) {
  if (verified) return Seen{What::kTo, {}, 0};
  return Look(fs_, Slot(change), change.from, change.to);
}

Seen LandStep::LookAtTarget(const Change& change, const FileStat& slot) {
  int dir = parents_.Open(change.path.parent(), Parents::Missing::kFail);
  if (dir == -ENOENT) return Seen{};
  if (BlocksTheWay(dir)) return Seen{What::kForeign, {}, 0};
  if (dir < 0) return Seen{What::kAbsent, {}, dir};
  Seen seen = Look(fs_, {dir, std::string(change.path.leaf())}, change.from, change.to);
  // Another name of the same file would go on with the old bytes: a hard link is not ours to break.
  // One that is the slot itself is a move of ours that was cut in half.
  bool linked = seen.stat.links > 1 && !seen.stat.SameFile(slot);
  if (seen.what == What::kFrom && linked) seen.what = What::kForeign;
  return seen;
}

int LandStep::Exchange(const Change& change) {
  int dir = parents_.Open(change.path.parent(), Parents::Missing::kFail);
  if (dir < 0) return dir;
  parents_.Touch(change.path.parent());
  Fs::At target{dir, std::string(change.path.leaf())};
  return fs_.Rename(Slot(change), target, Fs::Move::kExchange);
}

// Whatever lies under the name, to a name of ours that is free.
int LandStep::TakeAway(const Change& change, const Fs::At& to) {
  int dir = parents_.Open(change.path.parent(), Parents::Missing::kFail);
  if (dir < 0) return dir;
  parents_.Touch(change.path.parent());
  return fs_.Rename({dir, std::string(change.path.leaf())}, to, Fs::Move::kReplace);
}

// Never over something: -EEXIST. Where a rename can't promise that, a second name can; the first
// one goes when the second is durable, in CleanUp.
int LandStep::PutNew(const Change& change, const Fs::At& from, bool* loose) {
  int dir = parents_.Open(change.path.parent(), Parents::Missing::kMakeDurable);
  if (dir < 0) return dir;
  parents_.Touch(change.path.parent());
  Fs::At target{dir, std::string(change.path.leaf())};
  int rc = fs_.Rename(from, target, Fs::Move::kNoReplace);
  if (rc == -EINVAL) {
    FileStat stat;
    bool directory = fs_.StatAt(from, &stat) == 0 && stat.type == FileStat::Type::kDirectory;
    // A directory has no second name, and buries nothing but an empty one.
    *loose = !directory;
    rc = directory ? fs_.Rename(from, target, Fs::Move::kReplace) : fs_.Link(from, target);
  }
  if (rc == -ENOENT) parents_.Forget();
  return rc;
}

int LandStep::CleanUp(const Change& change, bool done) {
  FileStat target;
  FileStat slot;
  FileStat aside;
  int dir = parents_.Open(change.path.parent(), Parents::Missing::kFail);
  if (dir >= 0) fs_.StatAt({dir, std::string(change.path.leaf())}, &target);
  fs_.StatAt(Slot(change), &slot);
  fs_.StatAt(Aside(change), &aside);
  int rc = 0;
  if (aside.ino != 0 && aside.SameFile(target)) rc = fs_.Unlink(Aside(change));
  if (slot.ino != 0 && (slot.SameFile(target) || (done && !change.from))) {
    rc = std::min(rc, fs_.Unlink(Slot(change)));
  }
  if (done && aside.ino != 0 && !aside.SameFile(target)) {
    rc = std::min(rc, fs_.Rename(Aside(change), Slot(change), Fs::Move::kReplace));
  }
  return rc;
}

StepResult LandStep::Create(const Change& change, bool verified) {
  for (int move = 0; move < kMaxMoves; ++move) {
    Seen slot = LookAtSlot(change, verified && move == 0);
    if (slot.error < 0) return Failed(slot.error);
    if (slot.what != What::kTo && slot.what != What::kAbsent) return LostSlot();
    Seen target = LookAtTarget(change, slot.stat);
    if (target.error < 0) return Failed(target.error);
    // It was put in place before. What the host did with it then, or a power cut, is no news of us.
    if (slot.what == What::kAbsent) {
      return target.what == What::kTo ? Done({}) : HostChanged(false);
    }
    if (target.stat.SameFile(slot.stat)) return Loose(Done({}));
    if (target.what == What::kForeign) return InTheWay();
    if (target.what != What::kAbsent) return HostChanged(false);
    bool loose = false;
    int rc = PutNew(change, Slot(change), &loose);
    if (rc == 0) return loose ? Loose(Done({})) : Done({});
    if (Final(rc)) return MoveFailed(rc);
  }
  return HostChanged(false);
}

StepResult LandStep::Delete(const Change& change) {
  bool moved = false;
  for (int move = 0; move < kMaxMoves; ++move) {
    Seen slot = LookAtSlot(change, false);
    if (slot.error < 0) return CannotSee(slot.error, true, moved);
    if (slot.what == What::kFrom) return Done(slot.stat);
    Seen target = LookAtTarget(change, slot.stat);
    if (target.error < 0) return CannotSee(target.error, slot.what != What::kAbsent, moved);
    int rc = 0;
    if (slot.what == What::kAbsent) {
      if (target.what == What::kForeign) return InTheWay();
      if (target.what != What::kFrom) return HostChanged(false);
      rc = TakeAway(change, Slot(change));
    } else {
      // Not what we meant to take. Back with it, unless the host has made another one.
      if (target.stat.SameFile(slot.stat)) return Loose(HostChanged(false));
      if (target.what != What::kAbsent) return HostChanged(true);
      bool loose = false;
      rc = PutNew(change, Slot(change), &loose);
      if (rc == 0) return loose ? Loose(HostChanged(false)) : HostChanged(false);
    }
    if (Final(rc)) return MoveFailed(rc, slot.what != What::kAbsent);
    moved = moved || rc == 0;
  }
  return HostChanged(true);
}

StepResult LandStep::Replace(const Change& change, bool verified) {
  FileStat aside;
  if (!verified && fs_.StatAt(Aside(change), &aside) == 0) return ReplaceByMoves(change);
  bool moved = false;
  bool gave_back = false;  // the last move returned to the host a version of its own
  for (int move = 0; move < kMaxMoves; ++move) {
    Seen slot = LookAtSlot(change, verified && move == 0);
    if (slot.error < 0) return CannotSee(slot.error, move > 0, moved);
    if (gave_back && slot.what != What::kTo) {
      // The host wrote once more meanwhile, and that newest version is what just came out.
      int rc = Exchange(change);
      return Final(rc) ? MoveFailed(rc, true) : HostChanged(true);
    }
    if (slot.what == What::kFrom) return Done(slot.stat);
    Seen target = LookAtTarget(change, slot.stat);
    if (target.error < 0) return CannotSee(target.error, HostVersion(slot.what), moved);
    if (slot.what == What::kTo && target.what != What::kFrom) {
      return target.what == What::kForeign ? InTheWay() : HostChanged(false);
    }
    if (slot.what == What::kAbsent) return LostSlot();
    if (HostVersion(slot.what) && target.what == What::kFrom) return LostSlot();
    if (HostVersion(slot.what) && target.what != What::kTo) return HostChanged(true);
    gave_back = HostVersion(slot.what);
    int rc = Exchange(change);
    if (rc == -EINVAL && !gave_back) return ReplaceByMoves(change);
    if (Final(rc)) return MoveFailed(rc, gave_back);
    moved = moved || rc == 0;
    if (rc < 0) gave_back = false;
  }
  return HostChanged(true);
}

// The new version could not be put under the name that was freed for it.
StepResult LandStep::GiveBack(const Change& change, int why) {
  StepResult failed = MoveFailed(why);
  const int rc = PutNew(change, Aside(change), &failed.loose);
  if (rc == 0 || rc == -EEXIST) {
    failed.ruling.kept = rc != 0;
  } else {
    failed.why = FsError(rc, "put a file back");
    failed.unsettled = true;
  }
  return failed;
}

// Where two names can't be exchanged. The old version is moved aside and looked at there; only then
// the new one is put under the free name. For that moment there is no file: a replay heals that,
// while nothing would heal an edit that a plain rename buries.
StepResult LandStep::ReplaceByMoves(const Change& change) {
  bool moved = false;
  for (int move = 0; move < kMaxMoves; ++move) {
    Seen aside = Look(fs_, Aside(change), change.from, change.to);
    Seen slot = LookAtSlot(change, false);
    Seen target = LookAtTarget(change, slot.stat);
    for (int error : {aside.error, slot.error, target.error}) {
      if (error < 0) return CannotSee(error, aside.what != What::kAbsent, moved);
    }
    int rc = 0;
    bool loose = false;  // what is left to do is CleanUp's
    if (aside.what == What::kAbsent) {
      if (slot.what == What::kFrom) return Done(slot.stat);
      if (slot.what != What::kTo) return LostSlot();
      if (target.what == What::kForeign) return InTheWay();
      if (target.what != What::kFrom) return HostChanged(false);
      rc = TakeAway(change, Aside(change));
    } else if (slot.what == What::kAbsent || slot.stat.SameFile(target.stat)) {
      return Loose(Done({}));
    } else if (aside.stat.SameFile(target.stat)) {
      return Loose(HostChanged(false));
    } else if (target.what != What::kAbsent) {
      return HostChanged(true);
    } else if (aside.what == What::kFrom && slot.what == What::kTo) {
      rc = PutNew(change, Slot(change), &loose);
      if (rc == 0) return Loose(Done({}));
      if (Final(rc)) return GiveBack(change, rc);
    } else {
      rc = PutNew(change, Aside(change), &loose);
      if (rc == 0) return loose ? Loose(HostChanged(false)) : HostChanged(false);
    }
    if (Final(rc)) return MoveFailed(rc, aside.what != What::kAbsent);
    moved = moved || rc == 0;
  }
  return HostChanged(true);
}

}  // namespace hermes::sync
