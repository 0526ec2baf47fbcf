#pragma once

// The sessions of this runner. A session costs a few hundred bytes: its shell state lies on disk
// and is in memory only while its commands run, and for the most recently used ones.

#include <stdint.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "backends/engine/frames.h"
#include "backends/engine/shell_state.h"
#include "backends/runner/shared.h"

namespace hermes::runner {

inline constexpr size_t kMaxSessionId = 80;
bool IsSessionId(std::string_view id);

// What a command's shell is connected to.
struct Pipes {
  bool stdin_open = false;  // else /dev/null
  bool merged = false;      // stderr goes where stdout goes
  bool operator==(const Pipes&) const = default;
};

struct Session {
  std::string id;
  uint64_t generation = 0;
  int64_t lease_until_us = 0;  // 0: no lease
  std::string sudo_password;
  Shared<shell::State> state;  // empty: on disk only
  Pipes pipes;                 // of its last command
  std::vector<uint32_t> commands;
  bool used = false;     // a command was started
  bool closing = false;  // CLOSE is under way: nothing new starts
};

class SessionTable {
 public:
  explicit SessionTable(std::string directory) : directory_(std::move(directory)) {}

  Session* Find(std::string_view id);
  // Makes it, or starts it over, with this as its first state. nullptr: it cannot be stored.
  Session* Create(const std::string& id, const shell::State& first);
  // From its saved state; nullptr: there is none that can be read.
  Session* Recover(const std::string& id);
  void Remove(const std::string& id);  // from the disk too, also an unknown one
  void Unload(const std::string& id) { sessions_.erase(id); }

  // The state as it is now, loaded when it has to be; empty when the disk lost it.
  Shared<shell::State> Current(Session& session);
  Shared<shell::State> First(const Session& session);
  // Makes `state` the current one of the next generation. False: the disk refused, nothing changed.
  bool Commit(Session& session, shell::State state);

  std::map<std::string, Session, std::less<>>& all() { return sessions_; }
  bool empty() const { return sessions_.empty(); }

 private:
  struct Stored {
    uint64_t generation = 0;
    shell::State state;
  };

  std::string Path(std::string_view id) const { return directory_ + "/" + std::string(id); }
  std::string FirstPath(std::string_view id) const;
  std::optional<Stored> Read(const std::string& path) const;
  bool Write(const std::string& path, uint64_t generation, const shell::State& state) const;
  void Keep(Session& session, Shared<shell::State> state);

  std::string directory_;
  std::map<std::string, Session, std::less<>> sessions_;
  std::vector<std::string> loaded_;  // ids, least recently used first
};

}  // namespace hermes::runner
