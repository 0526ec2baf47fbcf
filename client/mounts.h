#pragma once

// Mounts as people type and read them. Pure and thread-safe; the daemon judges the paths.
//
//   HOST:REMOTE[:push|pull|two-way[,conflict=remote|host|both|abort]
//   [,deletes=guarded|never|report][,secrets=include]]
//
// HOST is a path of the caller: relative to where the caller is, or "~/..." below the caller's
// home. A colon or a backslash that belongs to a path stands behind a backslash.

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "hermes/v1/session.pb.h"

namespace hermes::client {

// Where relative paths of the caller begin. Both absolute; empty: not known, which only matters to
// a path that needs it.
struct Whereabouts {
  std::string cwd;
  std::string home;
};
Whereabouts CallersWhereabouts();

// A path of the caller as an absolute one, without "." and ".." where it was relative.
absl::StatusOr<std::string> AbsolutePath(std::string_view path, const Whereabouts& at);

absl::StatusOr<v1::Mount> ParseMount(std::string_view text, const Whereabouts& at);

// What ParseMount reads, with the policies always spelt out. Raw bytes: see ForTerminal.
std::string FormatMount(const v1::Mount& mount);

}  // namespace hermes::client
