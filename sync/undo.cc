#include "sync/undo.h"

#include <algorithm>
#include <chrono>
#include <tuple>
#include <utility>

#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"
#include "sync/land_turn.h"

namespace hermes::sync {
namespace {

constexpr int64_t kNsPerS = 1'000'000'000;

}  // namespace

UndoEntry UndoStore::Describe(const SyncDir& sync, bool* begun) {
  UndoEntry entry{sync.id};
  entry.bytes = Place(fs_, root_).BytesOf(sync);
  auto journal = Journal::Open(fs_, sync.dir.get());
  *begun = !absl::IsNotFound(journal.status());
  if (!journal.ok()) {
    FileStat stat;
    fs_.Stat(sync.dir.get(), &stat);
    entry.time_s = stat.mtime_ns / kNsPerS;
    entry.readable = false;
    entry.open = !absl::IsDataLoss(journal.status());
    return entry;
  }
  entry.time_s = journal->plan().time_s;
  entry.open = journal->open();
  for (uint32_t i = 0; i < journal->plan().changes.size(); ++i) {
    if (journal->landed(i)) ++entry.in_place;
    if (journal->kept(i)) ++entry.kept;
  }
  return entry;
}

absl::StatusOr<std::vector<UndoEntry>> UndoStore::List() {
  Place place(fs_, root_);
  ASSIGN_OR_RETURN(std::vector<std::string> ids, place.Ids());
  std::vector<UndoEntry> entries;
  for (const std::string& id : ids) {
    auto sync = place.Open(id);
    if (!sync.ok()) continue;
    bool begun = false;
    UndoEntry entry = Describe(*sync, &begun);
    if (begun) entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const UndoEntry& a, const UndoEntry& b) {
    return std::tie(a.time_s, a.id) < std::tie(b.time_s, b.id);
  });
  return entries;
}

absl::StatusOr<LandReport> UndoStore::Revert(std::string_view id) {
  ASSIGN_OR_RETURN(SyncDir sync, Place(fs_, root_).Open(id));
  auto journal = Journal::Open(fs_, sync.dir.get());
  if (absl::IsNotFound(journal.status())) {
    return Error(Reason::k_RESULT_EXPIRED, "this sync never landed");
  }
  if (!sync.files.valid()) return Error(Reason::k_RESULT_EXPIRED, "its versions are gone");
  if (!journal.ok()) return Error(Reason::k_SYNC_FAILED, std::string(journal.status().message()));
  const TurnPlace turn_place{fs_, root_};
  if (journal->open()) {
    const bool back = journal->backwards();
    ASSIGN_OR_RETURN(LandReport ended, FinishTurn(turn_place, sync, *journal, false));
    if (back) return ended;  // which is what is asked for
  }
  std::vector<uint32_t> indexes;
  for (uint32_t i = 0; i < journal->plan().changes.size(); ++i) {
    if (journal->landed(i)) indexes.push_back(i);
  }
  if (indexes.empty()) return LandReport();  // as after a revert that a kill interrupted
  RETURN_IF_ERROR(journal->BeginRevert(std::move(indexes)));
  return FinishTurn(turn_place, sync, *journal, false);
}

absl::Status UndoStore::Expire(const UndoLimits& limits, int64_t now_s) {
  ASSIGN_OR_RETURN(std::vector<UndoEntry> entries, List());
  uint64_t bytes = 0;
  for (const UndoEntry& entry : entries) bytes += entry.bytes;
  Place place(fs_, root_);
  for (size_t i = 0; i < entries.size(); ++i) {
    bool too_old = now_s - entries[i].time_s > limits.max_age_s;
    bool too_much = bytes > limits.max_bytes && i + 1 < entries.size();
    if (entries[i].open || (!too_old && !too_much)) continue;
    auto sync = place.Open(entries[i].id);
    if (!sync.ok()) continue;
    place.Remove(*std::move(sync));
    bytes -= entries[i].bytes;
  }
  return absl::OkStatus();
}

void UndoStore::Tidy(const UndoLimits& limits, int64_t now_s) {
  const absl::Status expired = Expire(limits, now_s);
  if (!expired.ok()) LogWarning("undo is kept for longer: " + std::string(expired.message()));
}

int64_t SecondsNow(const Clock& clock) {
  return std::chrono::duration_cast<std::chrono::seconds>(clock.NowWall().time_since_epoch())
      .count();
}

}  // namespace hermes::sync
