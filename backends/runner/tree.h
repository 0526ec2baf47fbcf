#pragma once

// Process trees as /proc shows them.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace hermes::runner {

struct Process {
  pid_t pid = 0;
  pid_t parent = 0;
  bool dead = false;  // a zombie without threads: nothing runs there any more
};

// nullopt: there is no such process (or no /proc).
std::optional<Process> LookUp(pid_t pid);

// All processes there are; empty without /proc. A snapshot that may be torn:
// whoever acts on it walks again.
std::vector<Process> AllProcesses();

// The living descendants of `root` in one walk, not counting the children of `root` named in
// `spared` (sorted) nor what is below those. A parent comes before its children: a shell whose
// child is signalled first goes on with its script.
std::vector<pid_t> Descendants(pid_t root, const std::vector<pid_t>& spared);

// Whether `pid` is below `ancestor`, by walking up.
bool IsDescendant(pid_t pid, pid_t ancestor);

}  // namespace hermes::runner
