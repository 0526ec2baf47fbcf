#pragma once

// Plan: what a pull does to the host and a push to the far side, decided before anything moves. A
// dry run is the same plan, shown. Pure.
//
// The base is what both sides last agreed on. A pull moves the host towards the remote and the base
// with it; a push then sends whatever the host has beyond the base. So each version that is edited
// on one side reaches the other or the undo store, or stays where it is.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sync/content.h"
#include "sync/ignore.h"
#include "sync/manifest.h"
#include "sync/mount.h"
#include "sync/rel_path.h"

namespace hermes::sync {

// A guarded pull deletes at most this many host files, or this share of the base if that is more.
inline constexpr size_t kMaxDeletes = 10;
inline constexpr size_t kMaxDeletesPercent = 25;

// Once an action is done, the remote version becomes the base of its path; kLeave changes nothing.
enum class Verb {
  kAgree,       // only the base moves
  kTake,        // the host file becomes the remote version: made, replaced or deleted
  kTakeAside,   // the host file stays, and the remote version is made beside it
  kKeepRemote,  // the host file stays, and the remote version goes to the undo store
  kLeave,       // neither side changes: `why` says what is in the way
};

enum class Why {
  kSame,           // both sides hold the same version already
  kRemoteChanged,  // made, edited or deleted there, untouched here
  kHostStands,     // deleted there, edited here: a change beats a deletion
  kConflict,       // edited there, and edited or deleted here: the conflict policy decided
  kHeld,           // deletions that the guard holds back until they are approved
  kNotDeleted,     // a deletion that the mount only reports
  kPushOnly,       // changed there, but the mount only pushes
  kOdd,            // one side holds a link, special or unreadable file there
  kTree,           // a file on one side, a directory of that name on the other
  kDenied,         // a name that no pull may write
  // Of reports, not of plans:
  kHostChanged,  // a push's: made, edited or deleted on the host
  kLie,          // what the place sent breaks the rules
  kGone,         // it was gone when it was to be read
};

struct Action {
  RelPath path;
  Verb verb;
  Why why;
  MaybeContent host;    // as planned with: landing finds exactly this, or leaves the file alone
  MaybeContent remote;  // what is fetched, if the verb needs bytes
  std::optional<RelPath> aside = {};  // of kTakeAside

  // The action drives an edit of the host out of its path: landing must keep it in the undo store.
  bool KeepsHost() const { return verb == Verb::kTake && why == Why::kConflict && host; }
  bool FetchesRemote() const { return remote && verb != Verb::kAgree && verb != Verb::kLeave; }
  bool operator==(const Action&) const = default;
};

// All by reference, for the time of the call.
struct PullInput {
  const Mount& mount;
  const IgnoreList& ignore;  // of the mount
  const FileMap& base;       // empty if the far side does not hold our epoch token: then there is
                             // no deletion, and what differs is a conflict
  const Manifest& host;
  const Manifest& remote;        // complete: a far side that was cut short has no manifest
  bool approve_deletes = false;  // the guard was overruled
  std::string conflict_tag;      // of the names of kTakeAside: "<session>-<UTC>"
};

// Deletions first and deepest first, then by name: in this order no directory is in the way.
std::vector<Action> PlanPull(const PullInput& input);

// One change of the far side. It is made only if the far side holds `expected`, or already what is
// wanted, or nothing where a file is wanted; else it is a conflict and stays.
struct RemoteChange {
  RelPath path;
  MaybeContent expected;
  MaybeContent wanted;
  // Of the host's file, as it goes over with it; 0: not known. A time alone is no change.
  int64_t mtime_ns = 0;
  bool operator==(const RemoteChange&) const = default;
};

// What the host has beyond the base, in the same order; empty for a pull mount.
std::vector<RemoteChange> PlanPush(const Mount& mount, const IgnoreList& ignore,
                                   const FileMap& base, const Manifest& host);

// Files that were sent and are on the host something that cannot travel, by name, with what that
// is: what lies on the far side is an older version, and no push can mend it.
std::map<std::string, Oddity> StaleOnFarSide(const Mount& mount, const IgnoreList& ignore,
                                             const FileMap& base, const Manifest& host);

}  // namespace hermes::sync
