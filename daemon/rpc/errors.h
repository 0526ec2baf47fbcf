#pragma once

// How a failed RPC looks on the wire: code, text and the details of api's error model. Thread-safe:
// pure, but for the log.

#include <string>

#include "absl/status/status.h"

namespace hermes {

inline constexpr size_t kMaxErrorText = 1024;  // longer texts are cut: trailers are limited
inline constexpr size_t kMaxErrorValue = 256;  // of one metadata value
inline constexpr char kErrorDomain[] = "hermes.v1";

struct WireError {
  int code = 0;         // as gRPC counts
  std::string message;  // UTF-8
  std::string details;  // a serialised google.rpc.Status
};

// Every status but OK and CANCELLED (a caller who left needs no reason) gets one ErrorInfo. Without
// a reason of the catalogue it is logged and becomes INTERNAL / BUG. Its "next" is the catalogue's,
// unless the status has one of its own.
WireError ToWire(const absl::Status& status);

}  // namespace hermes
