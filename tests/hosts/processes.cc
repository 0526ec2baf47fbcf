#include "tests/hosts/processes.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace hermes {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kSearchPath = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

std::string FindProgram(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  std::istringstream folders(kSearchPath);
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string path = folder + "/" + name;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return name;
}

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> OwnEnvironment() {
  std::vector<std::string> env;
  for (char** word = environ; *word != nullptr; ++word) env.emplace_back(*word);
  return env;
}

// Between fork and exec: system calls only, since the parent may have threads.
struct Launch {
  const char* program;
  char* const* argv;
  char* const* envp;
  const SpawnSpec* spec;
  int in = -1, out = -1, err = -1;
  pid_t parent;
};

[[noreturn]] void BecomeProgram(const Launch& launch) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != launch.parent) ::_exit(127);
  if (launch.in >= 0) ::dup2(launch.in, 0);
  if (launch.out >= 0) ::dup2(launch.out, 1);
  if (launch.err >= 0) ::dup2(launch.err, 2);
  const SpawnSpec& spec = *launch.spec;
  if (!spec.directory.empty() && ::chdir(spec.directory.c_str()) != 0) ::_exit(127);
  if (spec.uid != static_cast<uid_t>(-1)) {
    if (::setgroups(0, nullptr) != 0 && errno != EPERM) ::_exit(127);
    if (::setresgid(spec.gid, spec.gid, spec.gid) != 0) ::_exit(127);
    if (::setresuid(spec.uid, spec.uid, spec.uid) != 0) ::_exit(127);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a change of uid clears it
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::execve(launch.program, launch.argv, launch.envp);
  ::_exit(127);
}

pid_t Fork(Launch launch) {
  launch.parent = ::getpid();
  pid_t pid = ::fork();
  if (pid == 0) BecomeProgram(launch);
  return pid;
}

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) GiveUp("pipe");
    read = ends[0];
    write = ends[1];
  }
  ~Pipe() {
    Close(&read);
    Close(&write);
  }
  static void Close(int* fd) {
    if (*fd >= 0) ::close(*fd);
    *fd = -1;
  }
};

void Take(Pipe* pipe, std::string* text) {
  char bytes[65536];
  ssize_t got = ::read(pipe->read, bytes, sizeof(bytes));
  if (got > 0)
    text->append(bytes, static_cast<size_t>(got));
  else
    Pipe::Close(&pipe->read);
}

void Give(Pipe* pipe, const std::string& text, size_t* given) {
  ssize_t wrote = ::write(pipe->write, text.data() + *given, text.size() - *given);
  if (wrote > 0) *given += static_cast<size_t>(wrote);
  if (wrote < 0 && errno != EAGAIN) *given = text.size();
  if (*given == text.size()) Pipe::Close(&pipe->write);
}

// Until both outputs ended; false: the limit came first.
bool Exchange(Pipe* in, Pipe* out, Pipe* err, const RunSpec& spec, Ran* ran) {
  Clock::time_point end = Clock::now() + spec.limit;
  size_t given = 0;
  if (spec.input.empty()) Pipe::Close(&in->write);
  while (out->read >= 0 || err->read >= 0) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) return false;
    pollfd wait[3] = {{out->read, POLLIN, 0}, {err->read, POLLIN, 0}, {in->write, POLLOUT, 0}};
    ::poll(wait, 3, static_cast<int>(left));
    if (wait[0].revents != 0) Take(out, &ran->out);
    if (wait[1].revents != 0) Take(err, &ran->err);
    if (wait[2].revents != 0) Give(in, spec.input, &given);
  }
  return true;
}

bool IsNumber(const std::string& name) {
  return !name.empty() && name.find_first_not_of("0123456789") == std::string::npos;
}

// By descriptor, and looked at again: the number may belong to somebody else by now. Returns when
// it is dead or `limit` came.
void KillExactly(const ProcessFacts& facts, std::chrono::milliseconds limit) {
  int fd = static_cast<int>(::syscall(SYS_pidfd_open, facts.pid, 0));
  if (fd < 0) return;
  ProcessFacts again;
  if (ReadProcess(facts.pid, &again) && again.started == facts.started) {
    ::syscall(SYS_pidfd_send_signal, fd, SIGKILL, nullptr, 0);
    pollfd wait{fd, POLLIN, 0};
    ::poll(&wait, 1, static_cast<int>(limit.count()));
  }
  ::close(fd);
}

}  // namespace

Ran RunProgram(const RunSpec& spec) {
  Ran ran;
  Pipe in, out, err;
  ::fcntl(in.write, F_SETFL, O_NONBLOCK);
  std::vector<std::string> argv = spec.argv;
  std::vector<std::string> env = OwnEnvironment();
  env.insert(env.begin(), spec.env.begin(), spec.env.end());
  std::string program = FindProgram(argv.front());
  std::vector<char*> argv_pointers = Pointers(argv), env_pointers = Pointers(env);
  SpawnSpec plain;
  Launch launch{program.c_str(),
                argv_pointers.data(),
                env_pointers.data(),
                &plain,
                in.read,
                out.write,
                err.write,
                0};
  struct sigaction ignore{}, before{};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, &before);
  pid_t pid = Fork(launch);
  if (pid < 0) GiveUp("fork for " + program);
  Pipe::Close(&in.read);
  Pipe::Close(&out.write);
  Pipe::Close(&err.write);
  bool ended = Exchange(&in, &out, &err, spec, &ran);
  ::sigaction(SIGPIPE, &before, nullptr);
  if (!ended) ::kill(pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (ended) ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

pid_t Spawn(const SpawnSpec& spec) {
  std::vector<std::string> argv = spec.argv;
  std::vector<std::string> env = spec.env.empty() ? OwnEnvironment() : spec.env;
  std::string program = FindProgram(argv.front());
  std::vector<char*> argv_pointers = Pointers(argv), env_pointers = Pointers(env);
  int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  int log = -1;
  if (!spec.log.empty())
    log = ::open(spec.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  pid_t pid =
      Fork({program.c_str(), argv_pointers.data(), env_pointers.data(), &spec, null, log, log, 0});
  ::close(null);
  if (log >= 0) ::close(log);
  return pid < 0 ? 0 : pid;
}

bool ReadProcess(pid_t pid, ProcessFacts* facts) {
  const std::string folder = "/proc/" + std::to_string(pid);
  std::string stat = ReadWholeFile(folder + "/stat");
  size_t open = stat.find('('), close = stat.rfind(')');
  if (open == std::string::npos || close == std::string::npos) return false;
  facts->pid = pid;
  facts->name = stat.substr(open + 1, close - open - 1);
  std::istringstream rest(stat.substr(close + 1));
  std::string skipped;
  rest >> facts->state >> facts->parent;
  for (int field = 5; field < 22; ++field) rest >> skipped;
  rest >> facts->started;
  std::string status = ReadWholeFile(folder + "/status");
  size_t uid = status.find("\nUid:");
  if (uid == std::string::npos) return false;
  std::istringstream uids(status.substr(uid + 5));
  uids >> facts->real >> facts->effective;
  return true;
}

std::vector<ProcessFacts> AllProcesses() {
  std::vector<ProcessFacts> all;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    std::string name = entry.path().filename();
    ProcessFacts facts;
    if (IsNumber(name) && ReadProcess(static_cast<pid_t>(std::stol(name)), &facts) &&
        facts.state != 'Z' && facts.state != 'X')
      all.push_back(std::move(facts));
  }
  return all;
}

std::vector<ProcessFacts> DescendantsOf(pid_t pid) {
  std::vector<ProcessFacts> all = AllProcesses();
  std::set<pid_t> family = {pid};
  std::vector<ProcessFacts> found;
  for (size_t before = 0; before != family.size();) {
    before = family.size();
    for (const ProcessFacts& facts : all)
      if (family.count(facts.parent) != 0 && family.insert(facts.pid).second)
        found.push_back(facts);
  }
  return found;
}

std::vector<pid_t> KillWhere(const std::function<bool(const ProcessFacts&)>& belongs,
                             std::chrono::milliseconds limit) {
  Clock::time_point end = Clock::now() + limit;
  std::vector<pid_t> found;
  for (int empty = 0; empty < 2;) {
    found.clear();
    for (const ProcessFacts& facts : AllProcesses()) {
      if (!belongs(facts)) continue;
      found.push_back(facts.pid);
      KillExactly(facts, limit);
    }
    empty = found.empty() ? empty + 1 : 0;
    if (!found.empty() && Clock::now() > end) break;
  }
  return found;
}

void KillChild(pid_t pid) {
  if (pid <= 0) return;
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

int AwaitChild(pid_t pid, std::chrono::milliseconds limit) {
  int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  pollfd wait{fd, POLLIN, 0};
  const bool ended = ::poll(&wait, 1, static_cast<int>(limit.count())) == 1;
  ::close(fd);
  int status = 0;
  if (!ended || ::waitpid(pid, &status, 0) != pid) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

FileWatch::FileWatch(const std::string& path, pid_t writer)
    : changes_(::inotify_init1(IN_CLOEXEC)),
      process_(static_cast<int>(::syscall(SYS_pidfd_open, writer, 0))) {
  if (::inotify_add_watch(changes_, path.c_str(), IN_MODIFY) < 0) GiveUp("watch " + path);
}

FileWatch::~FileWatch() {
  ::close(changes_);
  ::close(process_);
}

bool FileWatch::Wait(int limit_ms) {
  pollfd wait[2] = {{changes_, POLLIN, 0}, {process_, POLLIN, 0}};
  if (::poll(wait, 2, limit_ms) <= 0) return false;
  char events[4096];
  if (wait[0].revents != 0 && ::read(changes_, events, sizeof(events)) > 0) return true;
  return wait[1].revents == 0;
}

bool HasEnvironment(pid_t pid, const std::string& name_and_value) {
  std::string text = '\0' + ReadWholeFile("/proc/" + std::to_string(pid) + "/environ");
  return text.find('\0' + name_and_value + '\0') != std::string::npos;
}

std::string ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

unsigned RandomNumber() {
  unsigned number = 0;
  if (::getrandom(&number, sizeof(number), 0) != sizeof(number)) GiveUp("getrandom");
  return number;
}

std::string RandomName(const std::string& prefix) {
  char digits[16];
  std::snprintf(digits, sizeof(digits), "%08x", RandomNumber());
  return prefix + digits;
}

std::vector<std::string> SplitLines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

void GiveUp(const std::string& what) {
  std::fprintf(stderr, "tests/hosts: %s: %s\n", what.c_str(), std::strerror(errno));
  std::abort();
}

}  // namespace hermes
