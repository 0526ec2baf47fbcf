#pragma once

// Syncs as text for people, and what they mean to a shell. Pure; all text from outside is made safe
// for a terminal.

#include <string>
#include <vector>

#include "client/render.h"
#include "hermes/v1/sync.pb.h"

namespace hermes::client {

// A sync that did its work, yet left something to decide: files that are not on the host, deletions
// that are held back, files that failed or were left alone.
inline constexpr int kExitPartly = 1;

// A sync with its entries. Entries beyond what the daemon sends are only counted by the job.
struct SyncRecord {
  v1::SyncJob job;
  std::vector<v1::SyncEntry> entries;
};

std::string RenderEntries(const std::vector<v1::SyncEntry>& entries, const View& view);
std::string RenderSyncs(const std::vector<v1::SyncJob>& syncs, const View& view);

// How it ended, in one sentence, and what can be done about it, one line each; complete lines.
std::string DescribeSync(const SyncRecord& record);

// What a pull leaves in the sandbox, as it was rejected: the first of its entries, and how many
// more there are. Empty: nothing.
inline constexpr size_t kShownLeft = 20;
std::string DescribeLeft(const SyncRecord& record);

// 0, kExitPartly, or kExitHermes for one that failed or whose end is not known.
int SyncExitCode(const SyncRecord& record);

}  // namespace hermes::client
