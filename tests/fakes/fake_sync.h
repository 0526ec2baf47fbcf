#pragma once

// FakeSync: what a daemon of a test gives to its sessions so that their mounts are the real ones:
// the file system of this machine, fences that refuse nothing, and directories of the test's.

#include <string>

#include "sync/bundle.h"
#include "sync/manager.h"
#include "sync/mount_pair.h"
#include "sync/real_fs.h"

namespace hermes {

struct FakeSync {
  // `base_dir` exists; empty: no session may have mounts.
  FakeSync(Loop& loop, Clock& clock, Random& random, Workers& workers, std::string base_dir)
      : pairs({loop, clock, workers, fs, locks, {}, base_dir}),
        deps{loop, clock, random, workers, fs, locks, pairs, sync::FindUnpack(), "", {}} {}

  sync::RealFs fs;
  sync::SyncLocks locks;
  sync::MountPairs pairs;
  sync::SyncManager::Deps deps;
};

}  // namespace hermes
