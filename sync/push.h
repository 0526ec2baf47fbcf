#pragma once

// PushSide: sends to the far end of one mount what the host has beyond the base. Loop thread; the
// side and what the work refers to outlive the call.

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "daemon/runtime/task.h"
#include "sync/mount_side.h"

namespace hermes::sync {

// Names and all stat keys are looked at anew after this long without that, and all bytes: what
// changes through a mapping or a hard link elsewhere tells nobody.
inline constexpr Duration kStatsAge = std::chrono::seconds(60);
inline constexpr Duration kBytesAge = std::chrono::hours(6);

struct PushOptions {
  bool force = false;
  bool tell_odd = false;
  std::function<void(std::string run_id)> on_follow = nullptr;
};

// A Push would find nothing to do.
bool IsPushed(const Clock& clock, MountSide* side);

// OK although some files were not placed: report->counts.failed says so.
Task<absl::Status> PushSide(SideWork work, PushOptions options);

// Asks for what a push sent without hearing how it ended, so that the base says what is over there;
// nothing to ask, as nearly always: no round trip. Needs the turn.
Task<absl::Status> SettleSent(SideWork work);
// Begins a base of whatever the far end is from now on: nothing is known of it.
Task<absl::Status> BeginBase(SideWork work);
// Blocking work on the base, which needs the turn.
Task<absl::Status> CommitBase(SideWork work, std::vector<BaseChange> changes);
// Looks at the host, with at least this effort. Needs the turn.
Task<absl::Status> RefreshHost(SideWork work, Effort effort);

}  // namespace hermes::sync
