#pragma once

// The command line: which sub-command with which arguments, and the help. The only user of CLI11.

#include <chrono>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "client/commands.h"

namespace hermes::client {

struct CommandLine {
  Text socket;
  Format format = Format::kTable;
  std::chrono::milliseconds patience = std::chrono::seconds(60);
  std::function<int(Context&)> run;
};

// The command line, or the exit code of a process that has printed help, its version or what was
// wrong. Words after the first "--" are never taken for options.
std::variant<CommandLine, int> ParseCommandLine(int argc, const char* const* argv,
                                                const std::string& version);

}  // namespace hermes::client
