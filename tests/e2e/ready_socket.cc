#include "tests/e2e/ready_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include <gtest/gtest.h>

namespace hermes {
namespace {

constexpr int kReadyLimitMs = 30'000;

}  // namespace

ReadySocket::ReadySocket(std::string path)
    : path_(std::move(path)), fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
  ::unlink(path_.c_str());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path_.c_str(), sizeof(address.sun_path) - 1);
  EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << path_;
  EXPECT_EQ(::chmod(path_.c_str(), 0666), 0);
}

ReadySocket::~ReadySocket() { ::close(fd_); }

bool ReadySocket::Await() {
  pollfd wait{fd_, POLLIN, 0};
  while (::poll(&wait, 1, kReadyLimitMs) == 1) {
    char text[512];
    const ssize_t got = ::recv(fd_, text, sizeof(text), 0);
    if (got > 0 && std::string(text, static_cast<size_t>(got)).find("READY=1") != std::string::npos)
      return true;
  }
  return false;
}

}  // namespace hermes
