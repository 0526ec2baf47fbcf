#pragma once

// MemoryStore: a SessionStore whose rows live in a Disk that outlives it, so a test can throw a
// daemon away between any two steps and start the next one on what was "committed". `gate` decides
// what becomes of each write. Loop thread.

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "daemon/core/session_store.h"
#include "daemon/runtime/status.h"

namespace hermes {

class MemoryStore : public SessionStore {
 public:
  struct Disk {
    std::map<std::string, SessionInfo> sessions;
    std::map<std::pair<std::string, std::string>, StoredCommand> commands;  // by session and id
    std::map<std::string, std::pair<std::string, std::string>> run_ids;     // to session and id
    std::map<std::string, CommandInfo> spent;     // by run id: of sessions that are gone
    std::map<std::string, SessionInfo> cleanups;  // by request id
    std::vector<StoredSync> syncs;                // in the order of beginning
  };

  // kFull: the write fails as on a full disk. kDie...: the process is killed right before or after
  // the write took effect: the call never returns, the loop stops.
  enum class Verdict { kOk, kFull, kDieBefore, kDieAfter };
  using Gate = std::function<Verdict(const char* step)>;

  // Writes of this step take effect, and are not answered before Answer().
  std::string held;
  void Answer() {
    held.clear();
    never_.NotifyAll();
  }

  MemoryStore(Loop& loop, Disk& disk, Gate gate = nullptr)
      : loop_(loop), disk_(disk), gate_(std::move(gate)), never_(loop) {}

  Task<absl::StatusOr<Contents>> Load(WallTime now) override {
    Contents contents;
    contents.daemon_id = "memory";
    for (const auto& [id, session] : disk_.sessions) contents.sessions.push_back(session);
    for (StoredSync& sync : disk_.syncs) {
      if (sync.info.state != SyncState::kRunning) continue;
      sync.info.state = SyncState::kInterrupted;
      sync.info.end_time = now;
      sync.info.report.revertible = sync.info.kind == SyncKind::kPull;
    }
    for (const auto& [key, command] : disk_.commands) {
      if (!command.forgotten) contents.live_commands.push_back(command);
    }
    co_return contents;
  }

  Task<absl::Status> PutSession(SessionInfo session) override {
    co_return co_await Write("PutSession", [&] { disk_.sessions[session.id] = session; });
  }

  Task<absl::Status> DeleteSession(std::string id, WallTime) override {
    co_return co_await Write("DeleteSession", [&] {
      disk_.sessions.erase(id);
      for (const auto& [key, row] : disk_.commands)
        if (key.first == id) disk_.spent[row.info.run_id] = row.info;
      std::erase_if(disk_.commands, [&id](const auto& row) { return row.first.first == id; });
      std::erase_if(disk_.run_ids, [&id](const auto& row) { return row.second.first == id; });
      std::erase_if(disk_.syncs, [&id](const auto& row) { return row.info.session_id == id; });
    });
  }

  Task<absl::StatusOr<std::optional<SessionInfo>>> AcceptCleanup(std::string request_id,
                                                                 SessionInfo session,
                                                                 WallTime) override {
    if (const auto known = disk_.cleanups.find(request_id); known != disk_.cleanups.end())
      co_return known->second;
    CO_RETURN_IF_ERROR(
        co_await Write("AcceptCleanup", [&] { disk_.cleanups[request_id] = std::move(session); }));
    co_return std::nullopt;
  }

  Task<absl::StatusOr<Accepted>> AcceptCommand(CommandInfo command) override {
    const std::optional<CommandInfo> known = KnownRun(command.run_id);
    if (known) co_return Accepted{false, *known};
    CO_RETURN_IF_ERROR(co_await Write("AcceptCommand", [&] {
      disk_.run_ids[command.run_id] = {command.session_id, command.id};
      StoredCommand row;
      row.info = command;
      disk_.commands[{command.session_id, command.id}] = row;
    }));
    co_return Accepted{true, {}};
  }

  Task<absl::StatusOr<std::optional<CommandInfo>>> FindRun(std::string run_id) override {
    co_return KnownRun(run_id);
  }

  Task<absl::Status> DeleteCommand(std::string session, std::string id) override {
    co_return co_await Write("DeleteCommand", [&] {
      disk_.commands.erase({session, id});
      std::erase_if(disk_.run_ids,
                    [&](const auto& row) { return row.second == std::pair(session, id); });
    });
  }

  Task<absl::Status> PutCommand(StoredCommand command) override {
    co_return co_await Write("PutCommand", [&] {
      disk_.commands[{command.info.session_id, command.info.id}] = command;
    });
  }

  Task<absl::StatusOr<std::optional<StoredCommand>>> GetCommand(std::string session,
                                                                std::string id) override {
    auto it = disk_.commands.find({session, id});
    if (it == disk_.commands.end()) co_return std::optional<StoredCommand>();
    co_return std::optional<StoredCommand>(it->second);
  }

  Task<absl::StatusOr<std::vector<CommandInfo>>> ListCommands(std::string session,
                                                              std::string before,
                                                              size_t limit) override {
    std::vector<CommandInfo> found;  // by id: which is newer is not kept here
    for (auto row = disk_.commands.rbegin(); row != disk_.commands.rend(); ++row) {
      const auto& [in, id] = row->first;
      bool wanted = session.empty() || in == session;
      if (wanted && (before.empty() || id < before) && found.size() < limit)
        found.push_back(row->second.info);
    }
    co_return found;
  }

  Task<absl::StatusOr<AcceptedSync>> AcceptSync(SyncInfo sync) override {
    for (const StoredSync& row : disk_.syncs) {
      if (sync.request_id.empty() || row.info.session_id != sync.session_id) continue;
      if (row.info.request_id == sync.request_id) co_return AcceptedSync{false, row.info};
    }
    CO_RETURN_IF_ERROR(
        co_await Write("AcceptSync", [&] { disk_.syncs.push_back({std::move(sync), {}}); }));
    co_return AcceptedSync{true, {}};
  }

  Task<absl::StatusOr<std::optional<SyncInfo>>> FindSync(std::string session,
                                                         std::string request_id) override {
    for (const StoredSync& row : disk_.syncs) {
      if (!request_id.empty() && row.info.session_id == session &&
          row.info.request_id == request_id)
        co_return row.info;
    }
    co_return std::nullopt;
  }

  Task<absl::Status> PutSync(StoredSync sync) override {
    co_return co_await Write("PutSync", [&] {
      StoredSync* row = RowOf(sync.info.session_id, sync.info.id);
      if (row != nullptr) {
        *row = std::move(sync);
      } else if (disk_.sessions.contains(sync.info.session_id)) {
        disk_.syncs.push_back(std::move(sync));
      }
    });
  }

  Task<absl::StatusOr<std::optional<StoredSync>>> GetSync(std::string session,
                                                          std::string id) override {
    const StoredSync* row = RowOf(session, id);
    co_return row == nullptr ? std::nullopt : std::optional<StoredSync>(*row);
  }

  Task<absl::StatusOr<std::vector<SyncInfo>>> ListSyncs(std::string session, std::string before,
                                                        size_t limit) override {
    std::vector<SyncInfo> found;
    bool reached = before.empty();
    for (auto row = disk_.syncs.rbegin(); row != disk_.syncs.rend(); ++row) {
      if (row->info.session_id != session) continue;
      if (reached && found.size() < limit) found.push_back(row->info);
      reached = reached || row->info.id == before;
    }
    co_return found;
  }

  Task<absl::StatusOr<std::vector<std::string>>> Expire(Before) override {
    co_return std::vector<std::string>();
  }

 private:
  std::optional<CommandInfo> KnownRun(const std::string& run_id) const {
    if (const auto spent = disk_.spent.find(run_id); spent != disk_.spent.end())
      return spent->second;
    const auto known = disk_.run_ids.find(run_id);
    if (known == disk_.run_ids.end()) return std::nullopt;
    return disk_.commands.at(known->second).info;
  }

  StoredSync* RowOf(const std::string& session, const std::string& id) {
    for (StoredSync& row : disk_.syncs) {
      if (row.info.session_id == session && row.info.id == id) return &row;
    }
    return nullptr;
  }

  Task<absl::Status> Write(const char* step, std::function<void()> effect) {
    Verdict verdict = gate_ == nullptr ? Verdict::kOk : gate_(step);
    if (verdict == Verdict::kFull)
      co_return Error(Reason::k_DISK_FULL, "the disk of the test is full");
    if (verdict != Verdict::kDieBefore) effect();
    if (verdict != Verdict::kOk) loop_.Stop();
    while (verdict != Verdict::kOk || held == step) co_await never_.Wait();
    co_return absl::OkStatus();
  }

  Loop& loop_;
  Disk& disk_;
  Gate gate_;
  Event never_;
};

}  // namespace hermes
