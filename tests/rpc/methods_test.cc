#include "daemon/rpc/methods.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "daemon/runtime/status.h"
#include "hermes/v1/admin.pb.h"
#include "hermes/v1/exec.pb.h"
#include "hermes/v1/session.pb.h"
#include "hermes/v1/sync.pb.h"

namespace hermes {
namespace {

std::set<std::string> MethodsOfTheApi() {
  std::set<std::string> names;
  for (const google::protobuf::FileDescriptor* file :
       {v1::Session::descriptor()->file(), v1::Command::descriptor()->file(),
        v1::SyncJob::descriptor()->file(), v1::InfoRequest::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        names.insert(file->service(i)->method(j)->full_name());
      }
    }
  }
  return names;
}

TEST(MethodsTest, EveryRpcHasExactlyOneRule) {
  std::multiset<std::string> ruled;
  for (const MethodInfo& info : AllMethods()) {
    ruled.insert(std::string(info.service) + "." + std::string(info.name));
  }
  const std::set<std::string> api = MethodsOfTheApi();
  EXPECT_GE(api.size(), 26u);
  EXPECT_EQ(ruled, std::multiset<std::string>(api.begin(), api.end()));
}

TEST(MethodsTest, AnOperatorMayLookCancelCleanUpAndDrainOnly) {
  const std::set<std::string_view> allowed = {
      "GetSession",    "ListSessions", "WatchSessions", "Cleanup",      "Attach",
      "CancelCommand", "WaitCommand",  "GetCommand",    "ListCommands", "ReadOutput",
      "Info",          "Capabilities", "Drain",         "GetSync",      "ListSyncs"};
  for (const MethodInfo& info : AllMethods()) {
    const absl::Status status = CheckRights({.uid = 5, .role = Role::kOperate}, info.method);
    if (allowed.contains(info.name)) {
      EXPECT_TRUE(status.ok()) << info.name;
    } else {
      EXPECT_EQ(ReasonOf(status), Reason::k_ROLE_REQUIRED) << info.name;
    }
    EXPECT_TRUE(CheckRights({.uid = 0, .role = Role::kFull}, info.method).ok()) << info.name;
    EXPECT_EQ(ReasonOf(CheckRights({.uid = 9, .role = Role::kNone}, info.method)),
              Reason::k_NOT_OWNER)
        << info.name;
  }
  EXPECT_EQ(ReasonOf(RequireFull({.uid = 5, .role = Role::kOperate}, "x")),
            Reason::k_ROLE_REQUIRED);
  EXPECT_TRUE(RequireFull({.uid = 5, .role = Role::kFull}, "x").ok());
}

}  // namespace
}  // namespace hermes
