#include "backends/runner/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "backends/runner/sys.h"

namespace hermes::runner {
namespace {

// The fields after the name; the name itself may hold anything, so they start at the last ')'.
std::optional<Process> ParseStat(pid_t pid, std::string_view text) {
  size_t close = text.rfind(") ");
  if (close == std::string_view::npos) return std::nullopt;
  std::string_view rest = text.substr(close + 2);
  std::string_view state;
  Process process{.pid = pid};
  uint64_t threads = 1;
  constexpr int kState = 3, kParent = 4, kThreads = 20;  // numbered as in proc(5)
  for (int field = kState; field <= kThreads && !rest.empty(); ++field) {
    size_t space = std::min(rest.find(' '), rest.size());
    std::string_view value = rest.substr(0, space);
    rest.remove_prefix(std::min(space + 1, rest.size()));
    if (field == kState) state = value;
    if (field == kParent) process.parent = static_cast<pid_t>(ParseDecimal(value).value_or(0));
    if (field == kThreads) threads = ParseDecimal(value).value_or(1);
  }
  process.dead = (state == "Z" && threads <= 1) || state == "X";
  return process;
}

std::optional<Process> ReadStat(int proc, pid_t pid) {
  std::string path = Decimal(static_cast<uint64_t>(pid)) + "/stat";
  int file = openat(proc, path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  char text[1024];
  ssize_t n = read(file, text, sizeof text);
  close(file);
  if (n <= 0) return std::nullopt;
  return ParseStat(pid, std::string_view(text, static_cast<size_t>(n)));
}

}  // namespace

std::optional<Process> LookUp(pid_t pid) {
  Fd proc(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!proc.valid() || pid <= 0) return std::nullopt;
  return ReadStat(proc.get(), pid);
}

std::vector<Process> AllProcesses() {
  std::vector<Process> all;
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return all;
  while (dirent* entry = readdir(proc)) {
    auto pid = ParseDecimal(entry->d_name);
    if (!pid) continue;
    auto process = ReadStat(dirfd(proc), static_cast<pid_t>(*pid));
    if (process) all.push_back(*process);
  }
  closedir(proc);
  return all;
}

std::vector<pid_t> Descendants(pid_t root, const std::vector<pid_t>& spared) {
  std::vector<Process> all = AllProcesses();
  std::set<pid_t> tree = {root};
  std::vector<pid_t> living;
  // Parents mostly come before their children, so one pass finds nearly all and the second the
  // rest.
  for (bool grew = true; grew;) {
    grew = false;
    for (Process& process : all) {
      if (process.pid == 0 || process.pid == root || tree.count(process.parent) == 0) continue;
      bool skip =
          process.parent == root && std::binary_search(spared.begin(), spared.end(), process.pid);
      if (!skip) {
        tree.insert(process.pid);  // also a dead one: a torn snapshot may still show its children
        if (!process.dead) living.push_back(process.pid);
        grew = true;
      }
      process.pid = 0;
    }
  }
  return living;
}

bool IsDescendant(pid_t pid, pid_t ancestor) {
  constexpr int kDeepest = 4096;  // a longer chain is a loop of a torn view
  for (int depth = 0; depth < kDeepest && pid > 1; ++depth) {
    auto process = LookUp(pid);
    if (!process) return false;
    if (process->parent == ancestor) return true;
    pid = process->parent;
  }
  return false;
}

}  // namespace hermes::runner
