#pragma once

// ReadySocket: the service manager's end of sd_notify, for a test that starts a daemon. One thread.

#include <string>

namespace hermes {

class ReadySocket {
 public:
  explicit ReadySocket(std::string path);  // anybody may write to it
  ~ReadySocket();
  ReadySocket(const ReadySocket&) = delete;
  ReadySocket& operator=(const ReadySocket&) = delete;

  // For the daemon's environment.
  std::string variable() const { return "NOTIFY_SOCKET=" + path_; }
  // False: READY=1 did not come in half a minute.
  bool Await();

 private:
  const std::string path_;
  int fd_;
};

}  // namespace hermes
