#pragma once

// A RemoteTree where nothing can be asked: every verb is CAPABILITY_MISSING.

#include <memory>

#include "daemon/runtime/status.h"
#include "sync/remote_tree.h"

namespace hermes {

class NoTree : public sync::RemoteTree {
 public:
  Task<absl::StatusOr<sync::RemoteLook>> Look(sync::RemoteRoot,
                                              std::optional<sync::Digest>) override {
    co_return Missing();
  }
  Task<absl::StatusOr<sync::RemoteApplied>> Apply(sync::RemoteApply) override {
    co_return Missing();
  }
  Task<absl::Status> Fetch(sync::RemoteRoot, Wanted, TakeBytes) override { co_return Missing(); }

 private:
  static absl::Status Missing() {
    return Error(Reason::k_CAPABILITY_MISSING, "there are no files here");
  }
};

}  // namespace hermes
