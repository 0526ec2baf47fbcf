#pragma once

// Opening below a held directory, so that no name, link or mount point leads out of it. On failure
// the descriptor is not valid and errno says why. Blocking.

#include <string>

#include "daemon/runtime/fd.h"
#include "sync/mount.h"

namespace hermes::sync {

// A directory, for reading; "" is the root itself. No part may be a link (ELOOP) or a mount point
// (EXDEV).
Fd OpenBeneath(int root, const std::string& path);

// What a link (or anything) finally is, as O_PATH: links are followed, but none out of the root.
// ENOSYS: the kernel has no openat2.
Fd OpenTargetBeneath(int root, const std::string& path);

// A regular file for reading, at its start; a link only as the policy follows it. ENXIO: it is
// something else.
Fd OpenVersionBeneath(int root, const std::string& path, LinkPolicy links);

}  // namespace hermes::sync
