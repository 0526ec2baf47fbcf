#include "daemon/rpc/peers.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

class PeersTest : public ::testing::Test {
 protected:
  Peers Make(Peers::Limits limits = {}) {
    return Peers(AccessRules{.own_uid = getuid(), .full = {}, .operate = {}}, limits);
  }

  // One end of a connection; the other is kept open here.
  Fd Connection() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    far_.emplace_back(ends[1]);
    return Fd(ends[0]);
  }

  static std::string NameOf(const Fd& fd) { return "fd:" + std::to_string(fd.get()); }

  std::vector<Fd> far_;
};

TEST(AccessRulesTest, RootAndTheOwnAccountMayDoEverything) {
  const AccessRules rules{.own_uid = 1000, .full = {1001}, .operate = {1002, 1001}};
  EXPECT_EQ(rules.RoleOf(1000), Role::kFull);
  EXPECT_EQ(rules.RoleOf(0), Role::kFull);
  EXPECT_EQ(rules.RoleOf(1001), Role::kFull);
  EXPECT_EQ(rules.RoleOf(1002), Role::kOperate);
  EXPECT_EQ(rules.RoleOf(1003), Role::kNone);
  EXPECT_EQ(rules.RoleOf(UINT32_MAX), Role::kNone);
}

TEST_F(PeersTest, TheKernelSaysWhoIsThere) {
  Peers peers = Make();
  const absl::StatusOr<Fd> fd = peers.Admit(Connection());
  ASSERT_TRUE(fd.ok()) << fd.status();
  const std::optional<Caller> caller = peers.Find(NameOf(*fd));
  ASSERT_TRUE(caller.has_value());
  EXPECT_EQ(caller->uid, getuid());
  EXPECT_EQ(caller->role, Role::kFull);
}

TEST_F(PeersTest, UnknownPeersAreRefused) {
  Peers peers = Make();
  const absl::StatusOr<Fd> fd = peers.Admit(Connection());
  ASSERT_TRUE(fd.ok());
  for (const std::string& bad :
       {std::string(), std::string("unix:"), std::string("fd:"), std::string("fd:1"),
        NameOf(*fd) + "x", NameOf(*fd) + " ", "fd:-" + std::to_string(fd->get()),
        "ipv4:" + NameOf(*fd), std::string("fd:99999999999999999999")}) {
    EXPECT_FALSE(peers.Find(bad).has_value()) << bad;
  }
}

TEST_F(PeersTest, NumbersAreUsedInRotationAndNoneThatIsOpen) {
  Peers peers = Make({.connections = 100, .per_uid = 100, .first_fd = 900, .end_fd = 904});
  std::vector<Fd> open;
  std::vector<int> numbers;
  const auto admit = [&] {
    absl::StatusOr<Fd> fd = peers.Admit(Connection());
    ASSERT_TRUE(fd.ok()) << fd.status();
    numbers.push_back(fd->get());
    open.push_back(*std::move(fd));
  };
  admit();
  admit();
  open[0].reset();
  admit();
  admit();  // 900 is free again, but it is not its turn
  EXPECT_EQ(numbers, (std::vector<int>{900, 901, 902, 903}));
  admit();
  EXPECT_EQ(numbers.back(), 900);
  EXPECT_EQ(peers.Sweep(), 4u);
  EXPECT_FALSE(peers.Admit(Connection()).ok());
  open[2].reset();
  admit();
  EXPECT_EQ(numbers.back(), 902);
}

TEST_F(PeersTest, AnyNumberOfShortConnectionsComesThrough) {
  Peers peers = Make({.connections = 100, .per_uid = 8, .first_fd = 900, .end_fd = 1000});
  const absl::StatusOr<Fd> stays = peers.Admit(Connection());
  ASSERT_TRUE(stays.ok());
  for (int i = 0; i < 1000; ++i) {
    const absl::StatusOr<Fd> fd = peers.Admit(Connection());
    ASSERT_TRUE(fd.ok()) << i << ": " << fd.status();
    ASSERT_NE(fd->get(), stays->get());
    far_.clear();
  }
  EXPECT_EQ(peers.Sweep(), 1u);
}

TEST_F(PeersTest, AForeignDescriptorInTheRangeIsNeverTakenForAConnection) {
  Peers peers = Make({.connections = 100, .per_uid = 100, .first_fd = 900, .end_fd = 910});
  const Fd foreign(dup2(far_.emplace_back(dup(2)).get(), 900));
  absl::StatusOr<Fd> fd = peers.Admit(Connection());
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(fd->get(), 901);
  EXPECT_FALSE(peers.Find("fd:900").has_value());
  fd->reset();
  const Fd other(dup2(foreign.get(), 901));  // the number now means something else
  EXPECT_EQ(peers.Sweep(), 0u);
  EXPECT_FALSE(peers.Find("fd:901").has_value());
}

TEST_F(PeersTest, ConnectionsAreCappedPerUidAndInTotal) {
  Peers per_uid = Make({.connections = 100, .per_uid = 2});
  absl::StatusOr<Fd> first = per_uid.Admit(Connection());
  absl::StatusOr<Fd> second = per_uid.Admit(Connection());
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(per_uid.Admit(Connection()).status()));
  first->reset();
  EXPECT_TRUE(per_uid.Admit(Connection()).ok());

  Peers total = Make({.connections = 1, .per_uid = 100});
  absl::StatusOr<Fd> only = total.Admit(Connection());
  ASSERT_TRUE(only.ok());
  EXPECT_FALSE(total.Admit(Connection()).ok());
}

}  // namespace
}  // namespace hermes
