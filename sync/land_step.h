#pragma once

// LandStep: brings one file from one version to the other, whatever state a kill, a power cut or an
// edit of the host left it in. It looks at the two places where a version may lie, the file's name
// and its slot, does the one move that is due, and looks again. So the first run, the replay after
// a crash and the way back are the same code. No bytes are copied and none removed: every version
// that ever lay under the name is afterwards there or in the slot. Worker threads; one landing.

#include <string>

#include "absl/status/status.h"
#include "sync/fs.h"
#include "sync/journal.h"
#include "sync/look.h"
#include "sync/parents.h"

namespace hermes::sync {

struct StepResult {
  Ruling ruling;
  absl::Status why;    // of kFailed
  bool full = false;   // no room: of kFailed
  bool loose = false;  // CleanUp is due
  FileStat slot = {};  // what lies there, when kDone left something there
  // Something was moved, and could then be neither looked at nor put back: `why`. Only a replay can
  // rule on it.
  bool unsettled = false;
};

class LandStep {
 public:
  // `files`: the directory of the slots. All outlive this object.
  LandStep(Fs& fs, Parents& parents, int files) : fs_(fs), parents_(parents), files_(files) {}

  // `verified`: the slot is known to hold `to`, and nothing was moved yet.
  StepResult Settle(const Change& change, bool verified);

  // Where the file system has neither exchange nor rename-without-replace, a settled change leaves
  // names behind that must stay until it is durable; then this takes them away. 0 or an errno.
  int CleanUp(const Change& change, bool done);

 private:
  StepResult Create(const Change& change, bool verified);
  StepResult Delete(const Change& change);
  StepResult Replace(const Change& change, bool verified);
  StepResult ReplaceByMoves(const Change& change);
  StepResult GiveBack(const Change& change, int why);

  Fs::At Slot(const Change& change) const { return {files_, change.slot}; }
  Fs::At Aside(const Change& change) const;
  Seen LookAtSlot(const Change& change, bool verified);
  Seen LookAtTarget(const Change& change, const FileStat& slot);
  int Exchange(const Change& change);
  int TakeAway(const Change& change, const Fs::At& to);
  int PutNew(const Change& change, const Fs::At& from, bool* loose);

  Fs& fs_;
  Parents& parents_;
  const int files_;
};

// Names of slots that are ours to choose start with a dot; the caller's don't.
std::string SlotOfDeletion(size_t index);

}  // namespace hermes::sync
