#include "backends/runner/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <utility>

namespace hermes::runner {
namespace {

constexpr int kBacklog = 64;
constexpr int64_t kRetryUs = 100'000;  // after accept failed for want of descriptors or memory

bool Address(const std::string& path, sockaddr_un* address) {
  *address = {};
  address->sun_family = AF_UNIX;
  if (path.size() >= sizeof address->sun_path) {
    errno = ENAMETOOLONG;
    return false;
  }
  memcpy(address->sun_path, path.data(), path.size());
  return true;
}

const sockaddr* Plain(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

ucred PeerCredentials(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) peer.uid = ~0U;
  return peer;
}

}  // namespace

bool Listener::Bind() {
  sockaddr_un address;
  if (!Address(path_, &address)) return false;
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  unlink(path_.c_str());
  mode_t before = umask(0177);
  bool bound = socket.valid() && bind(socket.get(), Plain(address), sizeof address) == 0;
  umask(before);
  if (!bound || listen(socket.get(), kBacklog) != 0) return false;
  source_.Open(std::move(socket), EPOLLIN);
  return true;
}

void Listener::Adopt(Fd socket) {
  adopted_ = true;
  SetNonBlocking(socket.get());
  source_.Open(std::move(socket), EPOLLIN);
}

bool Listener::Retire() {
  if (!adopted_) unlink(path_.c_str());
  if (!Accept()) return true;
  while (Accept()) continue;
  if (!adopted_) Bind();
  return false;
}

void Listener::OnReady(Source&, uint32_t) {
  while (Accept()) continue;
  if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS) return;
  source_.Pause();
  retry_.ArmIn(kRetryUs);
}

void Listener::OnTimer(Timer&) { source_.Watch(EPOLLIN); }

bool Listener::Accept() {
  Fd peer(accept4(source_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!peer.valid()) return errno == ECONNABORTED || errno == EINTR;
  if (IsTrustedPeer(peer.get())) owner_.OnPeer(std::move(peer));
  return true;
}

bool IsTrustedPeer(int socket) {
  ucred peer = PeerCredentials(socket);
  return peer.uid == geteuid() || peer.uid == 0;
}

pid_t PeerPid(int socket) { return PeerCredentials(socket).pid; }

Fd ConnectTo(const std::string& path) {
  sockaddr_un address;
  if (!Address(path, &address)) return {};
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.valid() && connect(socket.get(), Plain(address), sizeof address) != 0) socket.Reset();
  return socket;
}

}  // namespace hermes::runner
