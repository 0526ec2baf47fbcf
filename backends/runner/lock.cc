#include "backends/runner/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "backends/runner/listener.h"
#include "backends/runner/tree.h"

namespace hermes::runner {
namespace {
constexpr int64_t kPatienceUs = 10'000'000;

// A connection alone proves nothing: a supervisor that a dead runner had just forked still has the
// listening socket for a moment, and the lock too.
bool IsServed(const std::string& directory) {
  Fd socket = ConnectTo(directory + "/s");
  if (!socket.valid()) return false;
  pid_t server = PeerPid(socket.get());
  if (server != 0 && kill(server, 0) != 0 && errno == ESRCH) return false;
  auto process = LookUp(server);
  return !process || !process->dead;
}
}  // namespace

LockResult LockDirectory(const std::string& directory, bool listening, Fd* lock) {
  lock->Reset(open((directory + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock->valid()) return LockResult::kFailed;
  // Nobody else is there, most often; to end a watch costs the kernel 14 ms.
  if (flock(lock->get(), LOCK_EX | LOCK_NB) == 0) return LockResult::kOurs;
  // Before the next look, so that no change is missed: the socket appears, the lock is let go.
  Fd changes(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  inotify_add_watch(changes.get(), directory.c_str(), IN_CREATE | IN_CLOSE_WRITE | IN_ATTRIB);
  int64_t give_up_us = NowUs() + kPatienceUs;
  for (;;) {
    if (flock(lock->get(), LOCK_EX | LOCK_NB) == 0) return LockResult::kOurs;
    if (!listening && IsServed(directory)) return LockResult::kServed;
    int64_t left_ms = (give_up_us - NowUs()) / 1000;
    if (left_ms <= 0) return LockResult::kFailed;
    pollfd change{.fd = changes.get(), .events = POLLIN, .revents = 0};
    poll(&change, 1, static_cast<int>(left_ms));
    char events[4096];
    while (read(changes.get(), events, sizeof events) > 0) continue;
  }
}

}  // namespace hermes::runner
