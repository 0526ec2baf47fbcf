#include "daemon/core/sync_job.h"

#include <utility>

#include "daemon/runtime/check.h"

namespace hermes {
namespace {

// Of a sync that fails nothing but its entries tells what it has done.
void Count(const sync::SyncEntry& entry, sync::SyncCounts* counts) {
  using sync::Effect;
  using sync::Why;
  const bool moves = entry.effect != Effect::kNothing && entry.effect != Effect::kKeepCopy;
  if (entry.fate == sync::Fate::kDone && moves) ++counts->applied;
  if (entry.fate == sync::Fate::kFailed) ++counts->failed;
  if (entry.why == Why::kConflict) ++counts->conflicts;
  if (entry.why == Why::kHeld) ++counts->held;
  if (entry.why == Why::kOdd || entry.why == Why::kDenied || entry.why == Why::kLie) {
    ++counts->rejected;
  }
}

}  // namespace

void SyncJob::RemoveWatcher() {
  CHECK(watchers_ > 0);
  if (--watchers_ == 0) wish_->Withdraw();
}

void SyncJob::End(SyncInfo info) {
  CHECK(!ended() && info.state != SyncState::kRunning);
  info_ = std::move(info);
  changed_.NotifyAll();
}

void SyncJob::OnPhase(std::string_view phase) {
  phase_ = phase;
  changed_.NotifyAll();
}

void SyncJob::OnProgress(const sync::SyncProgress& progress) {
  if (progress == info_.progress) return;
  info_.progress = progress;
  changed_.NotifyAll();
}

void SyncJob::OnEntry(const sync::SyncEntry& entry) {
  ++info_.entries_total;
  Count(entry, &info_.report.counts);
  const size_t bytes =
      entry.mount.size() + entry.path.size() + entry.aside.size() + entry.note.size();
  // The first that does not fit is the last that is asked: what is kept has no holes.
  full_ = full_ || entries_.size() == kMaxSyncEntries || entry_bytes_ + bytes > kMaxSyncEntryBytes;
  if (!full_) {
    entry_bytes_ += bytes;
    entries_.push_back(entry);
  }
  changed_.NotifyAll();
}

}  // namespace hermes
