#include "backends/runner/session.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "backends/runner/sys.h"

namespace hermes::runner {
namespace {
constexpr std::string_view kMagic = "hermes-session 1 ";
constexpr size_t kMaxLoaded = 16;  // states in memory beyond those that running commands hold
constexpr size_t kMaxFileBytes = 2 * shell::kMaxStateBytes;  // a stored state is a merge of two
}  // namespace

bool IsSessionId(std::string_view id) {
  if (id.empty() || id.size() > kMaxSessionId || id.front() == '.') return false;
  return std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

Session* SessionTable::Find(std::string_view id) {
  auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : &found->second;
}

// A directory of its own: no session id can name a file in there.
std::string SessionTable::FirstPath(std::string_view id) const {
  return directory_ + "/.first/" + std::string(id);
}

Session* SessionTable::Create(const std::string& id, const shell::State& first) {
  if (!Write(FirstPath(id), 1, first)) {
    mkdir((directory_ + "/.first").c_str(), 0700);
    if (!Write(FirstPath(id), 1, first)) return nullptr;
  }
  unlink(Path(id).c_str());
  if (link(FirstPath(id).c_str(), Path(id).c_str()) != 0 && !Write(Path(id), 1, first))
    return nullptr;
  Session& session = sessions_[id];
  session = Session{};
  session.id = id;
  session.generation = 1;
  return &session;
}

Session* SessionTable::Recover(const std::string& id) {
  auto stored = Read(Path(id));
  if (!stored) return nullptr;
  Session& session = sessions_[id];
  session.id = id;
  session.generation = stored->generation;
  return &session;
}

void SessionTable::Remove(const std::string& id) {
  sessions_.erase(id);
  unlink(Path(id).c_str());
  unlink(FirstPath(id).c_str());
}

Shared<shell::State> SessionTable::Current(Session& session) {
  if (!session.state) {
    auto stored = Read(Path(session.id));
    if (!stored) return {};
    session.state = Shared<shell::State>(std::move(stored->state));
  }
  Keep(session, session.state);
  return session.state;
}

Shared<shell::State> SessionTable::First(const Session& session) {
  auto stored = Read(FirstPath(session.id));
  return stored ? Shared<shell::State>(std::move(stored->state)) : Shared<shell::State>();
}

bool SessionTable::Commit(Session& session, shell::State state) {
  if (!Write(Path(session.id), session.generation + 1, state)) return false;
  ++session.generation;
  Keep(session, Shared<shell::State>(std::move(state)));
  return true;
}

void SessionTable::Keep(Session& session, Shared<shell::State> state) {
  session.state = std::move(state);
  auto at = std::find(loaded_.begin(), loaded_.end(), session.id);
  if (at != loaded_.end()) {
    std::rotate(at, at + 1, loaded_.end());
    return;
  }
  loaded_.push_back(session.id);
  if (loaded_.size() <= kMaxLoaded) return;
  if (Session* oldest = Find(loaded_.front())) oldest->state = {};
  loaded_.erase(loaded_.begin());
}

std::optional<SessionTable::Stored> SessionTable::Read(const std::string& path) const {
  auto text = ReadSmallFile(path, kMaxFileBytes);
  if (!text || text->substr(0, kMagic.size()) != kMagic) return std::nullopt;
  size_t line_end = text->find('\n');
  if (line_end == std::string::npos) return std::nullopt;
  std::string_view whole = *text;
  auto generation = ParseDecimal(whole.substr(kMagic.size(), line_end - kMagic.size()));
  auto state = shell::Decode(whole.substr(line_end + 1));
  if (!generation || !state) return std::nullopt;
  return Stored{.generation = *generation, .state = std::move(*state)};
}

bool SessionTable::Write(const std::string& path, uint64_t generation,
                         const shell::State& state) const {
  std::string text(kMagic);
  text += Decimal(generation) + "\n" + shell::Encode(state);
  if (text.size() > kMaxFileBytes) return false;
  return ReplaceFile(path, text);
}

}  // namespace hermes::runner
