#include "sync/mount_pair.h"

#include <algorithm>

#include "daemon/runtime/status.h"
#include "sync/land.h"

namespace hermes::sync {
namespace {

// Mounts with the same key see the same files on the same two ends. What a plan makes of them is no
// part of it.
std::string KeyOf(const Mount& mount, const std::string& place) {
  std::string key = place;
  const auto add = [&key](std::string_view part) { key.append("\n").append(part); };
  add(mount.host_root);
  add(mount.remote_root);
  add(mount.WritesHost() ? "host" : "");  // such a root is made where it misses
  add(std::to_string(static_cast<int>(mount.kind)));
  add(std::to_string(static_cast<int>(mount.links)));
  for (const uint64_t limit : {mount.max_files, mount.max_bytes, mount.max_file_bytes})
    add(std::to_string(limit));
  for (const std::string& pattern : mount.ignore) add(pattern);
  return key;
}

absl::Status Refused(const std::vector<Mount>& mounts, size_t index, const std::string& why) {
  const std::string& id = mounts[index].id;
  return Error(Reason::k_BAD_FIELD, "mount '" + id + "': " + why,
               {{"field", "mounts[" + std::to_string(index) + "].host_root"}, {"mount", id}});
}

bool IsSame(const HostRoot& one, const HostRoot& other) {
  return one.device() == other.device() && one.inode() == other.inode() &&
         one.path() == other.path() && one.only() == other.only();
}

}  // namespace

MountPair::MountPair(Loop& loop, const Clock& clock, const Mount& mount, HostRoot host, Base known,
                     bool may_watch)
    : root(std::move(host)),
      base(std::move(known)),
      tree({.root = &root,
            .clock = &clock,
            .mount = mount,
            .known = base.Known(),
            .max_watches = may_watch ? kMaxWatches : 0}),
      watched(may_watch),
      freed_(loop) {}

MountPair::Turn::~Turn() {
  if (pair_ == nullptr) return;
  ++pair_->serving_;
  pair_->freed_.NotifyAll();
}

Task<MountPair::Turn> MountPair::TakeTurn(std::shared_ptr<MountPair> pair) {
  const uint64_t ticket = pair->next_ticket_++;
  while (pair->serving_ != ticket) co_await pair->freed_.Wait();
  co_return Turn(std::move(pair));
}

absl::Status CheckApart(const std::vector<Mount>& mounts,
                        const std::vector<const HostRoot*>& roots) {
  for (size_t i = 0; i < mounts.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const bool written = mounts[i].WritesHost() || mounts[j].WritesHost();
      if (!written || !Overlap(*roots[i], *roots[j])) continue;
      return Refused(mounts, i,
                     "it leads to files of the host that mount '" + mounts[j].id +
                         "' leads to, and one of the two is written by a pull");
    }
  }
  return absl::OkStatus();
}

Task<absl::Status> MountPairs::Check(std::vector<Mount> mounts) {
  co_return co_await deps_.workers.Run([&mounts, this]() -> absl::Status {
    std::vector<HostRoot> roots;
    std::vector<const HostRoot*> all;
    roots.reserve(mounts.size());
    for (size_t i = 0; i < mounts.size(); ++i) {
      absl::StatusOr<HostRoot> root = HostRoot::Open(mounts[i], deps_.fence);
      if (!root.ok()) return Refused(mounts, i, std::string(root.status().message()));
      all.push_back(&roots.emplace_back(*std::move(root)));
    }
    return CheckApart(mounts, all);
  });
}

Task<absl::StatusOr<std::shared_ptr<MountPair>>> MountPairs::Get(Mount mount, std::string place) {
  const std::string key = KeyOf(mount, place);
  while (opening_.contains(key)) co_await opened_.Wait();
  std::erase_if(pairs_, [](const auto& pair) { return pair.second.expired(); });
  opening_.insert(key);
  absl::StatusOr<std::shared_ptr<MountPair>> pair = co_await FindOrMake(std::move(mount), key);
  opening_.erase(key);
  if (pair.ok()) pairs_[key] = *pair;
  opened_.NotifyAll();
  co_return pair;
}

// A path may lead elsewhere by now than for those who asked before.
Task<absl::StatusOr<std::shared_ptr<MountPair>>> MountPairs::FindOrMake(Mount mount,
                                                                        std::string key) {
  CO_ASSIGN_OR_RETURN(HostRoot root, co_await deps_.workers.Run([&mount, this] {
    return HostRoot::Open(mount, deps_.fence);
  }));
  if (const auto found = pairs_.find(key); found != pairs_.end()) {
    std::shared_ptr<MountPair> pair = found->second.lock();
    if (pair != nullptr && IsSame(pair->root, root)) co_return pair;
  }
  // The base is of the directory itself, not of whatever has its name later.
  const std::string whole =
      key + "\n" + std::to_string(root.device()) + " " + std::to_string(root.inode());
  const bool watched = MayWatch();
  co_return co_await deps_.workers.Run([&, this]() -> absl::StatusOr<std::shared_ptr<MountPair>> {
    ASSIGN_OR_RETURN(Base base, Base::Open(deps_.fs, deps_.base_dir, whole));
    return std::make_shared<MountPair>(deps_.loop, deps_.clock, mount, std::move(root),
                                       std::move(base), watched);
  });
}

bool MountPairs::MayWatch() const {
  const auto watched = std::count_if(pairs_.begin(), pairs_.end(), [](const auto& entry) {
    const std::shared_ptr<MountPair> pair = entry.second.lock();
    return pair != nullptr && pair->watched;
  });
  return static_cast<size_t>(watched) < kMaxWatchedPairs;
}

Task<absl::Status> MountPairs::Recover(Mount mount, std::string lock_file, UndoLimits undo) {
  co_return co_await deps_.workers.Run([&mount, &lock_file, &undo, this]() -> absl::Status {
    ASSIGN_OR_RETURN(const HostRoot root, HostRoot::Open(mount, deps_.fence));
    const absl::StatusOr<SyncLock> lock =
        deps_.locks.TryAcquire({lock_file, {{root.device(), root.inode()}}, root.fd()});
    if (ReasonOf(lock.status()) == Reason::k_SYNC_HELD) return absl::OkStatus();
    RETURN_IF_ERROR(lock.status());
    RETURN_IF_ERROR(Landing(deps_.fs, root.fd()).Recover().status());
    UndoStore(deps_.fs, root.fd()).Tidy(undo, SecondsNow(deps_.clock));
    return absl::OkStatus();
  });
}

}  // namespace hermes::sync
