// What a cleanup leaves to decide, and an undo of what it brought back.

#include <fcntl.h>

#include <filesystem>

#include "daemon/runtime/fd.h"
#include "sync/journal.h"
#include "sync/land_place.h"
#include "sync/real_fs.h"
#include "tests/core/session_sync_fixture.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;
using sync::Slurp;
using sync::Spit;

class SessionUndoTest : public SessionSyncTest {};

TEST_F(SessionUndoTest, CleanupKeepsTheSessionWhileDeletionsAreHeldBack) {
  Create();
  const auto host_has = [this](int i) { return fs::exists(dir_ + "/host/" + std::to_string(i)); };
  for (int i = 0; i < 20; ++i) Spit(dir_ + "/host/" + std::to_string(i), "1");
  ASSERT_TRUE(Run().error.ok());
  for (int i = 0; i < 15; ++i) fs::remove(dir_ + "/far/" + std::to_string(i));
  const absl::Status refused = Close();
  EXPECT_EQ(ReasonOf(refused), Reason::k_PULL_PENDING);
  for (const char* word : {"held back: 15", "sync-back --approve-deletes", "cleanup --discard"})
    EXPECT_NE(refused.message().find(word), std::string::npos) << refused;
  EXPECT_EQ(State(), SessionState::kReady);
  EXPECT_TRUE(host_has(0));
  EXPECT_EQ(Sync({.kind = SyncKind::kPull}).report.counts.held, 15u);
  EXPECT_TRUE(Has("PULL_PENDING")) << "a pull that holds them back has settled nothing";
  EXPECT_EQ(Sync({.kind = SyncKind::kPull, .approve_deletes = true}).state, SyncState::kDone);
  EXPECT_FALSE(Has("PULL_PENDING"));
  EXPECT_FALSE(host_has(0));
  EXPECT_TRUE(host_has(15));
  EXPECT_TRUE(Close().ok());
}

TEST_F(SessionUndoTest, AnUndoOfAClosedSessionThatAKillInterruptedIsEndedByTheNextStart) {
  CreateSession request = Request("s");
  request.sync.mounts.push_back(
      {.id = "gone", .host_root = dir_ + "/gone", .remote_root = dir_ + "/far-gone"});
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(std::move(request))).ok());
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  Spit(dir_ + "/far/a", "2");
  ASSERT_TRUE(Close().ok());
  const std::string pull = Rows()[0].id;
  {
    sync::RealFs files;
    const Fd root(open((dir_ + "/host").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto landed = sync::Place(files, root.get()).Open(pull + ".0");
    ASSERT_TRUE(landed.ok()) << landed.status();
    auto journal = sync::Journal::Open(files, landed->dir.get());
    ASSERT_TRUE(journal.ok() && journal->BeginRevert({0}).ok()) << journal.status();
  }
  fs::remove_all(dir_ + "/gone");
  Restart();
  LiveUntil([&] { return Slurp(dir_ + "/host/a") == "1"; });
  EXPECT_FALSE(fs::exists(dir_ + "/gone")) << "nobody needs it any more";
  const SyncInfo undo = Sync({.kind = SyncKind::kRevert, .of_sync = pull});
  EXPECT_EQ(undo.state, SyncState::kDone) << undo.message;
}

}  // namespace
}  // namespace hermes
