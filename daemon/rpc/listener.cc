#include "daemon/rpc/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <utility>

#include <asio/posix/stream_descriptor.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// Room for a whole message of output: with less, every message waits half way for the client to
// read. Where the kernel allows less, that is taken.
constexpr int kSendBuffer = 512 << 10;

constexpr int kBacklog = 512;
constexpr int kActivationFd = 3;  // where systemd puts the first socket
constexpr int kAcceptsPerTurn = 16;
// Without descriptors accepting again at once would only burn time.
constexpr Duration kPause = std::chrono::milliseconds(100);

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError("a socket's path must have 1 to 107 bytes: " + path);
  }
  memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int Bind(int fd, const sockaddr_un& address) {
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ? 0 : errno;
}

bool Answers(const sockaddr_un& address) {
  const Fd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int result =
      connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  return result == 0 || errno == EAGAIN;  // EAGAIN: alive, its queue is full
}

uint64_t InodeOf(const std::string& path) {
  struct stat info = {};
  return !path.empty() && lstat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

mode_t ModeOf(const std::string& path) {
  struct stat info = {};
  return lstat(path.c_str(), &info) == 0 ? info.st_mode & 0777 : 0;
}

}  // namespace

absl::StatusOr<Fd> ListenUnix(const std::string& path, mode_t mode) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "socket");
  // On Linux the file takes this mode when it is made: it is never open to others, not for a
  // moment.
  if (fchmod(fd.get(), 0600) != 0) return ErrnoStatus(errno, "fchmod");
  int error = Bind(fd.get(), address);
  if (error == EADDRINUSE) {
    if (Answers(address)) return absl::AlreadyExistsError("a daemon answers at " + path);
    struct stat info = {};
    if (lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) {
      return absl::AlreadyExistsError("there is something else at " + path);
    }
    unlink(path.c_str());
    error = Bind(fd.get(), address);
  }
  if (error != 0) return ErrnoStatus(error, "bind " + path);
  if (chmod(path.c_str(), mode) != 0) return ErrnoStatus(errno, "chmod " + path);
  if (listen(fd.get(), kBacklog) != 0) return ErrnoStatus(errno, "listen " + path);
  return fd;
}

absl::StatusOr<std::optional<Fd>> TakeActivationSocket() {
  const char* pid = getenv("LISTEN_PID");
  const char* count = getenv("LISTEN_FDS");
  const bool ours = pid != nullptr && count != nullptr && pid == std::to_string(getpid()) &&
                    strcmp(count, "0") != 0;
  const bool single = ours && strcmp(count, "1") == 0;
  unsetenv("LISTEN_PID");
  unsetenv("LISTEN_FDS");
  unsetenv("LISTEN_FDNAMES");
  if (!ours) return std::optional<Fd>();
  if (!single) return absl::InvalidArgumentError("one activation socket is expected");
  int domain = 0;
  int listening = 0;
  socklen_t size = sizeof(int);
  if (getsockopt(kActivationFd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
      getsockopt(kActivationFd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 ||
      domain != AF_UNIX || listening == 0) {
    return absl::InvalidArgumentError("the activation socket is no listening Unix socket");
  }
  // A fresh number: close-on-exec and non-blocking, whatever it was.
  Fd fd(fcntl(kActivationFd, F_DUPFD_CLOEXEC, kActivationFd));
  if (!fd.valid() || fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) return ErrnoStatus(errno, "fcntl");
  close(kActivationFd);
  return std::optional<Fd>(std::move(fd));
}

class Listener::Socket {
 public:
  Socket(Loop& loop, Fd fd) : descriptor_(loop.context(), fd.release()) {}

  bool open() const { return descriptor_.is_open(); }
  void Close() {
    asio::error_code ignored;
    descriptor_.close(ignored);
  }
  Task<void> WaitReadable() {
    asio::error_code ignored;
    co_await descriptor_.async_wait(asio::posix::stream_descriptor::wait_read,
                                    asio::redirect_error(asio::use_awaitable, ignored));
  }
  // Invalid with errno set: none is waiting, or this one could not be taken.
  Fd Accept() {
    Fd fd(accept4(descriptor_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof kSendBuffer);
    return fd;
  }

 private:
  asio::posix::stream_descriptor descriptor_;
};

Listener::Listener(Loop& loop, Clock& clock, Fd socket, std::string path, Accepted accepted)
    : loop_(loop),
      clock_(clock),
      socket_(std::make_shared<Socket>(loop, std::move(socket))),
      path_(std::move(path)),
      inode_(InodeOf(path_)),
      mode_(ModeOf(path_)),
      accepted_(std::move(accepted)),
      tasks_(loop) {}

Listener::~Listener() { Stop(); }

void Listener::Start() {
  tasks_.Spawn("accept", Run(socket_, &clock_, accepted_));
  if (inode_ == 0) return;
  const std::string folder = std::filesystem::path(path_).parent_path();
  absl::StatusOr<std::shared_ptr<FolderWatch>> watch = FolderWatch::Open(loop_, folder);
  if (!watch.ok()) {
    return LogWarning("nobody sees to it that " + path_ +
                      " stays: " + std::string(watch.status().message()));
  }
  folder_ = *std::move(watch);
  tasks_.Spawn("guard the socket", Guard(this, folder_));
}

Task<void> Listener::Guard(Listener* self, std::shared_ptr<FolderWatch> folder) {
  while (folder->open()) {
    if (InodeOf(self->path_) != self->inode_) self->Restore();
    co_await FolderWatch::Changed(folder);
  }
  // Not stopped: the folder itself is gone.
  if (self->socket_->open()) LogError("nobody can reach this daemon: there is no " + self->path_);
}

void Listener::Restore() {
  const bool free = InodeOf(path_) == 0;
  absl::StatusOr<Fd> fresh = absl::AlreadyExistsError("there is something else at " + path_);
  if (free) fresh = ListenUnix(path_, mode_);
  if (!fresh.ok()) {
    if (std::exchange(unreachable_, true)) return;
    return LogError("nobody can reach this daemon: " + std::string(fresh.status().message()));
  }
  LogWarning("the socket " + path_ + " was taken away and is made again");
  unreachable_ = false;
  inode_ = InodeOf(path_);
  const auto old = std::exchange(socket_, std::make_shared<Socket>(loop_, *std::move(fresh)));
  tasks_.Spawn("accept", Run(socket_, &clock_, accepted_));
  old->Close();
}

void Listener::Stop() {
  if (!socket_->open()) return;
  if (folder_ != nullptr) folder_->Close();
  socket_->Close();
  if (inode_ != 0 && InodeOf(path_) == inode_) unlink(path_.c_str());
}

Task<void> Listener::Run(std::shared_ptr<Socket> socket, Clock* clock, Accepted accepted) {
  while (socket->open()) {
    co_await socket->WaitReadable();
    for (int i = 0; i < kAcceptsPerTurn && socket->open(); ++i) {
      Fd connection = socket->Accept();
      const int error = errno;
      if (connection.valid()) {
        accepted(std::move(connection));
        continue;
      }
      if (error == ECONNABORTED || error == EINTR) continue;
      if (error == EAGAIN) break;
      LogWarning("a connection was not accepted: " + std::string(strerror(error)));
      co_await clock->SleepFor(kPause);
    }
  }
}

}  // namespace hermes
