#pragma once

// Shells started ahead: a session that was used lately has one that has sourced its state already
// and waits for a command. A command that such a shell would run exactly as a new one takes it; any
// other starts its own. They stand in "/" and know nothing of a command yet: no directory, file
// system or secret of one is held.

#include <stdint.h>

#include <map>
#include <memory>
#include <set>
#include <string>

#include "backends/engine/frames.h"
#include "backends/runner/loop.h"
#include "backends/runner/place.h"
#include "backends/runner/prepare.h"
#include "backends/runner/session.h"
#include "backends/runner/supervised.h"

namespace hermes::runner {

// What a command takes over.
struct WarmShell {
  Prepared prepared;  // the runner's ends of its pipes, and the capture
  std::unique_ptr<Supervised> supervised;
  pid_t pid = 0;  // 0: its kLaunched or kFailed is still to come
};

class WarmShells : Timer::Handler {
 public:
  WarmShells(Loop& loop, Supervisors& supervisors, SessionTable& sessions, const Place& place);
  ~WarmShells();

  // The session's shell, with this command already in it; nullptr: the command starts its own. The
  // caller becomes the owner of what its supervisor says.
  std::unique_ptr<WarmShell> Take(const frames::Start& start, Session& session);

  // The session was used: a shell for its next command is started at the end of the batch of
  // events, when the daemon has been told what it waits for.
  void Want(const std::string& session) { wanted_.insert(session); }
  void WantFirst(Session& session);  // before its first command: with the pipes of other sessions
  void Drop(const std::string& session);
  void OnBatchEnd(bool has_daemon);  // without one nothing is started

 private:
  class Waiting;
  bool IsUsable(const Waiting& waiting, const Session& session) const;
  void Start(Session& session);
  void OnTimer(Timer& timer) override;

  Loop& loop_;
  Supervisors& supervisors_;
  SessionTable& sessions_;
  const Place& place_;
  Timer expiry_;
  Pipes last_pipes_;
  std::map<std::string, std::unique_ptr<Waiting>, std::less<>> table_;
  std::set<std::string> wanted_;
  bool some_dead_ = false;
};

}  // namespace hermes::runner
