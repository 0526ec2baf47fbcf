#pragma once

// The RPCs of this daemon and who may call them. Thread-safe: constant.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "daemon/core/requests.h"

namespace hermes {

enum class Method {
#define X(service, method, role) k##method,
#include "daemon/rpc/methods.inc"
#undef X
};

struct MethodInfo {
  Method method;
  std::string_view service;  // "hermes.v1.ExecService"
  std::string_view name;     // "Execute"
  Role least;
};

// In the order of Method.
const std::vector<MethodInfo>& AllMethods();
const MethodInfo& InfoOf(Method method);

// NOT_OWNER for somebody without any rights, ROLE_REQUIRED for one with too few.
absl::Status CheckRights(const Caller& caller, Method method);
// For what only some requests of a method need.
absl::Status RequireFull(const Caller& caller, std::string_view what);

}  // namespace hermes
