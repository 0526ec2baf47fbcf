#pragma once

// DelayProxy: the network between a client and a port of 127.0.0.1, in one thread of its own: a
// round-trip time, a bandwidth, and the faults of a network on command. It imitates TCP's
// handshake: the far end sees a connection 1.5 round trips after the client asked, the client its
// first byte after 2. No loss, no slow start. All functions may be called from any thread.

#include <chrono>
#include <cstdint>
#include <memory>

namespace hermes {

struct DelayProxyOptions {
  int target_port = 0;
  std::chrono::microseconds rtt{0};
  // Of each direction, shared evenly by all connections in turns of a millisecond; 0: no limit.
  uint64_t bytes_per_second = 0;
};

class DelayProxy {
 public:
  explicit DelayProxy(DelayProxyOptions options);
  ~DelayProxy();  // cuts what is open
  DelayProxy(const DelayProxy&) = delete;
  DelayProxy& operator=(const DelayProxy&) = delete;

  int port() const;

  // A silent network: from the return of Stop on nothing is accepted, read or delivered, and all
  // connections stay, until Resume.
  void Stop();
  void Resume();

  // Resets every connection, both ends. Works while stopped too; new ones are served.
  void Cut();
  // Cut by itself as soon as exactly so many bytes came through downstream, counted from now over
  // all connections; then again after as many more, `times` in all. 0 times: never (any more).
  void CutAfter(uint64_t downstream_bytes, int times = 1);

  // While on, new connections are reset at once: a host that is up and has no server.
  void Refuse(bool on);

  int connections() const;            // accepted so far
  int open_connections() const;       // now
  int cuts() const;                   // made by CutAfter
  uint64_t upstream_bytes() const;    // delivered to the target
  uint64_t downstream_bytes() const;  // delivered to clients

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hermes
