#pragma once

// Takes from this process all it does not need to turn bytes on stdin into bytes on stdout: no file
// can be opened, nothing started, no socket made, no other process touched, little memory had. What
// the kernel lacks or somebody above forbids is left out and reported, never fatal.

#include "sync/unpack/wire.h"

namespace hermes::sync::unpack {

inline constexpr uint64_t kMaxMemoryBytes = 512ull << 20;  // address space; beyond: it crashes
inline constexpr uint64_t kMaxCpuSeconds = 300;            // beyond: it is killed

// For the whole process, for good. Call once, with one thread, before the first hostile byte. All
// descriptors above stderr are closed. Afterwards a forbidden system call kills the process.
Hello Confine();

}  // namespace hermes::sync::unpack
