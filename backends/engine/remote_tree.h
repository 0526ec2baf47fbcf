#pragma once

// RemoteTrees over what an engine has. They are asked over one stream for each question. They
// belong to whoever syncs; loop thread. Errors are those of sync/remote_tree.h, or what opening a
// stream says.

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/random.h"
#include "sync/remote_tree.h"

namespace hermes {

struct RemoteTreeDeps {  // outlive the tree
  Clock& clock;
  Random& random;
};

// Level B: needs sh and the tools that sync/shell_tree.h names over there.
std::unique_ptr<sync::RemoteTree> MakeShellTree(RemoteTreeDeps deps,
                                                std::shared_ptr<Sandbox> sandbox);

struct FilesStream {
  std::unique_ptr<Stream> stream;
  std::string run_id;  // of the command that it is, which others may follow; empty: it is none
};
// Opens a stream to a `hermes-runner files`; as Sandbox::OpenFiles.
using OpenFiles = std::function<Task<absl::StatusOr<FilesStream>>(Lane lane, WishPtr wish)>;

// Level A.
std::unique_ptr<sync::RemoteTree> MakeRunnerTree(RemoteTreeDeps deps, OpenFiles open);

}  // namespace hermes
