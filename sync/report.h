#pragma once

// What a sync tells whoever watches it: its phases, how far it is, and one entry for every file
// that it moves, leaves alone or cannot have. Plain data; names are bytes of anybody, escaped only
// where they are shown.

#include <cstdint>
#include <string>
#include <string_view>

#include "sync/content.h"
#include "sync/plan.h"

namespace hermes::sync {

// What is done, or would be done, to the side that a sync writes to.
enum class Effect {
  kNothing,   // `why` says what is in the way
  kCreate,    // there was no such file
  kReplace,   //
  kDelete,    //
  kBeside,    // a pull's remote version is made beside the host's file, as `aside`
  kKeepCopy,  // a pull's remote version goes to the undo store, the host's file stays
};

enum class Fate {
  kPlanned,  // a dry run; of kNothing: always
  kDone,
  kChanged,  // what was there is not what was expected: left alone, nothing is lost
  kFailed,   // could not be done, see `note`
};

struct SyncEntry {
  std::string mount;  // its id
  std::string path;   // below the mount's roots
  Effect effect = Effect::kNothing;
  Fate fate = Fate::kPlanned;
  Why why = Why::kSame;
  uint64_t size = 0;  // of what arrives; 0 where that is not known
  MaybeContent host;  // what each side held when this was decided
  MaybeContent remote;
  std::string aside;  // of kBeside
  std::string note;   // for people; no bytes of anybody
};

struct SyncProgress {
  uint64_t files_done = 0;
  uint64_t files_total = 0;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  bool operator==(const SyncProgress&) const = default;
};

// Hears of a sync while it runs. Loop thread; calls must not end the sync from within.
class SyncListener {
 public:
  virtual ~SyncListener() = default;
  // "scanning", "sending", "comparing", "fetching", "waiting" (for the lock), "landing"
  virtual void OnPhase(std::string_view) {}
  virtual void OnProgress(const SyncProgress&) {}
  virtual void OnEntry(const SyncEntry&) {}
};

struct SyncCounts {
  uint32_t applied = 0;    // files made, replaced, deleted, made beside
  uint32_t conflicts = 0;  // both sides had changed, whoever won
  uint32_t rejected = 0;   // could not travel, or may not: odd, denied, lies
  uint32_t held = 0;       // deletions that wait for approval
  uint32_t failed = 0;
  uint64_t bytes = 0;  // that moved
  bool operator==(const SyncCounts&) const = default;
};

// How a sync went that came to its end.
struct SyncReport {
  SyncCounts counts;
  // Of a pull: files of the far side whose bytes are on the host neither under their name nor in
  // the undo store, though the mount's rules would have them. Whoever ends the place loses them.
  uint32_t unsaved = 0;
  bool suspect = false;     // the place lied; what it sent was not used, or salvaged
  bool revertible = false;  // the undo store has something of it

  // Of a pull: nothing is lost, and nothing left to decide, if the place ends now.
  bool saved() const { return unsaved == 0 && counts.held == 0; }
};

}  // namespace hermes::sync
