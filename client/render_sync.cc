#include "client/render_sync.h"

#include <algorithm>

#include "client/outcome.h"
#include "client/parse.h"
#include "client/text.h"

namespace hermes::client {
namespace {

std::string PathCell(const v1::SyncEntry& entry) {
  return entry.aside().empty() ? entry.path() : entry.path() + " -> " + entry.aside();
}

std::string WhyCell(const v1::SyncEntry& entry) {
  std::string why = v1::SyncEntry::Why_Name(entry.why());
  return entry.note().empty() ? why : why + ": " + entry.note();
}

std::string Counted(uint64_t count, std::string_view one, std::string_view many) {
  return std::to_string(count) + " " + std::string(count == 1 ? one : many);
}

uint64_t CountFate(const SyncRecord& record, v1::SyncEntry::Fate fate) {
  return static_cast<uint64_t>(
      std::count_if(record.entries.begin(), record.entries.end(),
                    [fate](const v1::SyncEntry& entry) { return entry.fate() == fate; }));
}

// What a dry run would do.
uint64_t CountPlanned(const SyncRecord& record) {
  return static_cast<uint64_t>(
      std::count_if(record.entries.begin(), record.entries.end(), [](const v1::SyncEntry& entry) {
        return entry.effect() != v1::SyncEntry::NOTHING && entry.fate() == v1::SyncEntry::PLANNED;
      }));
}

std::string WhatWasDone(const SyncRecord& record) {
  const v1::SyncJob& job = record.job;
  std::string files = Counted(job.applied(), "file", "files");
  switch (job.kind()) {
    case v1::SyncJob::PUSH:
      return "sent " + files;
    case v1::SyncJob::PULL:
      return "brought back " + files;
    case v1::SyncJob::PLAN:
      return "a dry run: " + Counted(CountPlanned(record), "file", "files") +
             " would change, nothing was touched";
    case v1::SyncJob::REVERT:
      return "took back " + files + " of " + ShortName(job.of_sync());
    default:
      return files;
  }
}

std::string Counts(const SyncRecord& record) {
  const v1::SyncJob& job = record.job;
  std::string out;
  const auto add = [&out](uint64_t count, std::string_view one, std::string_view many) {
    if (count != 0) out += ", " + Counted(count, one, many);
  };
  add(job.conflicts(), "conflict", "conflicts");
  add(job.rejected(), "rejected", "rejected");
  add(job.held(), "deletion held back", "deletions held back");
  add(CountFate(record, v1::SyncEntry::CHANGED), "left alone", "left alone");
  add(job.failed(), "failed", "failed");
  return out;
}

std::string Failure(const v1::SyncJob& job) {
  if (job.state() == v1::SyncJob::INTERRUPTED) {
    return "was interrupted; each file is its old or its new version";
  }
  std::string text = job.message().empty() ? "failed" : job.message();
  if (!job.reason().empty()) text += " [" + job.reason() + "]";
  return text;
}

bool IsRejected(const v1::SyncEntry& entry) {
  const v1::SyncEntry::Why why = entry.why();
  return entry.effect() == v1::SyncEntry::NOTHING &&
         (why == v1::SyncEntry::ODD || why == v1::SyncEntry::TREE || why == v1::SyncEntry::DENIED ||
          why == v1::SyncEntry::LIE);
}

// Where nothing is to be done, nothing is planned.
std::string FateCell(const v1::SyncEntry& entry) {
  const bool none =
      entry.effect() == v1::SyncEntry::NOTHING && entry.fate() == v1::SyncEntry::PLANNED;
  return none ? "-" : v1::SyncEntry::Fate_Name(entry.fate());
}

bool IsPull(const v1::SyncJob& job) { return job.kind() == v1::SyncJob::PULL; }

std::string Hints(const SyncRecord& record) {
  const v1::SyncJob& job = record.job;
  const std::string name = ShortName(job.name());
  const std::string session = name.substr(0, name.find('/'));
  std::string out;
  const auto add = [&out](const std::string& line) { out += "  " + ForTerminal(line) + "\n"; };
  if (record.entries.size() < job.entries_total() && !record.entries.empty()) {
    add("only the first " + std::to_string(record.entries.size()) + " of " +
        std::to_string(job.entries_total()) + " entries are shown");
  }
  if (job.state() == v1::SyncJob::INTERRUPTED) add("run it again");
  if (job.held() > 0) {
    add("hermesctl sync-back " + session + " --approve-deletes takes the deletions over, too");
  }
  if (job.suspect()) {
    add("the sandbox lied: hermesctl sync-back " + session + " --salvage takes what is in order");
  }
  if (job.kind() == v1::SyncJob::PUSH && job.conflicts() > 0) {
    add("the sandbox keeps its version of conflicts until hermesctl sync-back " + session);
  }
  if (IsPull(job) && job.unsaved() > 0) {
    add(Counted(job.unsaved(), "file of the sandbox is", "files of the sandbox are") +
        " not on the host, though the mounts would have it");
  }
  if (IsPull(job) && job.revertible()) add("hermesctl undo " + name + " takes it back");
  return out;
}

}  // namespace

std::string RenderEntries(const std::vector<v1::SyncEntry>& entries, const View& view) {
  Table table({"MOUNT", "EFFECT", "FATE", "SIZE", "WHY", "PATH"});
  for (const v1::SyncEntry& entry : entries) {
    table.Add({OrDash(entry.mount()), v1::SyncEntry::Effect_Name(entry.effect()), FateCell(entry),
               entry.size() == 0 ? "-" : HumanBytes(entry.size()), WhyCell(entry),
               PathCell(entry)});
  }
  return table.Render(view.colour);
}

std::string RenderSyncs(const std::vector<v1::SyncJob>& syncs, const View& view) {
  Table table({"NAME", "KIND", "STATE", "APPLIED", "CONFLICTS", "REJECTED", "HELD", "FAILED",
               "UNSAVED", "AGE", "UNDO", "REASON"});
  for (const v1::SyncJob& job : syncs) {
    table.Add({ShortName(job.name()), v1::SyncJob::Kind_Name(job.kind()),
               v1::SyncJob::State_Name(job.state()), std::to_string(job.applied()),
               std::to_string(job.conflicts()), std::to_string(job.rejected()),
               std::to_string(job.held()), std::to_string(job.failed()),
               std::to_string(job.unsaved()), Age(view.now_seconds - job.create_time().seconds()),
               job.revertible() ? "yes" : "-", OrDash(job.reason())});
  }
  return table.Render(view.colour);
}

std::string DescribeSync(const SyncRecord& record) {
  const v1::SyncJob& job = record.job;
  const bool done = job.state() == v1::SyncJob::DONE;
  std::string text = ShortName(job.name()) + ": ";
  text += done ? WhatWasDone(record) : Failure(job);
  if (done || job.applied() > 0) text += Counts(record);
  return "hermesctl: " + ForTerminal(text) + "\n" + Hints(record);
}

std::string DescribeLeft(const SyncRecord& record) {
  const v1::SyncJob& job = record.job;
  if (job.rejected() == 0) return "";
  std::vector<v1::SyncEntry> left;
  for (const v1::SyncEntry& entry : record.entries) {
    if (left.size() < kShownLeft && IsRejected(entry)) left.push_back(entry);
  }
  std::string text = left.empty() ? "" : RenderEntries(left, View{});
  if (const uint64_t more = job.rejected() - std::min<uint64_t>(left.size(), job.rejected())) {
    text += "  " + std::to_string(more) + (left.empty() ? "" : " more") +
            " rejected: hermesctl syncs " + ForTerminal(ShortName(job.name())) + " lists them\n";
  }
  return text;
}

int SyncExitCode(const SyncRecord& record) {
  const v1::SyncJob& job = record.job;
  if (job.state() != v1::SyncJob::DONE) return kExitHermes;
  const bool plan = job.kind() == v1::SyncJob::PLAN;
  if (plan || job.kind() == v1::SyncJob::PUSH) return 0;
  const bool partly = job.unsaved() > 0 || job.held() > 0 || job.failed() > 0 ||
                      CountFate(record, v1::SyncEntry::CHANGED) > 0;
  return partly ? kExitPartly : 0;
}

}  // namespace hermes::client
