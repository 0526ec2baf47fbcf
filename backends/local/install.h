#pragma once

// Puts a program file where it can be started. Blocking, but small (one file of at most a few
// hundred kilobytes, once per daemon start). Thread-safe.

#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace hermes {

// Makes `path` a private directory of this account, or checks that it is one: BACKEND_UNREACHABLE
// when it belongs to somebody else or others may enter it.
absl::Status EnsurePrivateDirectory(const std::string& path);

// Writes `image` to <directory>/<first 16 hex digits of its SHA-256> with mode 0700, atomically,
// unless an undamaged one is there. Returns the path.
absl::StatusOr<std::string> InstallProgram(const std::string& directory,
                                           std::span<const char> image);

}  // namespace hermes
