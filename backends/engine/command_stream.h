#pragma once

// A command as a byte stream: what is written is its stdin, what is read its stdout. Output is
// acknowledged as it is read, and the command's record over there goes with the stream. Whoever
// destroys the stream of a command that has not ended must have closed its stdin, so that it ends
// by itself; else it is killed, as by Abort. Loop thread.

#include <memory>

#include "backends/backend.h"

namespace hermes {

// `channel`: of a command with an open stdin that nobody else writes or reads.
std::unique_ptr<Stream> MakeCommandStream(std::unique_ptr<Channel> channel);

}  // namespace hermes
