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
// to change, at most 10 s. `listening`: we have been given the directory's socket, so a connection
// would wait for us, and only the lock tells of another one; never kServed then.
LockResult LockDirectory(const std::string& directory, bool listening, Fd* lock);

}  // namespace hermes::runner
