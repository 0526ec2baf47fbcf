#pragma once

// One runner per directory.

#include <string>

#include "backends/runner/sys.h"

namespace hermes::runner {

enum class LockResult {
  kOurs,    // *lock is held until it is closed
  kServed,  // another runner serves the directory: its socket takes connections
  kFailed,
};

// While another one holds the lock and does not serve (it is starting, or ending), waits for either
// to change, at most 10 s.
LockResult LockDirectory(const std::string& directory, Fd* lock);

}  // namespace hermes::runner
