#pragma once

// What a runner knows about where it is: its directory, its account, the shells there are. Found
// once at start.

#include <sys/resource.h>

#include <string>
#include <string_view>

#include "backends/engine/frames.h"
#include "backends/engine/shell_state.h"

namespace hermes::runner {

struct Place {
  std::string directory;
  std::string run_directory;  // short-lived files
  std::string home;
  std::string shell_path;  // bash, else sh; empty: none
  shell::Kind shell = shell::Kind::kSh;
  frames::Pairs clean_env;  // the environment that a login shell starts from
  std::string start_token;  // names this runner process
  rlimit open_files = {};   // as they were before the runner raised its own

  std::string state_directory() const { return directory + "/state"; }
  std::string socket_path() const { return directory + "/s"; }
  std::string askpass_path() const { return directory + "/askpass"; }
};

Place FindPlace(std::string directory);

std::string_view Architecture();
std::string_view BuildId();
std::string FindProgram(std::string_view name);  // in the usual directories; empty: not there

std::string OwnHome();  // HOME, else what /etc/passwd says

// "~" and "~/x" below `home`; everything else as it is.
std::string ExpandHome(const std::string& path, const std::string& home);

}  // namespace hermes::runner
