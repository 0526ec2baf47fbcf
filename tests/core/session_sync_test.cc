// What a session with mounts does for its commands, syncs and cleanup.

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "sync/tar_writer.h"
#include "tests/core/session_sync_fixture.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using sync::Slurp;
using sync::Spit;

TEST_F(SessionSyncTest, ACommandSeesWhatWasChangedBeforeItAndNothingIsAskedWhenNothingWas) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  EXPECT_EQ(Slurp(dir_ + "/far/a"), "1");
  const int applies = far_->applies;
  ASSERT_TRUE(Run("run-2").error.ok());
  EXPECT_EQ(far_->applies, applies);
  Spit(dir_ + "/host/a", "2");
  ASSERT_TRUE(Run("run-3").error.ok());
  EXPECT_EQ(Slurp(dir_ + "/far/a"), "2");
  EXPECT_EQ(Rows().size(), 0u) << "a push with nothing to tell leaves no row";
}

TEST_F(SessionSyncTest, SkipSendsNothingAndForceLooksAtEverything) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run("run-1", SyncBefore::kSkip).error.ok());
  EXPECT_FALSE(fs::exists(dir_ + "/far/a"));
  ASSERT_TRUE(Run("run-2", SyncBefore::kForce).error.ok());
  EXPECT_EQ(Slurp(dir_ + "/far/a"), "1");
}

TEST_F(SessionSyncTest, AFailedPushStartsNothingAndTheRequestIdServesTheRetry) {
  FailPushes();
  Create();
  Spit(dir_ + "/host/a", "1");
  const Ran failed = Run();
  EXPECT_EQ(ReasonOf(failed.error), Reason::k_SYNC_FAILED) << failed.error;
  EXPECT_EQ(host_.place.commands.size(), 0u);
  EXPECT_EQ(host_.disk.commands.size(), 0u);
  LetPushes();
  const Ran retried = Run();
  ASSERT_TRUE(retried.error.ok()) << retried.error;
  EXPECT_EQ(retried.out, "x");
  EXPECT_EQ(retried.end->run_id, "run-1");
}

TEST_F(SessionSyncTest, FilesThatFailAreNamedEscapedAndCounted) {
  Create();
  const std::string name =
      "/\x1b[31m" + std::string(248, 'x');  // has no room for the far end's suffix
  for (int i = 0; i < 8; ++i) Spit(dir_ + "/host/d" + std::to_string(i) + name, "1");
  const Ran failed = Run();
  ASSERT_EQ(ReasonOf(failed.error), Reason::k_SYNC_FAILED) << failed.error;
  const Metadata metadata = MetadataOf(failed.error);
  EXPECT_EQ(metadata.at("failed"), "8");
  EXPECT_NE(failed.error.message().find("d0/\\x1b[31m"), std::string::npos) << failed.error;
  EXPECT_EQ(failed.error.message().find('\x1b'), std::string::npos);
  EXPECT_EQ(failed.error.message().find("d7"), std::string::npos) << "bounded";
  ASSERT_EQ(Rows().size(), 1u);
  EXPECT_EQ(metadata.at("sync"), "sessions/s/syncs/" + Rows()[0].id);
  EXPECT_EQ(Rows()[0].state, SyncState::kFailed);
  EXPECT_EQ(daemon_->Await(daemon_->table.FindSync("s", Rows()[0].id))->entries.size(), 8u);
}

TEST_F(SessionSyncTest, AFileThatBecameALinkKeepsACommandFromStartingAndSaysWhatToDo) {
  Create();
  Spit(dir_ + "/host/a", "1");
  EXPECT_EQ(Run().out, "x");
  std::filesystem::remove(dir_ + "/host/a");
  std::filesystem::create_symlink("/etc/hostname", dir_ + "/host/a");
  for (const char* run : {"run-2", "run-3"}) {
    const Ran refused = Run(run);
    ASSERT_EQ(ReasonOf(refused.error), Reason::k_SYNC_FAILED) << refused.error;
    EXPECT_NE(refused.error.message().find("a (on the host: link"), std::string::npos);
    EXPECT_NE(refused.error.message().find("or remove it"), std::string::npos);
  }
  EXPECT_EQ(Rows().size(), 1u) << "the same trouble is told once";
  const SyncInfo told = Sync({.kind = SyncKind::kPush});
  EXPECT_EQ(told.state, SyncState::kFailed);
  EXPECT_EQ(told.report.counts.failed, 1u);
  std::filesystem::remove(dir_ + "/host/a");
  EXPECT_EQ(Run("run-4").out, "x");
}

TEST_F(SessionSyncTest, AConflictIsToldToEachCommandAndByTheSessionUntilASyncBack) {
  Create();
  Spit(dir_ + "/host/a", "1");
  EXPECT_EQ(Run().out, "x");
  EXPECT_EQ(last_warning_, "");
  Spit(dir_ + "/far/a", "theirs");
  Spit(dir_ + "/host/a", "ours");
  for (const char* run : {"run-2", "run-3"}) {
    last_warning_ = "";
    EXPECT_EQ(Run(run).out, "x") << "it is no error";
    EXPECT_NE(last_warning_.find("of 1 files: a"), std::string::npos) << last_warning_;
  }
  EXPECT_TRUE(Has("SYNC_CONFLICT"));
  EXPECT_EQ(Slurp(dir_ + "/far/a"), "theirs");
  EXPECT_EQ(Sync({.kind = SyncKind::kPull}).state, SyncState::kDone);
  EXPECT_FALSE(Has("SYNC_CONFLICT"));
  last_warning_ = "";
  EXPECT_EQ(Run("run-4").out, "x");
  EXPECT_EQ(last_warning_, "");
}

TEST_F(SessionSyncTest, RunStaleStartsOnWhatIsThereAndSaysSo) {
  FailPushes();
  Create(OnSyncError::kRunStale);
  Spit(dir_ + "/host/a", "1");
  EXPECT_EQ(Run().out, "x");
  EXPECT_TRUE(Has("SYNC_STALE"));
  Restart();
  EXPECT_TRUE(Has("SYNC_STALE"));
  hooks_.before = nullptr;
  EXPECT_EQ(Run("run-2").out, "x");
  EXPECT_FALSE(Has("SYNC_STALE"));
  EXPECT_EQ(Slurp(dir_ + "/far/a"), "1");
}

TEST_F(SessionSyncTest, APushByHandOrByAnotherSessionEndsTheStaleness) {
  FailPushes();
  Create(OnSyncError::kRunStale);
  Spit(dir_ + "/host/a", "1");
  EXPECT_EQ(Run().out, "x");
  ASSERT_TRUE(Has("SYNC_STALE"));
  LetPushes();
  EXPECT_EQ(Sync({.kind = SyncKind::kPush}).state, SyncState::kDone);
  EXPECT_FALSE(Has("SYNC_STALE"));
  FailPushes();
  Spit(dir_ + "/host/b", "2");
  EXPECT_EQ(Run("run-2").out, "x");
  ASSERT_TRUE(Has("SYNC_STALE"));
  LetPushes();
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(Request("t"))).ok());
  ASSERT_TRUE(Run(MakeStart("t", "out x", "t-1")).error.ok());
  EXPECT_EQ(Slurp(dir_ + "/far/b"), "2");
  EXPECT_EQ(Run("run-3").out, "x");
  EXPECT_FALSE(Has("SYNC_STALE")) << "nothing was left to send";
}

TEST_F(SessionSyncTest, TheSameFailedPushIsOneRowAndEachErrorNamesIt) {
  Create();
  const std::string name = dir_ + "/host/" + std::string(253, 'x');  // no room for a suffix
  Spit(name, "1");
  for (const char* id : {"run-1", "run-2", "run-3"}) {
    const absl::Status failed = Run(id).error;
    ASSERT_EQ(Rows().size(), 1u);
    EXPECT_EQ(MetadataOf(failed)["sync"], "sessions/s/syncs/" + Rows()[0].id);
  }
  fs::remove(name);
  ASSERT_TRUE(Run("run-4").error.ok());
  Spit(name, "1");
  EXPECT_FALSE(Run("run-5").error.ok());
  EXPECT_EQ(Rows().size(), 2u) << "there were pushes without it";
  full_at_ = "PutSync";
  Spit(name + "y", "1");
  Spit(dir_ + "/host/" + std::string(254, 'z'), "1");
  const absl::Status untold = Run("run-6").error;
  EXPECT_EQ(ReasonOf(untold), Reason::k_SYNC_FAILED);
  EXPECT_EQ(MetadataOf(untold).count("sync"), 0u) << "there is no such row";
}

TEST_F(SessionSyncTest, AHostRootThatIsGoneIsAFailedSyncAndNoBadRequest) {
  fs::create_directories(dir_ + "/gone/root");
  CreateSession request = Request("s");
  request.sync.mounts[0].host_root = dir_ + "/gone/root";
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(std::move(request))).ok());
  fs::remove_all(dir_ + "/gone");
  const absl::Status failed = Run().error;
  EXPECT_EQ(ReasonOf(failed), Reason::k_SYNC_FAILED) << failed;
  EXPECT_NE(failed.message().find("/gone"), std::string::npos) << failed;
}

TEST_F(SessionSyncTest, TheEndOfASyncThatCannotBeStoredIsToldAndStoredLater) {
  Create();
  Spit(dir_ + "/host/a", "1");
  full_at_ = "PutSync";
  const StartSync push{.kind = SyncKind::kPush, .request_id = "r", .digest = "d"};
  const SyncInfo ended = Sync(push);
  EXPECT_EQ(ended.state, SyncState::kDone);
  EXPECT_EQ(host_.disk.syncs[0].info.state, SyncState::kRunning);
  EXPECT_EQ(Sync(push).id, ended.id) << "a retry ends, too";
  EXPECT_EQ(Rows()[0].state, SyncState::kDone);
  full_at_ = nullptr;
  daemon_->Pass(seconds(2));
  EXPECT_EQ(host_.disk.syncs[0].info.state, SyncState::kDone);
  EXPECT_EQ(host_.disk.syncs[0].entries.size(), 1u);
}

TEST_F(SessionSyncTest, SyncsThatWaitForThePlaceCountAndEndWithTheirWish) {
  Create();
  Restart();
  host_.place.silent = true;
  std::vector<std::shared_ptr<SyncJob>> jobs;
  for (size_t i = 0; i < kMaxRunningSyncs; ++i) {
    auto job = daemon_->Await(daemon_->table.Sync(
        {.session_id = "s", .request_id = "r" + std::to_string(i), .digest = "d"}));
    ASSERT_TRUE(job.ok()) << job.status();
    jobs.push_back(*job);
  }
  const auto ask = [this](const std::string& id) {
    return daemon_->Await(
        daemon_->table.Sync({.session_id = "s", .request_id = id, .digest = "d"}));
  };
  EXPECT_EQ(ReasonOf(ask("one more").status()), Reason::k_QUOTA_COMMANDS);
  auto retry = ask("r3");
  ASSERT_TRUE(retry.ok()) << retry.status();
  EXPECT_EQ(*retry, jobs[3]);
  jobs[3]->AddWatcher();
  jobs[3]->RemoveWatcher();
  ASSERT_TRUE(daemon_->RunUntil([&] { return jobs[3]->ended(); }, seconds(1)));
  EXPECT_EQ(jobs[3]->info().state, SyncState::kInterrupted);
  EXPECT_TRUE(ask("one more").ok());
}

TEST_F(SessionSyncTest, PushesBeforeCommandsLeaveRoomForSyncs) {
  Create();
  Spit(dir_ + "/host/a", "1");
  hooks_.before = [](std::string_view) { return Error(Reason::k_BACKEND_UNREACHABLE, "away"); };
  for (size_t i = 0; i < kMaxRunningSyncs; ++i)
    ASSERT_TRUE(daemon_->Start("s", "out x", "run-" + std::to_string(i)).ok());
  EXPECT_TRUE(daemon_->Await(daemon_->table.Sync({.session_id = "s"})).ok());
}

TEST_F(SessionSyncTest, APullThatWasInterruptedAfterOneMountHadLandedCanBeTakenBack) {
  fs::create_directories(dir_ + "/host2");
  CreateSession request = Request("s");
  request.sync.mounts.push_back(
      {.id = "n", .host_root = dir_ + "/host2", .remote_root = dir_ + "/far2"});
  std::vector<sync::DirTree*> trees;
  host_.place.new_tree = [&] {
    auto tree = std::make_unique<sync::DirTree>(dir_ + (trees.empty() ? "/far" : "/far2"));
    trees.push_back(tree.get());
    return tree;
  };
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(std::move(request))).ok());
  Spit(dir_ + "/host/a", "1");
  Spit(dir_ + "/host2/b", "1");
  ASSERT_TRUE(Run().error.ok());
  Spit(dir_ + "/far/a", "2");
  Spit(dir_ + "/far2/b", "2");
  auto job = daemon_->Await(daemon_->table.Sync({.session_id = "s", .kind = SyncKind::kPull}));
  ASSERT_TRUE(job.ok());
  trees[1]->hooks.within_fetch = [job = *job] {
    job->wish()->Withdraw();
    return []() -> Task<void> { co_return; }();
  };
  LiveUntil([&] { return (*job)->ended(); });
  ASSERT_EQ((*job)->info().state, SyncState::kInterrupted);
  ASSERT_EQ(Slurp(dir_ + "/host/a"), "2");
  EXPECT_TRUE((*job)->info().report.revertible);
  EXPECT_EQ(Sync({.kind = SyncKind::kRevert, .of_sync = (*job)->info().id}).state,
            SyncState::kDone);
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "1");
}

TEST_F(SessionSyncTest, EntriesOfASyncAreKeptWithinABudgetAndAllCounted) {
  SyncJob job(daemon_->loop, SyncInfo{});
  const sync::SyncEntry entry{.path = std::string(4096, 'x')};
  const size_t fit = kMaxSyncEntryBytes / 4096;
  for (size_t i = 0; i < fit + 10; ++i) job.OnEntry(entry);
  job.OnEntry({.path = "short"});
  EXPECT_EQ(job.entries().size(), fit);
  EXPECT_EQ(job.info().entries_total, fit + 11);
}

TEST_F(SessionSyncTest, TheSamePushConflictIsToldOnce) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  Spit(dir_ + "/far/a", "theirs");
  Spit(dir_ + "/host/a", "ours");
  EXPECT_EQ(Run("run-2").out, "x") << "a conflict keeps no command";
  ASSERT_TRUE(Run("run-3").error.ok());
  ASSERT_EQ(Rows().size(), 1u);
  EXPECT_EQ(Rows()[0].report.counts.conflicts, 1u);
  EXPECT_EQ(Slurp(dir_ + "/far/a"), "theirs");
}

TEST_F(SessionSyncTest, AKillDuringThePushIsTheCommandsEnd) {
  Create();
  hooks_.before = [](std::string_view) { return Error(Reason::k_BACKEND_UNREACHABLE, "away"); };
  Spit(dir_ + "/host/a", "1");
  auto started = daemon_->Start("s", "out x", "run-1");
  ASSERT_TRUE(started.ok());
  EXPECT_EQ(started->run->phase(), "syncing");
  auto report = daemon_->Await(started->run->Kill(seconds(1), Cause::kCancelled));
  EXPECT_TRUE(report.ok()) << report.status();
  ASSERT_TRUE(started->run->ended());
  EXPECT_EQ(started->run->info().state, CommandState::kNeverStarted);
  EXPECT_EQ(started->run->info().outcome->cause, Cause::kCancelled);
  EXPECT_EQ(host_.place.commands.size(), 0u);
}

TEST_F(SessionSyncTest, ARestartedDaemonSendsNothingThatIsThere) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  Restart();
  ASSERT_TRUE(Run("run-2").error.ok());
  EXPECT_EQ(far_->sent, std::vector<std::string>());
}

TEST_F(SessionSyncTest, AReplacedPlaceIsNotBelieved) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  fs::remove_all(dir_ + "/far");
  host_.place.KillRunner();
  Restart();
  ASSERT_TRUE(Run("run-2").error.ok());
  EXPECT_EQ(Slurp(dir_ + "/far/a"), "1");
}

TEST_F(SessionSyncTest, ASyncIsAJobAndARow) {
  Create();
  Spit(dir_ + "/host/a", "1");
  const SyncInfo push = Sync({.kind = SyncKind::kPush, .request_id = "r", .digest = "d"});
  EXPECT_EQ(push.state, SyncState::kDone);
  EXPECT_EQ(push.report.counts.applied, 1u);
  EXPECT_EQ(Sync({.kind = SyncKind::kPush, .request_id = "r", .digest = "d"}).id, push.id);
  auto other = daemon_->Await(daemon_->table.Sync(
      {.session_id = "s", .kind = SyncKind::kPush, .request_id = "r", .digest = "e"}));
  EXPECT_EQ(ReasonOf(other.status()), Reason::k_REQUEST_ID_REUSED);
  Restart();
  EXPECT_EQ(Sync({.kind = SyncKind::kPush, .request_id = "r", .digest = "d"}).id, push.id);
  const auto found = daemon_->Await(daemon_->table.FindSync("s", push.id));
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->entries.size(), 1u);
  EXPECT_EQ(found->entries[0].path, "a");
  EXPECT_EQ(ReasonOf(daemon_->Await(daemon_->table.FindSync("s", "y0")).status()),
            Reason::k_SYNC_UNKNOWN);
}

TEST_F(SessionSyncTest, ASessionWithoutMountsHasNoSyncs) {
  ASSERT_TRUE(daemon_->Create("plain").ok());
  auto job = daemon_->Await(daemon_->table.Sync({.session_id = "plain"}));
  EXPECT_EQ(ReasonOf(job.status()), Reason::k_CAPABILITY_MISSING);
  EXPECT_EQ(daemon_->Await(daemon_->table.ListSyncs("plain", "", 9))->size(), 0u);
}

TEST_F(SessionSyncTest, PullPlanAndUndoGoThereAndBack) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  Spit(dir_ + "/far/a", "2");
  const SyncInfo plan = Sync({.kind = SyncKind::kPlan});
  EXPECT_EQ(plan.state, SyncState::kDone);
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "1");
  const SyncInfo pull = Sync({.kind = SyncKind::kPull});
  EXPECT_EQ(pull.state, SyncState::kDone) << pull.message;
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "2");
  EXPECT_TRUE(pull.report.revertible && pull.expire_time);
  Restart();
  const SyncInfo undo = Sync({.kind = SyncKind::kRevert, .of_sync = pull.id});
  EXPECT_EQ(undo.state, SyncState::kDone) << undo.message;
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "1");
  auto wrong = daemon_->Await(
      daemon_->table.Sync({.session_id = "s", .kind = SyncKind::kRevert, .of_sync = plan.id}));
  EXPECT_EQ(ReasonOf(wrong.status()), Reason::k_BAD_FIELD);
  auto gone = daemon_->Await(
      daemon_->table.Sync({.session_id = "s", .kind = SyncKind::kRevert, .of_sync = "y0"}));
  EXPECT_EQ(ReasonOf(gone.status()), Reason::k_SYNC_UNKNOWN);
}

TEST_F(SessionSyncTest, CleanupPullsAfterItsKillsAndUndoWorksAfterIt) {
  Create();
  Spit(dir_ + "/host/a", "1");
  auto started = daemon_->Start("s", "hang");
  ASSERT_TRUE(
      daemon_->RunUntil([&] { return started->run->info().state == CommandState::kRunning; }));
  Spit(dir_ + "/far/a", "2");
  ASSERT_TRUE(Close().ok());
  EXPECT_EQ(told_, "killing killed syncing pulled releasing ");
  EXPECT_EQ(State(), SessionState::kClosed);
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "2");
  const std::string pull = Rows()[0].id;
  Restart();
  const SyncInfo undo = Sync({.kind = SyncKind::kRevert, .of_sync = pull});
  EXPECT_EQ(undo.state, SyncState::kDone) << undo.message;
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "1");
  auto late = daemon_->Await(daemon_->table.Sync({.session_id = "s", .kind = SyncKind::kPull}));
  EXPECT_EQ(ReasonOf(late.status()), Reason::k_SESSION_NOT_READY);
}

TEST_F(SessionSyncTest, WhatACleanupBroughtBackCanBeTakenBackForAsLongAsUndoIsKept) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  Spit(dir_ + "/far/a", "2");
  daemon_->Pass(hours(25));
  ASSERT_TRUE(Close().ok());
  daemon_->Pass(hours(6 * 24));
  ASSERT_TRUE(daemon_->table.Find("s").ok());
  const SyncInfo undo = Sync({.kind = SyncKind::kRevert, .of_sync = Rows()[0].id});
  EXPECT_EQ(undo.state, SyncState::kDone) << undo.message;
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "1");
  daemon_->Pass(hours(8 * 24));
  EXPECT_FALSE(daemon_->table.Find("s").ok());
}

int OpenWatches() {
  int watches = 0;
  std::error_code gone;
  for (const auto& fd : fs::directory_iterator("/proc/self/fd"))
    watches += fs::read_symlink(fd, gone) == "anon_inode:inotify" ? 1 : 0;
  return watches;
}

TEST_F(SessionSyncTest, AClosedSessionHoldsNothingOfTheHostOpen) {
  const int before = OpenWatches();
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  EXPECT_EQ(OpenWatches(), before + 1);
  Spit(dir_ + "/far/a", "2");
  ASSERT_TRUE(Close().ok());
  EXPECT_EQ(OpenWatches(), before);
  EXPECT_EQ(Sync({.kind = SyncKind::kRevert, .of_sync = Rows()[0].id}).state, SyncState::kDone);
  EXPECT_EQ(OpenWatches(), before);
}

TEST_F(SessionSyncTest, CleanupThatCannotPullKeepsTheSessionUntilItCanOrIsDiscarded) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  Spit(dir_ + "/far/a", "2");
  far_->hooks.before = [](std::string_view) { return Error(Reason::k_SYNC_FAILED, "no"); };
  EXPECT_EQ(ReasonOf(Close()), Reason::k_PULL_PENDING);
  EXPECT_EQ(State(), SessionState::kReady);
  EXPECT_TRUE(Has("PULL_PENDING"));
  EXPECT_EQ(Run("run-2", SyncBefore::kSkip).out, "x") << "it is as usable as before";
  Restart();
  EXPECT_TRUE(Has("PULL_PENDING"));
  EXPECT_EQ(Sync({.kind = SyncKind::kPull}).state, SyncState::kDone);
  EXPECT_FALSE(Has("PULL_PENDING"));
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "2");
  Spit(dir_ + "/far/a", "3");
  EXPECT_TRUE(Close(true).ok());
  EXPECT_EQ(State(), SessionState::kClosed);
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "2") << "discarded";
}

TEST_F(SessionSyncTest, CleanupOfAPlaceThatIsAwayKeepsTheSessionToo) {
  Create();
  Spit(dir_ + "/far/a", "2");
  host_.place.reachable = false;
  EXPECT_EQ(ReasonOf(Close()), Reason::k_PULL_PENDING);
  EXPECT_EQ(State(), SessionState::kReady);
  host_.place.reachable = true;
  EXPECT_TRUE(Close().ok());
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "2");
}

TEST_F(SessionSyncTest, ASandboxThatLiesIsSuspectUntilASalvageAndItsCleanupNeedsAWord) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  Spit(dir_ + "/far/a", "2");
  far_->hooks.stream = sync::TarHeader({.name = *sync::RelPath::Parse("unasked"), .mode = 0644}) +
                       std::string(sync::TarEnd());
  const SyncInfo pull = Sync({.kind = SyncKind::kPull});
  EXPECT_EQ(pull.reason, "SYNC_FAILED");
  EXPECT_TRUE(Has("SYNC_SUSPECT"));
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "1");
  Restart();
  EXPECT_TRUE(Has("SYNC_SUSPECT"));
  EXPECT_EQ(Run("run-2", SyncBefore::kSkip).out, "x") << "a suspect session still executes";
  EXPECT_EQ(ReasonOf(Close()), Reason::k_PULL_PENDING);
  EXPECT_EQ(Sync({.kind = SyncKind::kPull, .salvage = true}).state, SyncState::kDone);
  EXPECT_FALSE(Has("SYNC_SUSPECT"));
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "2");
  EXPECT_TRUE(Close().ok());
}

TEST_F(SessionSyncTest, CleanupInterruptedAtAnyWriteIsFinishedByTheNextDaemon) {
  for (const char* step : {"PutSession", "AcceptSync", "PutSync"}) {
    for (auto verdict : {MemoryStore::Verdict::kDieBefore, MemoryStore::Verdict::kDieAfter}) {
      SCOPED_TRACE(std::string(step) + (verdict == MemoryStore::Verdict::kDieBefore ? " <" : " >"));
      die_at_ = nullptr;
      Restart();
      Create();
      Spit(dir_ + "/host/a", "1");
      ASSERT_TRUE(Run("run-" + std::to_string(seed_)).error.ok());
      Spit(dir_ + "/far/a", "2");
      die_at_ = step;
      verdict_ = verdict;
      asio::co_spawn(daemon_->loop.executor(), session()->Close({}, nullptr),
                     [](std::exception_ptr, absl::Status) {});
      LiveUntil([this] { return died_; });
      die_at_ = nullptr;
      Restart();
      if (State() != SessionState::kClosed) EXPECT_TRUE(Close().ok());
      EXPECT_EQ(State(), SessionState::kClosed);
      EXPECT_EQ(Slurp(dir_ + "/host/a"), "2");
      for (const SyncInfo& row : Rows()) EXPECT_NE(row.state, SyncState::kRunning);
    }
  }
}

TEST_F(SessionSyncTest, TheReaperPullsAndTriesAgainLaterWhenItCannot) {
  CreateSession request = Request("s");
  request.idle_ttl = minutes(1);
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(std::move(request))).ok());
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  int asked = 0;
  far_->hooks.before = [&asked](std::string_view) {
    ++asked;
    return Error(Reason::k_SYNC_FAILED, "no");
  };
  daemon_->Pass(minutes(2));
  EXPECT_EQ(State(), SessionState::kReady);
  EXPECT_TRUE(Has("PULL_PENDING"));
  const int first = asked;
  EXPECT_GE(first, 1);
  EXPECT_LE(first, 3) << "not once a second";
  far_->hooks.before = nullptr;
  daemon_->Pass(minutes(60));
  EXPECT_EQ(State(), SessionState::kClosed);
}

TEST_F(SessionSyncTest, HostRootsAreCheckedBeforeTheSessionIsAccepted) {
  CreateSession request = Request("s");
  request.sync.mounts.push_back(
      {.id = "bad", .host_root = dir_ + "/none/at/all", .remote_root = "/elsewhere"});
  auto created = daemon_->Await(daemon_->table.Create(std::move(request)));
  EXPECT_EQ(ReasonOf(created.status()), Reason::k_BAD_FIELD);
  EXPECT_EQ(MetadataOf(created.status())["field"], "mounts[1].host_root");
  EXPECT_EQ(MetadataOf(created.status())["mount"], "bad");
  EXPECT_FALSE(daemon_->table.Find("s").ok());
}

TEST_F(SessionSyncTest, SessionsWhoseRootsAreCheckedAtOnceKeepToTheCap) {
  Restart({.max_sessions = 1});
  int made = 0;
  int refused = 0;
  for (const char* id : {"s", "t", "u"}) {
    asio::co_spawn(daemon_->loop.executor(), daemon_->table.Create(Request(id)),
                   [&](std::exception_ptr, auto session) {
                     ++(session.ok() ? made : refused);
                     if (!session.ok())
                       EXPECT_EQ(ReasonOf(session.status()), Reason::k_QUOTA_SESSIONS);
                   });
  }
  daemon_->RunUntil([&] { return made + refused == 3; });
  EXPECT_EQ(made, 1);
}

TEST_F(SessionSyncTest, ASyncThatNobodyWaitsForEndsBeforeItLands) {
  Create();
  Spit(dir_ + "/host/a", "1");
  ASSERT_TRUE(Run().error.ok());
  Spit(dir_ + "/far/a", "2");
  auto job = daemon_->Await(daemon_->table.Sync({.session_id = "s", .kind = SyncKind::kPull}));
  ASSERT_TRUE(job.ok());
  (*job)->AddWatcher();
  (*job)->RemoveWatcher();
  LiveUntil([&] { return (*job)->ended(); });
  EXPECT_EQ((*job)->info().state, SyncState::kInterrupted);
  EXPECT_EQ(Slurp(dir_ + "/host/a"), "1");
}

TEST_F(SessionSyncTest, TwoSessionsOnOneHostRootGetWhatTheOtherBroughtBack) {
  Create();
  CreateSession other = Request("t");
  other.sync.mounts[0].remote_root = dir_ + "/far2";
  const auto first = host_.place.new_tree;
  host_.place.new_tree = [this] { return std::make_unique<sync::DirTree>(dir_ + "/far2"); };
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(std::move(other))).ok());
  ASSERT_TRUE(Run(MakeStart("t", "out x", "t-1")).error.ok());
  host_.place.new_tree = first;
  ASSERT_TRUE(Run().error.ok());
  Spit(dir_ + "/far/new", "of s");
  EXPECT_EQ(Sync({.kind = SyncKind::kPull}).state, SyncState::kDone);
  ASSERT_TRUE(Run(MakeStart("t", "out x", "t-2")).error.ok());
  EXPECT_EQ(Slurp(dir_ + "/far2/new"), "of s");
}

}  // namespace
}  // namespace hermes
