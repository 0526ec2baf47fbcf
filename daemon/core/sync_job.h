#pragma once

// SyncJob: one sync from its beginning to its end, as those who watch it see it: its row, how far
// it is, its entries in order. Shared by its Session and by whoever watches (rpc); loop thread
// only.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/model.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/wish.h"
#include "sync/report.h"

namespace hermes {

// Entries kept of one sync, for those who watch it and for its row; more are only counted, in
// SyncInfo::entries_total.
inline constexpr size_t kMaxSyncEntries = 50'000;
inline constexpr size_t kMaxSyncEntryBytes = 16 << 20;  // of their names and notes
inline constexpr size_t kStoredSyncEntries = 1'000;

class SyncJob : public sync::SyncListener {
 public:
  // One that begins, or an ended one with what is kept of it.
  SyncJob(Loop& loop, SyncInfo info, std::vector<sync::SyncEntry> entries = {})
      : info_(std::move(info)), entries_(std::move(entries)), changed_(loop) {}

  // While it runs, report.counts are those of the entries so far.
  const SyncInfo& info() const { return info_; }
  const std::vector<sync::SyncEntry>& entries() const { return entries_; }
  std::string_view phase() const { return phase_; }
  bool ended() const { return info_.state != SyncState::kRunning; }

  // Woken when anything above changes.
  Event& changed() { return changed_; }

  // Withdrawn when its last watcher has gone: a sync that has not begun to land ends then.
  const WishPtr& wish() const { return wish_; }
  void AddWatcher() { ++watchers_; }
  void RemoveWatcher();

  // The end, once, after it was stored.
  void End(SyncInfo info);

  void OnPhase(std::string_view phase) override;
  void OnProgress(const sync::SyncProgress& progress) override;
  void OnEntry(const sync::SyncEntry& entry) override;

 private:
  SyncInfo info_;
  std::vector<sync::SyncEntry> entries_;
  size_t entry_bytes_ = 0;
  bool full_ = false;  // no more entries are kept
  std::string phase_;
  Event changed_;
  const WishPtr wish_ = std::make_shared<Wish>();
  int watchers_ = 0;
};

}  // namespace hermes
