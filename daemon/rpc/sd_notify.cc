#include "daemon/rpc/sd_notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// A status is one line.
std::string OneLine(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  return line;
}

}  // namespace

SdNotify SdNotify::FromEnvironment() {
  const char* address = getenv("NOTIFY_SOCKET");
  SdNotify notify(address == nullptr ? "" : address);
  unsetenv("NOTIFY_SOCKET");
  return notify;
}

absl::Status SdNotify::Ready(std::string_view status) const {
  return Send("READY=1\nSTATUS=" + OneLine(status));
}

absl::Status SdNotify::Status(std::string_view status) const {
  return Send("STATUS=" + OneLine(status));
}

absl::Status SdNotify::Stopping() const { return Send("STOPPING=1"); }

absl::Status SdNotify::Send(std::string_view message) const {
  if (address_.empty()) return absl::OkStatus();
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  if ((address_[0] != '/' && address_[0] != '@') || address_.size() >= sizeof(name.sun_path)) {
    return ErrnoStatus(EINVAL, "NOTIFY_SOCKET");
  }
  memcpy(name.sun_path, address_.data(), address_.size());
  if (address_[0] == '@') name.sun_path[0] = '\0';  // an abstract name
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  const Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "socket");
  const ssize_t sent = sendto(fd.get(), message.data(), message.size(), MSG_NOSIGNAL,
                              reinterpret_cast<const sockaddr*>(&name), length);
  if (sent < 0) return ErrnoStatus(errno, "notify the service manager");
  return absl::OkStatus();
}

}  // namespace hermes
