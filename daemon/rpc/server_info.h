#pragma once

// What the daemon says about itself; set once by main.

#include <string>

#include "daemon/rpc/decode.h"
#include "daemon/runtime/clock.h"

namespace hermes {

struct ServerInfo {
  std::string version;
  std::string commit;
  std::string daemon_id;
  WallTime start_time;
  DecodeLimits limits;
};

}  // namespace hermes
