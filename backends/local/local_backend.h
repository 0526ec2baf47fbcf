#pragma once

// The local backend: the place is this host, as the account the daemon runs as. Its hermes-runner
// is a process of its own, outside hermesd's process tree: one per runner_dir, started on demand,
// alive when hermesd is not. Owned by main; loop thread.

#include <memory>
#include <span>
#include <string>

#include "backends/backend.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"

namespace hermes {

struct LocalOptions {
  // Private to this daemon: the runner's socket, program and session state live here. Made (0700)
  // if it does not exist; its parent must exist.
  std::string runner_dir;
  // The program that is installed to <runner_dir>/bin when no runner listens.
  std::span<const char> runner_image;
  // Not empty: this program is started instead of the image (development, tests).
  std::string runner_override;
};

// The longest <runner_dir>/s in bytes: stays well below sockaddr_un's 108.
inline constexpr size_t kMaxSocketPath = 99;
// A runner that is not ready by then is killed: BACKEND_UNREACHABLE.
inline constexpr Duration kRunnerStartLimit = std::chrono::seconds(10);

std::unique_ptr<Backend> MakeLocalBackend(Loop& loop, Clock& clock, LocalOptions options);

}  // namespace hermes
