#pragma once

// A private directory that goes away with its owner, and a raw client of a Unix socket.

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <string>

#include "daemon/runtime/fd.h"

namespace hermes {

class Scratch {
 public:
  Scratch() {
    char name[] = "/tmp/hermes-rpc-XXXXXX";
    dir_ = mkdtemp(name);
    chmod(dir_.c_str(), 0711);  // callers of another account must reach the socket
  }
  ~Scratch() { std::filesystem::remove_all(dir_); }
  std::string path(const std::string& name) const { return dir_ + "/" + name; }

 private:
  std::string dir_;
};

// Invalid: nobody answers.
inline Fd ConnectUnix(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) fd.reset();
  return fd;
}

}  // namespace hermes
