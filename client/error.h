#pragma once

// Failures of calls, as absl::Status with the wire's google.rpc.ErrorInfo as a payload. No gRPC
// here: the connection passes code, message and trailer as plain values. Pure and thread-safe.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "hermes/v1/error.pb.h"

namespace hermes::client {

// `details` is the value of `grpc-status-details-bin`; unreadable details are as good as none.
absl::Status FromWire(int code, std::string_view message, std::string_view details);

// A failure found by hermesctl itself, with what to do next.
absl::Status OwnError(absl::StatusCode code, std::string_view message, std::string_view next);

// The ErrorInfo of a status; empty fields when there is none.
v1::ErrorInfo InfoOf(const absl::Status& status);

// The daemon itself said no, rather than the transport.
bool IsFromDaemon(const absl::Status& status);

// Contact was lost, or the daemon asks to come back: the same request may be sent again when it is
// idempotent. An answer of the daemon is final, unless it is UNAVAILABLE
// for another reason than a place that it cannot reach.
bool IsLostContact(const absl::Status& status);

// Contact was lost, or could not be made: whoever follows something goes on trying for a while.
bool IsOutage(const absl::Status& status);

// "hermesctl: <message> [REASON]\n" and, where known, a second line with the next step. Safe to
// print.
std::string Describe(const absl::Status& status);

}  // namespace hermes::client

#define CLIENT_CONCAT_INNER(a, b) a##b
#define CLIENT_CONCAT(a, b) CLIENT_CONCAT_INNER(a, b)

// CLIENT_TRY(auto x, expr): x is the value, or the function returns the status.
#define CLIENT_TRY(lhs, expr) CLIENT_TRY_IMPL(CLIENT_CONCAT(so_, __LINE__), lhs, expr)
#define CLIENT_TRY_IMPL(tmp, lhs, expr)          \
  auto tmp = (expr);                             \
  if (!tmp.ok()) return std::move(tmp).status(); \
  lhs = *std::move(tmp)
