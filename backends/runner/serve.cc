#include "backends/runner/serve.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "backends/runner/launch.h"
#include "backends/runner/lock.h"
#include "backends/runner/runner.h"
#include "backends/runner/sys.h"

namespace hermes::runner {
namespace {

constexpr int kListenFd = 3;  // where systemd puts the first socket

struct Inherited {
  int ready = -1;  // both get a byte when the directory is served
  int status = -1;
  int listening = -1;
};

bool IsSocketActivated() {
  const char* pid = getenv("LISTEN_PID");
  const char* count = getenv("LISTEN_FDS");
  return pid != nullptr && count != nullptr && std::string_view(count) == "1" &&
         ParseDecimal(pid) == static_cast<uint64_t>(getpid());
}

// Moves what is kept out of the low numbers, closes everything else, and blocks the low numbers.
void SettleDescriptors(Inherited& kept) {
  int* fds[] = {&kept.ready, &kept.status, &kept.listening};
  int lowest = kFirstFreeFd;
  for (int* fd : fds) {
    if (*fd < 0) continue;
    *fd = fcntl(*fd, F_DUPFD_CLOEXEC, lowest);
    lowest = *fd + 1;
  }
  int from = 3;
  for (int* fd : fds) {
    if (*fd < 0) continue;
    CloseRange(from, *fd - 1);
    from = *fd + 1;
  }
  CloseRange(from, kLastFd);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd : {0, 1, 2}) dup2(null, fd);
  while (null >= 0 && null < kFirstFreeFd - 1) null = open("/dev/null", O_RDWR | O_CLOEXEC);
}

void Tell(const Inherited& kept, bool served) {
  for (int fd : {kept.ready, kept.status}) {
    if (fd < 0) continue;
    if (served) WriteAll(fd, "R");
    close(fd);
  }
}

void RemoveLeftovers(const std::string& directory) {
  DIR* entries = opendir(directory.c_str());
  if (entries == nullptr) return;
  while (dirent* entry = readdir(entries)) unlinkat(dirfd(entries), entry->d_name, 0);
  closedir(entries);
}

bool MakeDirectories(const std::string& directory) {
  for (const char* below : {"", "/run", "/state", "/state/.first"}) {
    std::string path = directory + below;
    if (!MakePrivateDirectory(path) || chmod(path.c_str(), 0700) != 0) return false;
  }
  return true;
}

void LinkAskpass(const Place& place) {
  char self[4096];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  if (n <= 0) return;
  self[n] = '\0';
  unlink(place.askpass_path().c_str());
  if (symlink(self, place.askpass_path().c_str()) != 0) return;
}

void SetProcessTraits() {
  prctl(PR_SET_DUMPABLE, 0);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  IgnoreSignal(SIGPIPE);
  IgnoreSignal(SIGHUP);
}

rlimit RaiseOpenFiles() {
  rlimit before{};
  if (prlimit(0, RLIMIT_NOFILE, nullptr, &before) != 0) return {};
  rlimit raised = before;
  raised.rlim_cur = raised.rlim_max;
  prlimit(0, RLIMIT_NOFILE, &raised, nullptr);
  return before;
}

int Serve(const std::string& directory, Inherited kept, int64_t idle_us) {
  SettleDescriptors(kept);
  Fd lock;
  LockResult result = MakeDirectories(directory) && chdir("/") == 0
                          ? LockDirectory(directory, kept.listening >= 0, &lock)
                          : LockResult::kFailed;
  if (result != LockResult::kOurs) {
    Tell(kept, result == LockResult::kServed);
    return result == LockResult::kServed ? 0 : 1;
  }
  SetProcessTraits();
  rlimit open_files = RaiseOpenFiles();
  Place place = FindPlace(directory);
  place.open_files = open_files;
  RemoveLeftovers(place.run_directory);
  LinkAskpass(place);
  Runner runner(std::move(place), idle_us);
  if (kept.listening >= 0) {
    runner.Adopt(Fd(kept.listening));
  } else if (!runner.Bind()) {
    Tell(kept, false);
    return 1;
  }
  Tell(kept, true);
  runner.Run();
  return 0;
}

}  // namespace

int ServeMain(const std::string& directory, const ServeOptions& options) {
  std::string path = directory;
  if (path.substr(0, 1) != "/") {
    char here[4096];
    if (getcwd(here, sizeof here) == nullptr) return 1;
    path = std::string(here) + "/" + path;
  }
  if (IsSocketActivated())
    return Serve(path, {.ready = options.ready_fd, .status = -1, .listening = kListenFd},
                 options.idle_us);
  Fd told, tell;
  if (!MakePipe(&told, &tell)) return 1;
  pid_t child = Fork();
  if (child < 0) return 1;
  if (child != 0) {
    tell.Reset();
    char byte;
    ssize_t n;
    do n = read(told.get(), &byte, 1);
    while (n < 0 && errno == EINTR);
    return n == 1 ? 0 : 1;
  }
  setsid();
  pid_t grandchild = Fork();
  if (grandchild != 0) _exit(grandchild < 0 ? 1 : 0);
  _exit(Serve(path, {.ready = options.ready_fd, .status = tell.get(), .listening = -1},
              options.idle_us));
}

}  // namespace hermes::runner
