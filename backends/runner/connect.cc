#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/runner/listener.h"
#include "backends/runner/place.h"
#include "backends/runner/serve.h"
#include "backends/runner/sys.h"

namespace hermes::runner {
namespace {

constexpr int kPipeBytes = 512 << 10;

// One direction of the relay. Where the kernel can, bytes go over without being copied; then
// nothing is held in between.
class Pump {
 public:
  Pump(int from, int to) : from_(from), to_(to) {}

  pollfd Reader() const { return {.fd = to_wait_ ? -1 : from_, .events = POLLIN, .revents = 0}; }
  pollfd Writer() const { return {.fd = to_wait_ ? to_ : -1, .events = POLLOUT, .revents = 0}; }

  // False: this direction has ended.
  bool Step() {
    if (!copies_) {
      ssize_t n = splice(from_, nullptr, to_, nullptr, sizeof buffer_, SPLICE_F_NONBLOCK);
      if (n >= 0) return n != 0;
      if (errno == EINTR) return true;
      if (errno == EAGAIN) {  // it is the other end that is not ready
        to_wait_ = !to_wait_;
        return true;
      }
      copies_ = true;
      to_wait_ = false;
    }
    if (size_ == 0) {
      ssize_t n = read(from_, buffer_, sizeof buffer_);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
      if (n <= 0) return false;
      at_ = 0;
      size_ = static_cast<size_t>(n);
    }
    ssize_t n = write(to_, buffer_ + at_, size_);
    if (n > 0) at_ += static_cast<size_t>(n), size_ -= static_cast<size_t>(n);
    to_wait_ = size_ != 0;
    return n > 0 || errno == EAGAIN || errno == EINTR;
  }

 private:
  int from_;
  int to_;
  bool to_wait_ = false;  // for room; else for bytes
  bool copies_ = false;   // nothing else goes between these two
  size_t at_ = 0;
  size_t size_ = 0;
  char buffer_[256 << 10];
};

Fd StartAndConnect(const std::string& directory) {
  pid_t child = Fork();
  if (child == 0) {
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    _exit(ServeMain(directory, {}));
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return ConnectTo(directory + "/s");
}

}  // namespace

int ConnectMain(const std::string& directory) {
  IgnoreSignal(SIGPIPE);
  Fd socket = ConnectTo(directory + "/s");
  // The one we found may just be ending, hence more than one attempt.
  for (int attempt = 0; attempt < 3 && !socket.valid(); ++attempt)
    socket = StartAndConnect(directory);
  if (!socket.valid()) {
    WriteAll(STDERR_FILENO, "hermes-runner: cannot reach or start a runner in " + directory + "\n");
    return 1;
  }
  fcntl(STDOUT_FILENO, F_SETPIPE_SZ, kPipeBytes);  // refused, or no pipe: fine
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, socket.get()}) SetNonBlocking(fd);
  static Pump up(STDIN_FILENO, socket.get());
  static Pump down(socket.get(), STDOUT_FILENO);
  for (;;) {
    pollfd ends[] = {up.Reader(), up.Writer(), down.Reader(), down.Writer()};
    if (poll(ends, 4, -1) < 0) continue;
    if ((ends[0].revents | ends[1].revents) != 0 && !up.Step()) return 0;
    if ((ends[2].revents | ends[3].revents) != 0 && !down.Step()) return 0;
  }
}

int ProbeMain() {
  std::string line = "hermes-runner build=" + std::string(BuildId()) +
                     " protocol=" + Decimal(frames::kVersion) +
                     " arch=" + std::string(Architecture()) + " uid=" + Decimal(getuid()) +
                     " bash=" + FindProgram("bash") + " sh=" + FindProgram("sh") + "\n";
  return WriteAll(STDOUT_FILENO, line) ? 0 : 1;
}

}  // namespace hermes::runner
