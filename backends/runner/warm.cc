#include "backends/runner/warm.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace hermes::runner {
namespace {
constexpr int64_t kUnusedUs = 60'000'000;  // then a session's shell is ended
constexpr size_t kMaxShells = 16;  // at the limit the other sessions' commands start their own
// A shell that is still on its way is taken too: it is there sooner than a new one. One that takes
// longer than this hangs.
constexpr int64_t kStartsWithinUs = 500'000;
}  // namespace

class WarmShells::Waiting final : Supervised::Owner, Source::Handler {
 public:
  Waiting(WarmShells& shells, const Session& session)
      : generation(session.generation),
        pipes(session.pipes),
        shell(new WarmShell),
        shells_(shells),
        ready_(shells.loop_, *this) {}

  bool Start(PreparedAhead ahead) {
    shell->supervised.reset(new Supervised(shells_.loop_, shells_.supervisors_, *this));
    if (!shell->supervised->Start(ahead.prepared.launch)) return false;
    shell->prepared.in = std::move(ahead.prepared.in);
    shell->prepared.out = std::move(ahead.prepared.out);
    shell->prepared.err = std::move(ahead.prepared.err);
    shell->prepared.capture = std::move(ahead.prepared.capture);
    text_ = std::move(ahead.text);
    SetNonBlocking(ahead.ready.get());
    ready_.Open(std::move(ahead.ready), EPOLLIN);
    return true;
  }

  // Whether a command can rely on it, as far as can be known.
  bool IsThere() {
    shell->supervised->ReadNotices();
    if (ready_.open()) ReadReady();
    return !dead && (is_ready_ || (ready_.open() && NowUs() - started_us_ < kStartsWithinUs));
  }

  bool Give(const frames::Start& start, std::string_view text) {
    int room = fcntl(text_.get(), F_GETPIPE_SZ);  // empty until now, so a write is all or nothing
    if (room < 0 || text.size() > static_cast<size_t>(room)) return false;
    shell->supervised->Send({.kind = Order::kBegin,
                             .signal = 0,
                             .scope = frames::Scope::kTree,
                             .cause = frames::Cause::kNatural,
                             .grace_ms = start.grace_ms,
                             .deadline_ms = start.deadline_ms});
    // A shell that is not there yet still writes its byte.
    shell->prepared.theirs[0] = ready_.Release();
    return WriteAll(text_.get(), text);
  }

  const uint64_t generation;
  const Pipes pipes;
  int64_t used_us = NowUs();
  bool dead = false;
  std::unique_ptr<WarmShell> shell;

 private:
  void OnNotice(const Notice& notice) override {
    if (notice.kind == Notice::kLaunched)
      shell->pid = notice.pid;
    else
      OnSupervisorDied();
  }
  void OnSupervisorDied() override { dead = shells_.some_dead_ = true; }
  void OnReady(Source&, uint32_t) override { ReadReady(); }
  void ReadReady() {
    char byte;
    ssize_t n = read(ready_.fd(), &byte, 1);
    if (n < 0) return;
    is_ready_ = n == 1;
    ready_.Close();
  }

  WarmShells& shells_;
  Fd text_;
  Source ready_;  // tells when the shell waits for its command, or never will
  bool is_ready_ = false;
  const int64_t started_us_ = NowUs();
};

WarmShells::WarmShells(Loop& loop, Supervisors& supervisors, SessionTable& sessions,
                       const Place& place)
    : loop_(loop),
      supervisors_(supervisors),
      sessions_(sessions),
      place_(place),
      expiry_(loop, *this) {}

WarmShells::~WarmShells() = default;

bool WarmShells::IsUsable(const Waiting& waiting, const Session& session) const {
  return !waiting.dead && waiting.generation == session.generation &&
         waiting.pipes == session.pipes;
}

std::unique_ptr<WarmShell> WarmShells::Take(const frames::Start& start, Session& session) {
  bool is_plain = start.form == frames::Form::kScript && start.pty == 0 &&
                  start.state_mode != frames::StateMode::kIsolated;
  if (!is_plain) return nullptr;
  last_pipes_ = session.pipes = PipesOf(start);
  auto found = table_.find(session.id);
  if (found == table_.end()) return nullptr;
  Waiting& waiting = *found->second;
  if (!waiting.IsThere() || !IsUsable(waiting, session)) return nullptr;
  Capture capture = waiting.shell->prepared.capture;
  auto text = TextAhead(start, session, place_, capture);
  if (!text) return nullptr;
  bool given = waiting.Give(start, *text);
  waiting.shell->prepared.capture = std::move(capture);
  std::unique_ptr<WarmShell> shell = std::move(waiting.shell);
  table_.erase(found);
  return given ? std::move(shell) : nullptr;
}

void WarmShells::WantFirst(Session& session) {
  session.pipes = last_pipes_;
  Want(session.id);
}

void WarmShells::Drop(const std::string& session) {
  wanted_.erase(session);
  table_.erase(session);
}

void WarmShells::OnBatchEnd(bool has_daemon) {
  if (some_dead_) std::erase_if(table_, [](const auto& entry) { return entry.second->dead; });
  some_dead_ = false;
  std::set<std::string> wanted;
  wanted.swap(wanted_);
  for (const std::string& id : wanted) {
    Session* session = sessions_.Find(id);
    if (session != nullptr && !session->closing && has_daemon) Start(*session);
  }
}

void WarmShells::Start(Session& session) {
  auto found = table_.find(session.id);
  if (found != table_.end() && IsUsable(*found->second, session)) {
    found->second->used_us = NowUs();
    return;
  }
  if (found != table_.end()) table_.erase(found);
  if (table_.size() >= kMaxShells) return;
  PreparedAhead ahead = PrepareAhead(sessions_, session, place_);
  if (ahead.prepared.failure.stage != frames::LaunchStage::kNone) return;
  auto waiting = std::make_unique<Waiting>(*this, session);
  if (!waiting->Start(std::move(ahead))) return;
  table_[session.id] = std::move(waiting);
  if (!expiry_.armed()) expiry_.ArmIn(kUnusedUs);
}

void WarmShells::OnTimer(Timer&) {
  int64_t limit_us = NowUs() - kUnusedUs, oldest_us = INT64_MAX;
  std::erase_if(table_, [&](const auto& entry) { return entry.second->used_us <= limit_us; });
  for (const auto& [id, waiting] : table_) oldest_us = std::min(oldest_us, waiting->used_us);
  if (!table_.empty()) expiry_.ArmAt(oldest_us + kUnusedUs);
}

}  // namespace hermes::runner
