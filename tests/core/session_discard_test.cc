// A cleanup that is told to discard while it pulls.

#include <optional>

#include <asio/co_spawn.hpp>

#include "daemon/runtime/event.h"
#include "daemon/runtime/wish.h"
#include "sync/tar_writer.h"
#include "tests/core/session_sync_fixture.h"

namespace hermes {
namespace {

using sync::Slurp;
using sync::Spit;

TEST_F(SessionSyncTest, DiscardEndsTheCleanupsPullFromAPlaceThatNeverEndsIt) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  Spit(dir_ + "/far/a", "2");
  bool begun = false;
  far_->hooks.stream = sync::TarHeader({.name = *sync::RelPath::Parse("a"), .size = 1});
  far_->hooks.behind_stream = [&](WishPtr wish) -> Task<void> {
    begun = true;
    Event heard(daemon_->loop);
    const Wish::Ear ear(wish, [&heard] { heard.NotifyAll(); });
    while (!IsWithdrawn(wish)) co_await heard.Wait();
  };
  std::optional<absl::Status> first;
  asio::co_spawn(daemon_->loop.executor(), session()->Close({}, nullptr),
                 [&](std::exception_ptr, absl::Status closed) { first = std::move(closed); });
  LiveUntil([&] { return begun; });
  EXPECT_FALSE(first.has_value());
  EXPECT_TRUE(Close(true).ok());
  LiveUntil([&] { return first.has_value(); });
  EXPECT_TRUE(first->ok()) << *first;
  EXPECT_EQ(State(), SessionState::kClosed);
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "1");
  EXPECT_EQ(Rows()[0].state, SyncState::kInterrupted);
}

}  // namespace
}  // namespace hermes
