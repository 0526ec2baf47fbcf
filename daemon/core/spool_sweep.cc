#include "daemon/core/spool_sweep.h"

#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "daemon/core/output_log.h"
#include "daemon/core/session_names.h"
#include "daemon/core/stdin_file.h"

namespace hermes {
namespace {

// Commands that are looked up, and then removed, in one go.
constexpr size_t kBatch = 64;

// What OutputLog, StdinFile and SpoolPath name their files; other files are not ours to remove.
struct Owner {
  std::string session;
  std::string id;
  bool is_stdin = false;
  std::string command() const { return session + "/" + id; }
  auto operator<=>(const Owner&) const = default;
};

std::optional<Owner> OwnerOf(std::string_view file) {
  const bool is_stdin = file.ends_with(kStdinSuffix);
  if (!is_stdin && !file.ends_with(".out") && !file.ends_with(".err")) return std::nullopt;
  file.remove_suffix(is_stdin ? std::strlen(kStdinSuffix) : 4);
  const size_t plus = file.find('+');
  if (plus == 0 || plus == file.npos || plus + 1 == file.size()) return std::nullopt;
  return Owner{std::string(file.substr(0, plus)), std::string(file.substr(plus + 1)), is_stdin};
}

std::vector<Owner> OwnersIn(const std::string& dir) {
  std::set<Owner> owners;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(dir, error), end; !error && entry != end;
       entry.increment(error)) {
    std::optional<Owner> owner = OwnerOf(entry->path().filename().string());
    if (owner) owners.insert(*std::move(owner));
  }
  return {owners.begin(), owners.end()};
}

bool IsOrphan(const Owner& owner, const std::optional<StoredCommand>& row) {
  if (!row) return true;
  return owner.is_stdin ? row->info.outcome.has_value() : row->output_expired && row->forgotten;
}

void Remove(const std::string& dir, const Owner& owner) {
  const std::string prefix = SpoolPath(dir, owner.command());
  owner.is_stdin ? StdinFile::Remove(prefix) : OutputLog::RemoveFiles(prefix);
}

}  // namespace

Task<size_t> SweepSpool(SpoolSweep sweep) {
  const std::string dir = sweep.spool_dir;
  const std::vector<Owner> owners = co_await sweep.workers.Run([dir] { return OwnersIn(dir); });
  size_t removed = 0;
  for (size_t at = 0; at < owners.size() && !sweep.stop(); at += kBatch) {
    std::vector<Owner> orphans;
    for (size_t i = at; i < owners.size() && i < at + kBatch; ++i) {
      absl::StatusOr<std::optional<StoredCommand>> row =
          co_await sweep.store.GetCommand(owners[i].session, owners[i].id);
      if (!row.ok()) co_return removed;
      if (IsOrphan(owners[i], *row)) orphans.push_back(owners[i]);
    }
    if (orphans.empty()) continue;
    removed += co_await sweep.workers.Run([dir, orphans] {
      for (const Owner& orphan : orphans) Remove(dir, orphan);
      return orphans.size();
    });
  }
  co_return removed;
}

}  // namespace hermes
