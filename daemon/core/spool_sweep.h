#pragma once

// SweepSpool: at the start of a daemon, the output files that no row of the store speaks of any
// more, and the stdin of commands that have ended: of a daemon that died between changing a row and
// removing its files, or of a store that was taken from a backup. Runs beside everything else: the
// folder is read and files are removed on workers, a few at a time. A row is written before its
// command may make a file, so a file of a living run is never touched. Loop thread.

#include <functional>
#include <string>

#include "daemon/core/session_store.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/workers.h"

namespace hermes {

struct SpoolSweep {
  Workers& workers;
  SessionStore& store;
  std::string spool_dir;
  std::function<bool()> stop;  // asked between two batches
};

// Returns of how many commands files were removed, outputs and stdin counted apart. A store that
// refuses ends the sweep: what is left is for the next start.
Task<size_t> SweepSpool(SpoolSweep sweep);

}  // namespace hermes
