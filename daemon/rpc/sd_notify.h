#pragma once

// Tells the service manager how the daemon is: READY, STATUS, STOPPING. One datagram each to the
// socket in NOTIFY_SOCKET. Any thread; never blocks.

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace hermes {

class SdNotify {
 public:
  // `address`: the value of NOTIFY_SOCKET; empty: nobody listens, every call does nothing.
  explicit SdNotify(std::string address) : address_(std::move(address)) {}

  // Takes NOTIFY_SOCKET out of the environment, so that no command inherits it.
  static SdNotify FromEnvironment();

  absl::Status Ready(std::string_view status) const;
  absl::Status Status(std::string_view status) const;
  absl::Status Stopping() const;

 private:
  absl::Status Send(std::string_view message) const;
  std::string address_;
};

}  // namespace hermes
