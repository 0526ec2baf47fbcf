#pragma once

// What the end of a command means to a shell and to a person. Pure and thread-safe.

#include <string>

#include "hermes/v1/exec.pb.h"

namespace hermes::client {

// hermesctl's own failures: bad usage, refused calls, no daemon, an outcome nobody knows.
inline constexpr int kExitHermes = 125;
// As of a shell whose child died of SIGINT or SIGPIPE.
inline constexpr int kExitInterrupted = 130;
inline constexpr int kExitPipe = 141;
// `wait --timeout` and `exec --timeout`.
inline constexpr int kExitTimeout = 124;

bool HasEnded(const v1::Command& command);

// Exit.shell_code, guarded: a command without a known good end never maps to 0.
int ExitCodeOf(const v1::Command& command);

// One sentence about an end that a bare exit code would hide (timeout, cancel, kill, launch
// failure, unknown outcome, survivors); empty for a natural end.
std::string DescribeEnd(const v1::Command& command);

// "stdout: bytes 10 to 20 are missing (reason)": both ends, the second exclusive.
std::string DescribeGap(const v1::Gap& gap);

}  // namespace hermes::client
