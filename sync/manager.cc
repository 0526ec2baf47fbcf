#include "sync/manager.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"
#include "daemon/runtime/task_group.h"
#include "sync/mount_side.h"
#include "sync/pull.h"
#include "sync/push.h"

namespace hermes::sync {
namespace {

constexpr size_t kTagBytes = 8;  // of the session's name in the name of a version beside

// "<session>-<UTC>"
std::string ConflictTag(const std::string& session, const Clock& clock) {
  const time_t now = std::chrono::system_clock::to_time_t(
      std::chrono::time_point_cast<std::chrono::system_clock::duration>(clock.NowWall()));
  tm utc;
  gmtime_r(&now, &utc);
  char text[32];
  strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &utc);
  return session.substr(0, kTagBytes) + "-" + text;
}

// Of one mount while all are at work.
struct Part {
  SyncReport report;
  absl::Status status;
  std::unique_ptr<SidePull> pull;
};

Task<void> PushPart(SideWork work, PushOptions options, Part* part) {
  part->status = co_await PushSide(std::move(work), std::move(options));
}

Task<void> LookPart(Part* part) { co_await part->pull->Look(); }

SyncReport Sum(const std::vector<Part>& parts) {
  SyncReport sum;
  for (const Part& part : parts) AddTo(&sum, part.report);
  return sum;
}

absl::Status FirstFailure(const std::vector<Part>& parts) {
  for (const Part& part : parts) {
    if (!part.status.ok()) return part.status;
  }
  return absl::OkStatus();
}

}  // namespace

SyncManager::SyncManager(Deps deps, Setup setup)
    : deps_(std::move(deps)), setup_(std::move(setup)) {}

SyncManager::~SyncManager() = default;

Task<absl::StatusOr<std::unique_ptr<SyncManager>>> SyncManager::Open(Deps deps, Setup setup) {
  std::unique_ptr<SyncManager> manager(new SyncManager(std::move(deps), std::move(setup)));
  const Setup& given = manager->setup_;
  CO_RETURN_IF_ERROR(CheckFarApart(given.mounts, given.home));
  for (const Mount& mount : given.mounts) {
    CO_ASSIGN_OR_RETURN(std::shared_ptr<MountPair> pair,
                        co_await manager->deps_.pairs.Get(mount, given.place));
    manager->sides_.push_back(
        std::make_unique<MountSide>(mount, std::move(pair), given.new_tree()));
    manager->sides_.back()->number = manager->sides_.size() - 1;
  }
  // Again: what a path leads to may have changed since the session was made.
  std::vector<const HostRoot*> roots;
  for (const std::unique_ptr<MountSide>& side : manager->sides_) roots.push_back(&side->pair->root);
  CO_RETURN_IF_ERROR(co_await manager->deps_.workers.Run(
      [&given, &roots] { return CheckApart(given.mounts, roots); }));
  CO_RETURN_IF_ERROR(
      co_await manager->deps_.workers.Run([&manager] { return manager->CheckHere(); }));
  co_return manager;
}

absl::Status SyncManager::CheckHere() {
  if (!setup_.here) return absl::OkStatus();
  std::vector<std::unique_ptr<MountSide>> apart;
  for (std::unique_ptr<MountSide>& side : sides_) {
    std::string far = side->remote_root.path;
    if (far.starts_with("~")) far = setup_.home.empty() ? "" : setup_.home + far.substr(1);
    const FarPlace place = far.empty() ? FarPlace::kApart : PlaceOf(side->pair->root, far);
    if (place == FarPlace::kSame) {
      LogInfo("mount '" + side->mount.id + "' has one directory for both ends: nothing is moved");
      same_.push_back(side->mount.id);
      continue;
    }
    const bool grows = (place == FarPlace::kBelow && side->mount.WritesRemote()) ||
                       (place == FarPlace::kAbove && side->mount.WritesHost());
    if (grows) {
      return Error(Reason::k_BAD_FIELD,
                   "mount '" + side->mount.id + "': one of its ends lies in the other",
                   {{"field", "mounts[" + std::to_string(side->number) + "].remote_root"},
                    {"mount", side->mount.id}});
    }
    apart.push_back(std::move(side));
  }
  sides_ = std::move(apart);
  return absl::OkStatus();
}

void SyncManager::TellSame(SyncMeter* meter) const {
  for (const std::string& mount : same_) {
    SyncEntry entry{.mount = mount, .path = ".", .why = Why::kSame};
    entry.note = "both ends are one directory: nothing is moved";
    meter->Entry(entry);
  }
}

bool SyncManager::Clean() {
  return std::all_of(sides_.begin(), sides_.end(), [this](const std::unique_ptr<MountSide>& side) {
    return IsPushed(deps_.clock, side.get());
  });
}

Task<absl::StatusOr<SyncReport>> SyncManager::Push(PushRequest request) {
  const SteadyTime now = deps_.clock.Now();
  if (!request.force && last_push_ && now - *last_push_ < setup_.min_interval)
    co_return SyncReport{};
  std::vector<MountSide*> stale;
  for (const std::unique_ptr<MountSide>& side : sides_) {
    if (request.force || request.tell_odd || !IsPushed(deps_.clock, side.get()))
      stale.push_back(side.get());
  }
  SyncMeter meter(request.listener);
  if (request.tell_odd) TellSame(&meter);
  std::vector<Part> parts(stale.size());
  TaskGroup group(deps_.loop);
  for (size_t i = 0; i < stale.size(); ++i) {
    SideWork work{deps_, stale[i], &meter, &parts[i].report, request.wish};
    PushOptions options{.force = request.force, .tell_odd = request.tell_odd};
    if (stale.size() == 1) options.on_follow = request.on_follow;
    group.Spawn("push " + stale[i]->mount.id, PushPart(work, std::move(options), &parts[i]));
  }
  co_await group.Join();
  CO_RETURN_IF_ERROR(FirstFailure(parts));
  SyncReport report = Sum(parts);
  Count(report);
  if (report.counts.failed == 0) {
    last_push_ = now;  // one that failed is tried again at once
    co_return report;
  }
  co_return Error(
      Reason::k_SYNC_FAILED,
      std::to_string(report.counts.failed) + " files could not be brought to the sandbox",
      {{"failed", std::to_string(report.counts.failed)}});
}

Task<absl::StatusOr<SyncReport>> SyncManager::Pull(PullRequest request) {
  if (suspect_ && !request.salvage) {
    co_return Error(Reason::k_SYNC_FAILED,
                    "the sandbox has lied before: salvage takes what is in order");
  }
  SyncMeter meter(request.listener);
  TellSame(&meter);
  const std::string tag = ConflictTag(setup_.session_id, deps_.clock);
  std::vector<Part> parts(sides_.size());
  TaskGroup group(deps_.loop);
  for (size_t i = 0; i < sides_.size(); ++i) {
    PullOptions options{.land_id = LandId(request.id, sides_[i]->number), .conflict_tag = tag};
    options.lock_file = setup_.lock_file;
    options.dry_run = request.dry_run;
    options.approve_deletes = request.approve_deletes;
    options.salvage = request.salvage;
    SideWork work{deps_, sides_[i].get(), &meter, &parts[i].report, request.wish};
    parts[i].pull = std::make_unique<SidePull>(work, std::move(options));
    group.Spawn("look " + sides_[i]->mount.id, LookPart(&parts[i]));
  }
  co_await group.Join();
  for (Part& part : parts) part.status = co_await part.pull->Finish();
  const SyncReport report = Sum(parts);
  const absl::Status status = FirstFailure(parts);
  if (!request.dry_run) Count(report);
  if (report.suspect) suspect_ = true;
  if (request.salvage && !request.dry_run && !report.suspect && status.ok()) suspect_ = false;
  CO_RETURN_IF_ERROR(status);
  co_return report;
}

std::string SyncManager::LandId(const std::string& sync, size_t side) {
  return sync + "." + std::to_string(side);
}

Task<absl::StatusOr<SyncReport>> SyncManager::Revert(std::string id, WishPtr wish,
                                                     SyncListener* listener) {
  SyncMeter meter(listener);
  SyncReport report;
  absl::Status failure;
  bool reverted = false;
  for (size_t i = 0; i < sides_.size(); ++i) {
    SideWork work{deps_, sides_[i].get(), &meter, &report, wish};
    const absl::Status one =
        co_await RevertSide(work, LandId(id, sides_[i]->number), setup_.lock_file);
    // What one mount has is worth more than that another has nothing.
    reverted = reverted || one.ok();
    if (one.ok() || ReasonOf(one) == Reason::k_RESULT_EXPIRED) continue;
    failure = one;
  }
  CO_RETURN_IF_ERROR(failure);
  if (!reverted) {
    co_return Error(Reason::k_RESULT_EXPIRED, "nothing is kept of this sync any more");
  }
  co_return report;
}

void SyncManager::Count(const SyncReport& report) const {
  if (deps_.conflicts != nullptr) *deps_.conflicts += report.counts.conflicts;
}

SyncManager::Refused SyncManager::refused(size_t most) const {
  Refused all;
  for (const std::unique_ptr<MountSide>& side : sides_) {
    all.count += side->pair->refused.size();
    for (const auto& [path, content] : side->pair->refused) {
      if (all.names.size() == most) break;
      all.names.push_back(path.str());
    }
  }
  return all;
}

void SyncManager::Distrust() {
  for (const std::unique_ptr<MountSide>& side : sides_) {
    side->pair->met = false;
    ++side->pair->doubts;
  }
}

}  // namespace hermes::sync
