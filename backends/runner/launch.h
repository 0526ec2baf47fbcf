#pragma once

// One program to be started, and the code that a freshly forked child runs to become it. Everything
// is prepared before the fork: the child only makes system calls.

#include <stdint.h>
#include <sys/resource.h>

#include <string>
#include <vector>

#include "backends/engine/frames.h"

namespace hermes::runner {

struct Launch {
  std::string program;  // a path, or a name looked up in `search`
  std::vector<std::string> argv;
  std::vector<std::string> env;  // NAME=value
  std::string search;            // PATH of the command
  std::string cwd;
  int stdin_fd = -1;  // -1: /dev/null. None of these is below kFirstFreeFd
  int stdout_fd = -1;
  int stderr_fd = -1;
  int command_fd = -1;  // becomes shell::kCommandFd; -1: none
  int prelude_fd = -1;
  int ready_fd = -1;
  bool ahead = false;  // its command comes with Order::kBegin; until then it is nobody's
  bool files = false;  // no program: the file service
  bool pty = false;    // stdin_fd is a terminal that becomes the controlling one
  rlimit open_files = {};
  uint64_t deadline_ms = 0;
  uint32_t grace_ms = 0;

  void AddVariable(const std::string& name, const std::string& value);
};

// The runner keeps its own descriptors at or above this one, so that the child can put its own in
// place without treading on one it still needs.
inline constexpr int kFirstFreeFd = 16;

struct LaunchFailure {
  frames::LaunchStage stage = frames::LaunchStage::kNone;
  int32_t error = 0;
};

// Replaces the calling process. On failure writes a LaunchFailure to `status_fd` and exits.
[[noreturn]] void Become(const Launch& launch, int status_fd);

}  // namespace hermes::runner
