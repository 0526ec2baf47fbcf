#pragma once

// The runner's socket: directory, lock, accepting peers of the same account.

#include <string>

#include "backends/runner/loop.h"

namespace hermes::runner {

class Listener : Source::Handler, Timer::Handler {
 public:
  class Owner {
   public:
    virtual void OnPeer(Fd socket) = 0;

   protected:
    ~Owner() = default;
  };

  Listener(Loop& loop, Owner& owner, std::string path)
      : owner_(owner), path_(std::move(path)), source_(loop, *this), retry_(loop, *this) {}

  bool Bind();            // replaces a stale socket; the caller holds the directory's lock
  void Adopt(Fd socket);  // one that is listening already
  // Before the runner ends: no new peer can come any more. False: one came in time, so stay.
  bool Retire();

 private:
  void OnReady(Source& source, uint32_t events) override;
  void OnTimer(Timer& timer) override;
  bool Accept();

  Owner& owner_;
  std::string path_;
  Source source_;
  Timer retry_;
  bool adopted_ = false;
};

// Whether the process at the other end has our uid, or is root.
bool IsTrustedPeer(int socket);
pid_t PeerPid(int socket);

Fd ConnectTo(const std::string& path);

}  // namespace hermes::runner
