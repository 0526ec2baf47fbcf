// Sessions with mounts: a whole core over real files, with a directory of this host as the far end.

#include "daemon/core/session_sync.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include <gtest/gtest.h>

#include "daemon/runtime/status.h"
#include "sync/tar_writer.h"
#include "tests/fakes/fake_daemon.h"
#include "tests/fakes/temp_dir.h"
#include "tests/sync/dir_tree.h"
#include "tests/sync/process.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;
using std::chrono::minutes;
using std::chrono::seconds;
using sync::Slurp;
using sync::Spit;

class SessionSyncTest : public testing::Test {
 protected:
  SessionSyncTest() : dir_(fs::canonical(temp_.path()).string()) {
    for (const char* name : {"/host", "/far", "/bases", "/output"})
      fs::create_directory(dir_ + name);
    host_.spool_dir = dir_ + "/output";
    host_.base_dir = dir_ + "/bases";
    host_.place.new_tree = [this] {
      auto tree = std::make_unique<sync::DirTree>(dir_ + "/far");
      tree->hooks = hooks_;
      far_ = tree.get();
      return tree;
    };
    Restart();
  }
  ~SessionSyncTest() override { FakeDaemon::Crash(std::move(daemon_)); }

  void Restart() {
    if (daemon_ != nullptr) FakeDaemon::Crash(std::move(daemon_));
    // The locks of a process that is dead are not gone in here, so the next one has a copy.
    const std::string bases = dir_ + "/bases" + std::to_string(++seed_);
    fs::copy(host_.base_dir, bases);
    host_.base_dir = bases;
    died_ = false;
    daemon_ = std::make_unique<FakeDaemon>(host_, seed_, TableLimits(), [this](const char* step) {
      died_ = die_at_ != nullptr && std::string_view(step) == die_at_;
      return died_ ? verdict_ : MemoryStore::Verdict::kOk;
    });
  }

  CreateSession Request(const std::string& id) {
    CreateSession request;
    request.id = id;
    request.backend = "fake";
    request.wait_ready = true;
    request.sync.mounts = {{.id = "m", .host_root = dir_ + "/host", .remote_root = dir_ + "/far"}};
    return request;
  }
  void Create(OnSyncError on_error = OnSyncError::kFail) {
    CreateSession request = Request("s");
    request.sync.on_error = on_error;
    auto created = daemon_->Await(daemon_->table.Create(std::move(request)));
    ASSERT_TRUE(created.ok()) << created.status();
  }
  std::shared_ptr<Session> session() { return *daemon_->table.Find("s"); }
  SessionState State() { return session()->info().state; }
  bool Has(std::string_view condition) {
    const auto& all = session()->info().conditions;
    return std::any_of(all.begin(), all.end(), [&](const auto& c) { return c.type == condition; });
  }

  // Programs run: real time passes, the daemon's clock stands.
  template <typename T>
  T Live(Task<T> task) {
    std::optional<T> result;
    asio::co_spawn(daemon_->loop.executor(), std::move(task),
                   [&](std::exception_ptr, T value) { result.emplace(std::move(value)); });
    LiveUntil([&] { return result.has_value(); });
    return *std::move(result);
  }
  void LiveUntil(const std::function<bool()>& done) {
    const auto until = std::chrono::steady_clock::now() + seconds(30);
    while (!done() && std::chrono::steady_clock::now() < until) {
      daemon_->loop.RunReady();
      if (done()) break;
      daemon_->loop.context().restart();
      daemon_->loop.context().run_one_for(std::chrono::milliseconds(20));
    }
    EXPECT_TRUE(done());
  }

  struct Ran {
    absl::Status error;
    std::optional<CommandInfo> end;
    std::string out;
    bool existing = false;
  };
  Ran Run(StartCommand request) {
    Ran ran;
    auto started = daemon_->Await(daemon_->table.Start(std::move(request)));
    if (!started.ok()) {
      ran.error = started.status();
      return ran;
    }
    ran.existing = started->existing;
    auto reader = daemon_->Follow(started->run);
    daemon_->RunUntil([&] { return reader->result.has_value(); });
    ran.error = reader->result->status();
    if (reader->sink->finished() != nullptr) ran.end = *reader->sink->finished();
    ran.out = reader->sink->Text(OutputStream::kStdout);
    return ran;
  }
  Ran Run(const std::string& run_id = "run-1", SyncBefore before = SyncBefore::kIfStale) {
    StartCommand request = MakeStart("s", "out x", run_id);
    request.sync_before = before;
    return Run(std::move(request));
  }

  Task<SyncInfo> ToEnd(StartSync request) {
    auto job = co_await daemon_->table.Sync(std::move(request));
    EXPECT_TRUE(job.ok()) << job.status();
    if (!job.ok()) co_return SyncInfo();
    while (!(*job)->ended()) co_await (*job)->changed().Wait();
    co_return (*job)->info();
  }
  SyncInfo Sync(StartSync request) {
    request.session_id = "s";
    return Live(ToEnd(std::move(request)));
  }
  absl::Status Close(bool discard = false) {
    told_.clear();
    return Live(session()->Close({.grace = seconds(1), .discard = discard},
                                 [this](Session::CloseEvent event) { Note(std::move(event)); }));
  }
  void Note(Session::CloseEvent event) {
    if (const auto* phase = std::get_if<Session::ClosePhase>(&event)) told_ += phase->name;
    if (std::holds_alternative<Session::KilledCommand>(event)) told_ += "killed";
    if (const auto* pull = std::get_if<SyncInfo>(&event))
      told_ += pull->state == SyncState::kDone ? "pulled" : "not pulled";
    told_ += ' ';
  }
  std::vector<SyncInfo> Rows() { return *daemon_->Await(daemon_->table.ListSyncs("s", "", 100)); }

  void FailPushes() {
    hooks_.before = [](std::string_view verb) {
      return verb == "apply" ? Error(Reason::k_SYNC_FAILED, "the far disk is full")
                             : absl::OkStatus();
    };
    if (far_ != nullptr) far_->hooks = hooks_;
  }
  void LetPushes() {
    hooks_.before = nullptr;
    far_->hooks = hooks_;
  }

  TempDir temp_;
  const std::string dir_;
  FakeHost host_;
  sync::DirTree::Hooks hooks_;
  sync::DirTree* far_ = nullptr;
  std::string told_;  // by the last Close
  const char* die_at_ = nullptr;
  MemoryStore::Verdict verdict_ = MemoryStore::Verdict::kDieAfter;
  bool died_ = false;
  uint64_t seed_ = 0;
  std::unique_ptr<FakeDaemon> daemon_;
};

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
  for (int i = 0; i < 8; ++i) Spit(dir_ + "/host/d" + std::to_string(i) + "/\x1b[31m", "1");
  for (int i = 0; i < 8; ++i) Spit(dir_ + "/far/d" + std::to_string(i), "in the way");
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

class FollowTest : public SessionSyncTest {
 protected:
  FollowTest() {
    hooks_.follows = true;
    host_.place.runs_files = true;
    Create();
    Spit(dir_ + "/host/a", "1");
    EXPECT_TRUE(Run("first").error.ok());
    host_.place.followed.clear();
    Spit(dir_ + "/host/a", "2");
  }
};

TEST_F(FollowTest, ASmallChangeAndItsCommandTravelTogether) {
  const Ran ran = Run();
  EXPECT_EQ(ran.out, "x");
  EXPECT_EQ(host_.place.followed.size(), 1u);
  EXPECT_EQ(ran.end->run_id, "run-1");
  EXPECT_EQ(host_.place.starts["run-1"], 0) << "over there it has a name of its own";
  EXPECT_EQ(host_.place.starts[ran.end->far_id], 1);
  EXPECT_TRUE(Run().existing);
}

TEST_F(FollowTest, ACommandWhosePushFailedLeavesNothingAndMayBeTriedAgain) {
  host_.place.first_fails = true;
  Spit(dir_ + "/far/b", "in the way");
  Spit(dir_ + "/host/b/c", "1");
  const Ran failed = Run();
  EXPECT_EQ(ReasonOf(failed.error), Reason::k_SYNC_FAILED) << failed.error;
  EXPECT_EQ(host_.place.followed.size(), 1u);
  EXPECT_EQ(host_.disk.commands.size(), 1u) << "but for the first one";
  EXPECT_EQ(daemon_->stats.running_commands, 0u);
  host_.place.first_fails = false;
  fs::remove(dir_ + "/far/b");
  EXPECT_EQ(Run().out, "x");
}

TEST_F(FollowTest, ACommandWhosePushTookASecondTurnIsStartedAgain) {
  host_.place.first_fails = true;  // what followed the first turn
  const Ran ran = Run();
  EXPECT_EQ(ran.out, "x");
  EXPECT_EQ(host_.place.followed.size(), 1u);
  EXPECT_EQ(host_.place.starts[ran.end->far_id], 1);
  EXPECT_EQ(host_.disk.commands.at({"s", ran.end->id}).info.far_id, ran.end->far_id);
}

TEST_F(FollowTest, AFollowingCommandIsAdoptedByItsNameOverThere) {
  StartCommand request = MakeStart("s", "out x;sleep 5000;out y", "run-1");
  auto started = daemon_->Await(daemon_->table.Start(request));
  ASSERT_TRUE(started.ok());
  daemon_->Pass(seconds(1));
  ASSERT_EQ(host_.place.followed.size(), 1u);
  Restart();
  EXPECT_EQ(Run(request).out, "xy");
}

// A daemon that dies between any two steps of a push and of the command behind it.
class CrashTest : public SessionSyncTest {
 protected:
  bool HasEnded(const std::string& run_id) const {
    return std::any_of(host_.disk.commands.begin(), host_.disk.commands.end(),
                       [&](const auto& row) {
                         return row.second.info.run_id == run_id && row.second.info.outcome;
                       });
  }
  // False: the command was over before step `at`.
  bool DieAt(int at, bool follows) {
    hooks_.follows = follows;
    host_.place.runs_files = follows;
    const std::string name = "s" + std::to_string(at) + (follows ? "f" : "");
    CreateSession request = Request(name);
    EXPECT_TRUE(daemon_->Await(daemon_->table.Create(std::move(request))).ok());
    EXPECT_TRUE(Run(MakeStart(name, "out x", "first of " + name)).error.ok());
    const std::string version = "version " + name;
    Spit(dir_ + "/host/a", version);
    int processes = 0;
    host_.place.on_start = [&](const CommandSpec&) {
      ++processes;
      EXPECT_EQ(Slurp(dir_ + "/far/a"), version) << "started on an old file";
    };
    const StartCommand command = MakeStart(name, "out x;sleep 50;exit 3", "run of " + name);
    bool over = false;
    asio::co_spawn(daemon_->loop.executor(), daemon_->table.Start(command),
                   [](std::exception_ptr, absl::StatusOr<Session::StartResult>) {});
    for (int step = 0; step < at && !over; ++step) {
      daemon_->loop.context().restart();
      if (daemon_->loop.context().poll_one() == 0) daemon_->clock.PostNext();
      over = HasEnded(command.spec.run_id);
    }
    Restart();
    const Ran ran = Run(command);
    EXPECT_TRUE(ran.error.ok()) << ran.error;
    EXPECT_LE(processes, 1) << "started twice";
    if (ran.end && ran.end->state == CommandState::kExited) {
      EXPECT_EQ(processes, 1);
      EXPECT_EQ(ran.end->outcome->value, 3);
    } else if (ran.end) {
      EXPECT_EQ(ran.end->state, CommandState::kNeverStarted);
      EXPECT_EQ(processes, 0);
    }
    host_.place.on_start = nullptr;
    return !over;
  }
};

TEST_F(CrashTest, NoDeathAtAnyStepStartsACommandTwiceOrOnOldFiles) {
  constexpr int kMostSteps = 400;
  for (const bool follows : {false, true}) {
    int at = 0;
    while (at < kMostSteps && DieAt(at, follows) && !HasFailure()) ++at;
    EXPECT_GT(at, 10) << "there were steps";
    EXPECT_LT(at, kMostSteps);
    ASSERT_FALSE(HasFailure()) << "at step " << at << (follows ? ", in one" : ", apart");
  }
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
