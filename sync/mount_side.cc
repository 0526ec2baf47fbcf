#include "sync/mount_side.h"

#include <algorithm>
#include <utility>

#include "daemon/runtime/event.h"
#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

RemoteRoot RootOf(const Mount& mount, const std::optional<RelPath>& only) {
  RemoteRoot root;
  root.path = mount.remote_root;
  if (!only) root.ignore = mount.ignore;
  root.max_file_bytes = mount.max_file_bytes;
  if (!only) return root;
  const size_t slash = mount.remote_root.rfind('/');
  root.path = slash == 0 ? "/" : mount.remote_root.substr(0, slash);
  root.only = only;
  return root;
}

RemoteRoot WithSecrets(RemoteRoot root) {
  const std::vector<std::string>& secrets = SecretPatterns();
  std::erase_if(root.ignore, [&secrets](const std::string& pattern) {
    return std::find(secrets.begin(), secrets.end(), pattern) != secrets.end();
  });
  return root;
}

}  // namespace

MountSide::MountSide(Mount m, std::shared_ptr<MountPair> p, std::unique_ptr<RemoteTree> f)
    : mount(std::move(m)),
      ignore(p->root.only() ? IgnoreList() : IgnoreList(mount.ignore)),
      pair(std::move(p)),
      far(std::move(f)),
      remote_root(RootOf(mount, pair->root.only())),
      withholds(mount.WritesHost() && !pair->root.only() && WithholdsSecrets(mount)),
      look_root(withholds ? WithSecrets(remote_root) : remote_root) {}

RemoteRoot SideWork::Root() const {
  RemoteRoot root = side->remote_root;
  root.wish = wish;
  return root;
}

RemoteRoot SideWork::LookRoot() const {
  RemoteRoot root = side->look_root;
  root.wish = wish;
  return root;
}

void SyncMeter::Phase(std::string_view phase) {
  if (listener_ != nullptr) listener_->OnPhase(phase);
}

void SyncMeter::Entry(const SyncEntry& entry) {
  if (listener_ != nullptr) listener_->OnEntry(entry);
}

void SyncMeter::Expect(uint64_t files, uint64_t bytes) {
  progress_.files_total += files;
  progress_.bytes_total += bytes;
  if (listener_ != nullptr) listener_->OnProgress(progress_);
}

void SyncMeter::Done(uint64_t files, uint64_t bytes) {
  progress_.files_done += files;
  progress_.bytes_done += bytes;
  // Of a file whose size is not told before it comes.
  progress_.bytes_total = std::max(progress_.bytes_total, progress_.bytes_done);
  if (listener_ != nullptr) listener_->OnProgress(progress_);
}

bool IsTransport(const absl::Status& status) {
  const std::optional<Reason> reason = ReasonOf(status);
  return reason == Reason::k_BACKEND_UNREACHABLE || reason == Reason::k_RECONNECTING;
}

Task<void> PauseBefore(int attempt, SideWork work) {
  constexpr uint64_t kFirstMs = 2000;
  const SyncDeps& deps = work.deps;
  const uint64_t ms = kFirstMs << (attempt - 2);
  const Duration pause = std::chrono::milliseconds(ms + deps.random.Below(ms / 2));
  Event woken(deps.loop);
  bool over = IsWithdrawn(work.wish);
  const auto end = [&woken, &over] {
    over = true;
    woken.NotifyAll();
  };
  const auto alarm = deps.clock.At(deps.clock.Now() + pause, end);
  const Wish::Ear ear(work.wish, end);
  while (!over) co_await woken.Wait();
}

void AddTo(SyncReport* sum, const SyncReport& part) {
  sum->counts.applied += part.counts.applied;
  sum->counts.conflicts += part.counts.conflicts;
  sum->counts.rejected += part.counts.rejected;
  sum->counts.held += part.counts.held;
  sum->counts.failed += part.counts.failed;
  sum->counts.bytes += part.counts.bytes;
  sum->unsaved += part.unsaved;
  sum->suspect = sum->suspect || part.suspect;
  sum->revertible = sum->revertible || part.revertible;
}

}  // namespace hermes::sync
