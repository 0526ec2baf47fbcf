// The lock of a root's own staging directory: what daemons that share no lock file have in common.
// Two of them are two SyncLocks here, as each opens the directory anew.

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "daemon/runtime/status.h"
#include "sync/land_place.h"
#include "sync/lock.h"
#include "tests/sync/land_stand.h"

namespace hermes::sync {
namespace {

class LockPlaceTest : public ::testing::Test {
 protected:
  LockRequest Request(const std::string& file = "") const {
    return {.file = file, .roots = {{1, 1}}, .dir = root_.fd()};
  }
  void Stage() const { std::filesystem::create_directory(root_.Path(std::string(kPlaceName))); }
  std::optional<Reason> ReasonOfOther(const LockRequest& request) {
    return ReasonOf(other_.TryAcquire(request).status());
  }

  RealRoot root_;
  SyncLocks one_;
  SyncLocks other_;
};

TEST_F(LockPlaceTest, AnotherDaemonIsRefusedUntilTheFirstIsDone) {
  Stage();
  {
    const auto held = one_.TryAcquire(Request());
    ASSERT_TRUE(held.ok()) << held.status();
    EXPECT_EQ(ReasonOfOther(Request()), Reason::k_SYNC_HELD);
  }
  EXPECT_EQ(ReasonOfOther(Request()), std::nullopt);
}

TEST_F(LockPlaceTest, WhoIsRefusedByTheRootHoldsNothingElse) {
  Stage();
  const std::string file = root_.Path(".sync.lock");
  const auto held = one_.TryAcquire(Request());
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(ReasonOfOther(Request(file)), Reason::k_SYNC_HELD);
  EXPECT_TRUE(one_.TryAcquire({.file = file, .roots = {{1, 2}}}).ok());
}

TEST_F(LockPlaceTest, ARootWhereNothingWasStagedHasNothingToLock) {
  const auto held = one_.TryAcquire(Request());
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(ReasonOfOther(Request()), std::nullopt);
  EXPECT_FALSE(std::filesystem::exists(root_.Path(std::string(kPlaceName))));
}

}  // namespace
}  // namespace hermes::sync
