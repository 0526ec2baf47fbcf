#include "backends/runner/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "backends/engine/script.h"
#include "backends/runner/files.h"
#include "backends/runner/sys.h"

namespace hermes::runner {
namespace {

using frames::LaunchStage;

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const auto& s : strings) pointers.push_back(const_cast<char*>(s.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void Fail(int status_fd, LaunchStage stage, int error) {
  LaunchFailure failure{.stage = stage, .error = error};
  ssize_t written = write(status_fd, &failure, sizeof failure);
  _exit(written == sizeof failure ? 127 : 126);
}

LaunchStage StageOfExec(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return LaunchStage::kNotFound;
    case EACCES:
    case ENOEXEC:
    case EISDIR:
    case EPERM:
    case ETXTBSY:
    case ELIBBAD:
      return LaunchStage::kNotExecutable;
    case E2BIG:
      return LaunchStage::kArgsTooLong;
    case EAGAIN:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return LaunchStage::kResources;
    default:
      return LaunchStage::kOther;
  }
}

// By system call: libc keeps the first real-time signals for itself and would not reset them, but
// who started the runner may have left them ignored.
void ResetSignals() {
  struct {
    void* handler;
    unsigned long flags;
    void* restorer;
    uint64_t mask;
  } standard = {};
  for (int signal = 1; signal <= 64; ++signal)
    syscall(SYS_rt_sigaction, signal, &standard, nullptr, sizeof standard.mask);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

void PlaceDescriptor(int status_fd, int from, int to) {
  if (dup2(from, to) != to) Fail(status_fd, LaunchStage::kResources, errno);
}

void PlaceDescriptors(const Launch& launch, int status_fd) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  int stdin_fd = launch.stdin_fd >= 0 ? launch.stdin_fd : null;
  PlaceDescriptor(status_fd, stdin_fd, 0);
  PlaceDescriptor(status_fd, launch.stdout_fd >= 0 ? launch.stdout_fd : null, 1);
  PlaceDescriptor(status_fd, launch.stderr_fd >= 0 ? launch.stderr_fd : null, 2);
  if (launch.command_fd >= 0) PlaceDescriptor(status_fd, launch.command_fd, shell::kCommandFd);
  if (launch.prelude_fd >= 0) PlaceDescriptor(status_fd, launch.prelude_fd, shell::kPreludeFd);
  if (launch.ready_fd >= 0) PlaceDescriptor(status_fd, launch.ready_fd, shell::kReadyFd);
}

// As execvp looks a name up, but in the command's PATH and without handing what is no program to a
// shell.
int Execute(const Launch& launch) {
  std::vector<char*> argv = Pointers(launch.argv);
  std::vector<char*> env = Pointers(launch.env);
  if (launch.program.empty()) return ENOENT;
  if (launch.program.find('/') != std::string::npos) {
    execve(launch.program.c_str(), argv.data(), env.data());
    return errno;
  }
  int error = ENOENT;
  for (size_t at = 0; at <= launch.search.size();) {
    size_t end = launch.search.find(':', at);
    if (end == std::string::npos) end = launch.search.size();
    std::string directory = end == at ? "." : launch.search.substr(at, end - at);
    at = end + 1;
    execve((directory + "/" + launch.program).c_str(), argv.data(), env.data());
    if (errno == ENOENT || errno == ENOTDIR) continue;
    error = errno;
    if (error != EACCES) break;
  }
  return error;
}

}  // namespace

void Launch::AddVariable(const std::string& name, const std::string& value) {
  std::string variable = name;
  variable += '=';
  variable += value;
  env.push_back(std::move(variable));
}

void Become(const Launch& launch, int status_fd) {
  setsid();
  if (launch.pty && ioctl(launch.stdin_fd, TIOCSCTTY, 0) != 0)
    Fail(status_fd, LaunchStage::kPty, errno);
  PlaceDescriptors(launch, status_fd);
  if (!launch.cwd.empty() && chdir(launch.cwd.c_str()) != 0)
    Fail(status_fd, LaunchStage::kBadCwd, errno);
  if (launch.open_files.rlim_max != 0) prlimit(0, RLIMIT_NOFILE, &launch.open_files, nullptr);
  ResetSignals();
  if (launch.files) {
    CloseRange(STDERR_FILENO + 1, kLastFd);  // as an exec would: the status as well
    _exit(FilesMain());
  }
  int error = Execute(launch);
  Fail(status_fd, StageOfExec(error), error);
}

}  // namespace hermes::runner
