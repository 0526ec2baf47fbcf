#pragma once

// Takes up what a command's shell left in its capture file: parse, merge, store.

#include <set>
#include <string>

#include "backends/runner/session.h"

namespace hermes::runner {

// How one command's state is captured; an empty path: it is not.
struct Capture {
  std::string path;
  std::string nonce;
  Shared<shell::State> base;  // the state the command started from
  std::set<std::string> not_kept;
  bool commit_cwd = true;
  std::string why_not;  // why it is not captured
};

struct Committed {
  bool done = false;
  std::string reason;  // why not
};

// After the shell's natural end.
Committed Commit(SessionTable& sessions, Session& session, shell::Kind kind,
                 const Capture& capture);

}  // namespace hermes::runner
