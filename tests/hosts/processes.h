#pragma once

// Processes as tests need them: run a program to its end, start one that dies with the test, and
// find and end processes through /proc by exact pid, parent or uid; never by name. Any thread.

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace hermes {

struct Ran {
  int status = -1;  // exit code; 128 + signal; -1: not ended within the limit (and killed)
  std::string out;
  std::string err;
};

struct RunSpec {
  std::vector<std::string> argv;  // argv[0] is looked up in PATH and the sbin directories
  std::string input = {};
  std::vector<std::string> env = {};  // NAME=value added to this process's environment
  std::chrono::milliseconds limit = std::chrono::seconds(60);
};

Ran RunProgram(const RunSpec& spec);

// A program in a session of its own that gets SIGKILL when the calling thread ends.
struct SpawnSpec {
  std::vector<std::string> argv;
  std::vector<std::string> env = {};   // the whole environment; empty: this process's
  std::string log = {};                // file for stdout and stderr, appended; empty: inherited
  uid_t uid = static_cast<uid_t>(-1);  // -1: as this process; else uid, gid and no other groups
  gid_t gid = static_cast<gid_t>(-1);
  std::string directory = {};  // to start in; empty: this process's
};

pid_t Spawn(const SpawnSpec& spec);  // 0: could not; an exec that fails exits with 127

struct ProcessFacts {
  pid_t pid = 0;
  pid_t parent = 0;
  char state = '?';
  unsigned long long started = 0;  // clock ticks since boot: with pid it is unique
  uid_t real = 0, effective = 0;
  std::string name;  // comm
};

// False: there is no such process.
bool ReadProcess(pid_t pid, ProcessFacts* facts);
std::vector<ProcessFacts> AllProcesses();  // zombies are left out
std::vector<ProcessFacts> DescendantsOf(pid_t pid);

// SIGKILL to every process that `belongs`, until two walks of /proc in a row find none. Returns
// what is still there after `limit`.
std::vector<pid_t> KillWhere(const std::function<bool(const ProcessFacts&)>& belongs,
                             std::chrono::milliseconds limit = std::chrono::seconds(20));

// SIGKILL and wait for a child of this process.
void KillChild(pid_t pid);
// Waits for a child; its exit code, 128 + signal, or -1: it did not end within `limit`.
int AwaitChild(pid_t pid, std::chrono::milliseconds limit = std::chrono::seconds(30));

// Tells when a file (which must exist) grows, or the process that writes it ends.
class FileWatch {
 public:
  FileWatch(const std::string& path, pid_t writer);
  ~FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

  // False: the process ended, or nothing happened for so long.
  bool Wait(int limit_ms);

 private:
  int changes_;
  int process_;
};

bool HasEnvironment(pid_t pid, const std::string& name_and_value);
std::string ReadWholeFile(const std::string& path);
unsigned RandomNumber();
std::string RandomName(const std::string& prefix);  // prefix and 8 hex digits
std::vector<std::string> SplitLines(const std::string& text);

// For what a test cannot go on without: prints `what` and errno, and aborts.
[[noreturn]] void GiveUp(const std::string& what);

}  // namespace hermes
