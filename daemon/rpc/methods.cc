#include "daemon/rpc/methods.h"

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

absl::Status NoRights(const Caller& caller) {
  return Error(Reason::k_NOT_OWNER,
               "uid " + std::to_string(caller.uid) + " has no rights on this daemon",
               {{"uid", std::to_string(caller.uid)}});
}

}  // namespace

const std::vector<MethodInfo>& AllMethods() {
  static const std::vector<MethodInfo>* const methods = new std::vector<MethodInfo>{
#define X(service, method, role) {Method::k##method, "hermes.v1." #service, #method, Role::role},
#include "daemon/rpc/methods.inc"
#undef X
  };
  return *methods;
}

const MethodInfo& InfoOf(Method method) { return AllMethods()[static_cast<size_t>(method)]; }

absl::Status CheckRights(const Caller& caller, Method method) {
  if (caller.role == Role::kNone) return NoRights(caller);
  if (caller.role >= InfoOf(method).least) return absl::OkStatus();
  return RequireFull(caller, InfoOf(method).name);
}

absl::Status RequireFull(const Caller& caller, std::string_view what) {
  if (caller.role == Role::kNone) return NoRights(caller);
  if (caller.role == Role::kFull) return absl::OkStatus();
  return Error(Reason::k_ROLE_REQUIRED,
               "uid " + std::to_string(caller.uid) + " may look and cancel; " + std::string(what) +
                   " needs full access",
               {{"uid", std::to_string(caller.uid)}, {"method", std::string(what)}});
}

}  // namespace hermes
