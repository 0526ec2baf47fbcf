#pragma once

// Streams over descriptors of this host: a connected socket, or the three pipes of a child process.
// Loop thread. Calls under way when a stream is destroyed or aborted end with an error; they keep
// what they need alive by themselves. Writing to a pipe that nobody reads raises SIGPIPE: the
// process must ignore that signal (sockets are written with MSG_NOSIGNAL).

#include <memory>

#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "daemon/runtime/child.h"
#include "daemon/runtime/loop.h"

namespace hermes {

// Takes over a connected stream socket of the Unix domain. Stderr is at its end from the start.
std::unique_ptr<Stream> MakeSocketStream(Loop& loop, int fd);

// Takes over the pipes and the child. Destroying the stream kills the child's group (see Child).
std::unique_ptr<Stream> MakeChildStream(Loop& loop, std::unique_ptr<Child> child,
                                        Child::Pipes pipes);

}  // namespace hermes
