#pragma once

// Brings our stdin to a command: bytes in order, each once, over any number of connections, and the
// end of file. One thread of its own from construction to destruction.

#include <thread>

#include "client/connection.h"
#include "client/follow.h"

namespace hermes::client {

class StdinPump {
 public:
  // `fresh`: the command is new and has taken nothing; otherwise the daemon is asked for the
  // offset. Begins once the follower knows the command's name.
  StdinPump(Connection& connection, Follower& follower, bool fresh);
  // Ends the reading. A write that is under way is waited for: shut the connection down before.
  ~StdinPump();
  StdinPump(const StdinPump&) = delete;
  StdinPump& operator=(const StdinPump&) = delete;

 private:
  void Run();
  // False: the command takes no more.
  bool Send(v1::WriteStdinRequest& request);
  bool WaitReadable() const;

  Connection& connection_;
  Follower& follower_;
  const bool fresh_;
  int stop_fd_;
  std::thread thread_;
};

}  // namespace hermes::client
