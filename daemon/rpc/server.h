#pragma once

// RpcServer: the daemon's API on its Unix socket: connections and who is behind them, the services,
// health, reflection, drain. Owned by main; loop thread, except that it may be made before the loop
// runs. Destroy it on the loop thread or after the loop, after Drain and Join.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/rpc/disconnect.h"
#include "daemon/rpc/handlers.h"
#include "daemon/rpc/peers.h"
#include "daemon/rpc/server_info.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/task.h"

namespace hermes {

// From Drain to the end of this object. After kCallLimit calls that are still open are cut off.
inline constexpr Duration kDrainLimit = std::chrono::seconds(10);
inline constexpr Duration kCallLimit = std::chrono::seconds(3);
// Then gRPC's own streams, which know no end, are cut off: watches of health, told NOT_SERVING.
inline constexpr Duration kWatchLimit = std::chrono::milliseconds(200);

// A peer that is silent for kKeepalive is asked for a sign of life, and let go of when none comes
// within kKeepaliveTimeout.
inline constexpr Duration kKeepalive = std::chrono::seconds(60);
inline constexpr Duration kKeepaliveTimeout = std::chrono::seconds(20);

struct RpcOptions {
  std::string socket_path;       // made and removed by us; empty with `activation`
  std::optional<Fd> activation;  // a socket that somebody else listens on for us
  AccessRules access;
  Peers::Limits peers;
  ServerInfo info;
  std::function<void()> on_drain;  // AdminService.Drain was called: what SIGTERM would do
  Duration keepalive = kKeepalive;
  Duration keepalive_timeout = kKeepaliveTimeout;
  Duration call_limit = kCallLimit;
  Duration disconnect_grace = kDisconnectGrace;
  std::function<void()> on_stuck;  // this object lives kDrainLimit after Drain; default: _exit
};

class RpcServer {
 public:
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(RpcDeps deps, RpcOptions options);
  ~RpcServer();

  // Refuses new calls, tells open ones to attach again later, returns when none is left. Commands
  // go on. Idempotent. Then SessionTable::Drain, then Join.
  Task<void> Drain();

  // Returns when no handler runs any more.
  Task<void> Join();

  // For tests and figures: the longest reaction since the last call, and open connections.
  std::chrono::nanoseconds TakeMaxReaction();
  size_t Connections();
  size_t OpenCalls() const;

 private:
  class Impl;
  explicit RpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hermes
