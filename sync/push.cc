#include "sync/push.h"

#include <algorithm>
#include <map>
#include <utility>

#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"
#include "sync/host_blobs.h"

namespace hermes::sync {
namespace {

constexpr int kRounds = 4;         // of files that move while they are sent; the last sends copies
constexpr size_t kEpochBytes = 8;  // it tells far ends apart, and guards nothing

absl::Status Withdrawn() { return absl::CancelledError("nobody waits for this sync any more"); }

Task<absl::Status> Announce(SideWork work, std::vector<BaseChange> sent) {
  MountPair& pair = *work.side->pair;
  if (sent.empty() && pair.base.sent().empty()) co_return absl::OkStatus();
  co_return co_await work.deps.workers.Run([&pair, &sent] { return pair.base.Announce(sent); });
}

std::vector<BaseChange> Arrived(const Base& base, const Manifest& far) {
  std::vector<BaseChange> arrived;
  for (const auto& [path, content] : base.sent()) {
    const auto found = far.files.find(path);
    const bool there = found != far.files.end();
    // Of what is odd it cannot be said that it is gone.
    const bool gone = !there && far.oddities.empty();
    if (content ? there && found->second == *content : gone) arrived.push_back({path, content});
  }
  return arrived;
}

class Pusher {
 public:
  Pusher(SideWork work, PushOptions options)
      : work_(std::move(work)), options_(std::move(options)), pair_(work_.side->pair) {}

  Task<absl::Status> Run() {
    const MountPair::Turn turn = co_await MountPair::TakeTurn(pair_);
    CO_RETURN_IF_ERROR(co_await SettleSent(work_));
    CO_RETURN_IF_ERROR(
        co_await RefreshHost(work_, options_.force ? Effort::kStats : Effort::kChanges));
    FindStale();
    if (options_.tell_odd) TellOddities();
    for (int round = 1; round <= kRounds; ++round) {
      if (IsWithdrawn(work_.wish)) co_return Withdrawn();
      const uint64_t generation = pair_->tree.generation();
      FindStale();
      PushBatch batch = co_await MakeBatch(work_.deps.workers, work_.side, work_.meter, Changes(),
                                           round == kRounds);
      if (pair_->met && batch.changes.empty() && !batch.moved) {
        TellStale();
        if (!failed_) pair_->pushed = generation;
        co_return absl::OkStatus();
      }
      const bool last = round == kRounds;
      CO_ASSIGN_OR_RETURN(const bool settled, co_await Send(&batch, last));
      if (settled && (!batch.moved || last)) TellStale();
      if (settled && !batch.moved && !failed_) {
        pair_->pushed = generation;
        pair_->before.clear();
      }
      if (settled && last) TellLeftOut(batch);
      if (settled && (!batch.moved || last)) co_return absl::OkStatus();
      CO_RETURN_IF_ERROR(co_await RefreshHost(work_, Effort::kChanges));
    }
    co_return Error(
        Reason::k_SYNC_FAILED,
        "somebody else gives the mount's root over there a token of their own each time: let "
        "one hermesd push into it, or mount another directory");
  }

 private:
  // What the host has beyond the base, but for what the far end refused and the host left so.
  std::vector<RemoteChange> Changes() {
    std::vector<RemoteChange> changes = PlanPush(work_.side->mount, work_.side->ignore,
                                                 pair_->base.files(), pair_->tree.manifest());
    for (RemoteChange& change : changes) {
      const auto before = pair_->before.find(change.path);
      if (!change.expected && before != pair_->before.end()) change.expected = before->second;
      if (change.wanted) change.mtime_ns = pair_->tree.MtimeNs(change.path);
    }
    std::map<RelPath, MaybeContent> refused = std::move(pair_->refused);
    pair_->refused.clear();
    std::erase_if(changes, [this, &refused](const RemoteChange& change) {
      const auto same = refused.find(change.path);
      if (same == refused.end() || same->second != change.wanted) return false;
      pair_->refused.insert(refused.extract(same));
      return true;
    });
    return changes;
  }

  void FindStale() {
    stale_ = StaleOnFarSide(work_.side->mount, work_.side->ignore, pair_->base.files(),
                            pair_->tree.manifest());
  }

  // False: something is still to be sent.
  Task<absl::StatusOr<bool>> Send(PushBatch* batch, bool last) {
    if (pair_->base.epoch().empty()) CO_RETURN_IF_ERROR(co_await BeginBase(work_));
    // Where nothing is agreed our token claims nothing: whatever is there may have it.
    const bool known = !pair_->base.files().empty();
    work_.meter->Phase("sending");
    work_.meter->Expect(batch->changes.size(), batch->bytes);
    const uint64_t doubts = pair_->doubts;
    CO_ASSIGN_OR_RETURN(const RemoteApplied applied, co_await Apply(batch, known));
    if (known && applied.epoch != pair_->base.epoch()) {
      // It is not the far end that the base is of: that one was emptied, or made anew.
      CO_RETURN_IF_ERROR(co_await BeginBase(work_));
      co_return false;
    }
    pair_->met = pair_->doubts == doubts;
    CO_ASSIGN_OR_RETURN(const bool settled, co_await Settle(*batch, applied.placed, last));
    co_return settled && pair_->met;
  }

  // Repeating is safe: what is there already is what was wanted.
  Task<absl::StatusOr<RemoteApplied>> Apply(PushBatch* batch, bool known) {
    RemoteApply apply;
    apply.root = work_.Root();
    (known ? apply.known_epoch : apply.epoch) = pair_->base.epoch();
    apply.changes = batch->changes;
    apply.secret = work_.side->mount.policy == Policy::kPush;
    apply.source = batch->source.get();
    std::vector<BaseChange> sent;
    for (const RemoteChange& change : batch->changes) sent.push_back({change.path, change.wanted});
    CO_RETURN_IF_ERROR(co_await Announce(work_, std::move(sent)));
    // Nothing may start on files that turn out to be only a part of what is missing.
    if (known && pair_->met && batch->held && !batch->moved && stale_.empty())
      apply.on_follow = std::exchange(options_.on_follow, nullptr);
    co_return co_await work_.side->far->Apply(std::move(apply));
  }

  Task<absl::StatusOr<bool>> Settle(const PushBatch& batch, const std::vector<Placed>& placed,
                                    bool last) {
    std::vector<BaseChange> agreed;
    bool settled = true;
    for (size_t i = 0; i < batch.changes.size(); ++i) {
      const RemoteChange& change = batch.changes[i];
      // What was in memory is what was sent: once more would end the same.
      if (placed[i] == Placed::kFailed && !last && (!batch.held || batch.moved)) {
        settled = false;
        continue;
      }
      Tell(change, placed[i]);
      if (placed[i] == Placed::kConflict) pair_->refused[change.path] = change.wanted;
      if (placed[i] != Placed::kDone) continue;
      pair_->refused.erase(change.path);
      agreed.push_back({change.path, change.wanted, HostKey(change)});
      work_.report->counts.bytes += change.wanted ? change.wanted->size : 0;
    }
    CO_RETURN_IF_ERROR(co_await CommitBase(work_, std::move(agreed)));
    CO_RETURN_IF_ERROR(co_await Announce(work_, {}));
    co_return settled;
  }

  // By which the file's content is known after a restart; only if it is what was sent.
  StatKey HostKey(const RemoteChange& change) const {
    const FileMap& files = pair_->tree.manifest().files;
    const auto here = files.find(change.path);
    const bool same = change.wanted && here != files.end() && here->second == *change.wanted;
    return same ? pair_->tree.TrustedKey(change.path) : StatKey{};
  }

  // What cannot be read, or never stands still, while the disk has no room for a copy.
  void TellLeftOut(const PushBatch& batch) {
    for (const RemoteChange& change : batch.left_out) {
      Tell(change, Placed::kFailed, "it could not be read on the host");
    }
  }

  // What was sent and cannot travel any more: no command may start on its older version.
  void TellStale() {
    for (const auto& [path, oddity] : stale_) {
      SyncEntry entry{.mount = work_.side->mount.id, .path = path, .fate = Fate::kFailed};
      entry.why = Why::kOdd;
      entry.note = "on the host: " + std::string(OddityName(oddity)) +
                   ", so the sandbox has an older version: make it a readable file within "
                   "max_file_bytes, or remove it";
      work_.meter->Entry(entry);
      ++work_.report->counts.rejected;
      ++work_.report->counts.failed;
      failed_ = true;
    }
  }

  void TellOddities() {
    for (const auto& [name, oddity] : pair_->tree.manifest().oddities) {
      if (stale_.contains(name)) continue;  // told as a failure
      SyncEntry entry{.mount = work_.side->mount.id, .path = name, .why = Why::kOdd};
      entry.note = "on the host: " + std::string(OddityName(oddity));
      work_.meter->Entry(entry);
      ++work_.report->counts.rejected;
    }
  }

  void Tell(const RemoteChange& change, Placed placed,
            std::string_view failure = "the sandbox could not place it") {
    SyncEntry entry{.mount = work_.side->mount.id, .path = change.path.str()};
    entry.host = change.wanted;
    entry.remote = change.expected;
    entry.why = Why::kHostChanged;
    if (change.wanted) entry.size = change.wanted->size;
    entry.effect = !change.wanted    ? Effect::kDelete
                   : change.expected ? Effect::kReplace
                                     : Effect::kCreate;
    SyncCounts& counts = work_.report->counts;
    if (placed == Placed::kDone) {
      entry.fate = Fate::kDone;
      ++counts.applied;
    } else if (placed == Placed::kConflict) {
      entry.why = Why::kConflict;
      entry.fate = Fate::kChanged;
      entry.note = "the sandbox holds another version, which stays until a sync-back";
      ++counts.conflicts;
    } else {
      entry.fate = Fate::kFailed;
      entry.note = failure;
      ++counts.failed;
      failed_ = true;
    }
    work_.meter->Entry(entry);
    work_.meter->Done(1, 0);
  }

  const SideWork work_;
  PushOptions options_;
  const std::shared_ptr<MountPair> pair_;
  std::map<std::string, Oddity> stale_;  // see FindStale
  bool failed_ = false;  // some file is not over there, so the next push has to try it again
};

}  // namespace

bool IsPushed(const Clock& clock, MountSide* side) {
  if (!side->mount.WritesRemote()) return true;
  MountPair& pair = *side->pair;
  return pair.met && !pair.busy() && pair.pushed == pair.tree.generation() &&
         clock.Now() - pair.stats_at < kStatsAge && pair.tree.Unchanged();
}

Task<absl::Status> PushSide(SideWork work, PushOptions options) {
  if (!work.side->mount.WritesRemote()) co_return absl::OkStatus();
  for (int attempt = 1;; ++attempt) {
    absl::Status status = co_await Pusher(work, options).Run();
    if (!IsTransport(status) || attempt == kSyncAttempts || IsWithdrawn(work.wish))
      co_return status;
    options.on_follow = nullptr;  // what follows a broken apply never starts
    co_await PauseBefore(attempt + 1, work);
  }
}

Task<absl::Status> SettleSent(SideWork work) {
  MountPair& pair = *work.side->pair;
  if (pair.base.sent().empty()) co_return absl::OkStatus();
  work.meter->Phase("comparing");
  const absl::StatusOr<RemoteLook> look = co_await work.side->far->Look(work.Root(), {});
  if (IsTransport(look.status()) || absl::IsCancelled(look.status())) co_return look.status();
  std::vector<BaseChange> arrived;
  // A far end that cannot be looked at takes pushes all the same: at worst there is a conflict.
  if (look.ok() && look->epoch == pair.base.epoch()) arrived = Arrived(pair.base, look->manifest);
  CO_RETURN_IF_ERROR(co_await CommitBase(work, std::move(arrived)));
  co_return co_await Announce(work, {});
}

Task<absl::Status> BeginBase(SideWork work) {
  MountPair& pair = *work.side->pair;
  pair.met = false;
  pair.pushed.reset();
  pair.refused.clear();
  if (!pair.base.files().empty()) pair.before = pair.base.files();
  const std::string epoch = work.deps.random.Hex(kEpochBytes);
  co_return co_await work.deps.workers.Run([&pair, &epoch] { return pair.base.Begin(epoch); });
}

Task<absl::Status> CommitBase(SideWork work, std::vector<BaseChange> changes) {
  if (changes.empty()) co_return absl::OkStatus();
  MountPair& pair = *work.side->pair;
  co_return co_await work.deps.workers.Run([&pair, &changes] { return pair.base.Commit(changes); });
}

Task<absl::Status> RefreshHost(SideWork work, Effort effort) {
  MountPair& pair = *work.side->pair;
  const SteadyTime now = work.deps.clock.Now();
  if (now - pair.stats_at >= kStatsAge) effort = std::max(effort, Effort::kStats);
  // The first look of all reads what no base knows; a whole audit so soon has nothing to find.
  if (pair.bytes_at == SteadyTime{}) pair.bytes_at = now;
  if (now - pair.bytes_at >= kBytesAge) effort = Effort::kBytes;
  const bool quiet = pair.tree.Unchanged();
  if (effort == Effort::kChanges && quiet) co_return absl::OkStatus();
  const uint64_t generation = pair.tree.generation();
  work.meter->Phase("scanning");
  CO_RETURN_IF_ERROR(
      co_await work.deps.workers.Run([&pair, effort] { return pair.tree.Refresh(effort); }));
  if (quiet && pair.tree.generation() != generation) {
    LogInfo("mount '" + work.side->mount.id + "' had changed on the host without a notice of it");
    if (work.deps.drift != nullptr) ++*work.deps.drift;
  }
  if (effort >= Effort::kStats) pair.stats_at = now;
  if (effort == Effort::kBytes) pair.bytes_at = now;
  co_return absl::OkStatus();
}

}  // namespace hermes::sync
