#include "daemon/core/session.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>

#include <gtest/gtest.h>

#include "daemon/runtime/status.h"
#include "tests/core/session_fixture.h"

namespace hermes {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

TEST_F(SessionTest, RunsACommandAndTellsItsEndOnce) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto reader = RunToEnd("out hello;err bad;exit 37");
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout), "hello");
  EXPECT_EQ(reader->sink->Text(OutputStream::kStderr), "bad");
  ASSERT_NE(reader->sink->finished(), nullptr);
  EXPECT_EQ(reader->sink->finished()->outcome->value, 37);
  EXPECT_EQ(**reader->result, Follower::Result::kFinished);
}

TEST_F(SessionTest, SameRequestIdAttachesWhileRunningAndAfterTheEndAndAfterARestart) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto first = daemon_->Start("s", "out a;sleep 1000;out b", "id-1");
  auto second = daemon_->Start("s", "out a;sleep 1000;out b", "id-1");
  EXPECT_FALSE(first->existing);
  EXPECT_TRUE(second->existing);
  EXPECT_EQ(first->run, second->run);
  EXPECT_EQ(RunToEnd("out a;sleep 1000;out b", "id-1")->sink->Text(OutputStream::kStdout), "ab");
  first->run.reset();
  second->run.reset();
  EXPECT_EQ(RunToEnd("out a;sleep 1000;out b", "id-1")->sink->Text(OutputStream::kStdout), "ab");
  Restart();
  EXPECT_EQ(RunToEnd("out a;sleep 1000;out b", "id-1")->sink->Text(OutputStream::kStdout), "ab");
  EXPECT_EQ(host_.place.starts["id-1"], 1);
}

TEST_F(SessionTest, SameRequestIdWithAnotherBodyIsRefusedAlwaysAndNeverStarts) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(daemon_->Start("s", "sleep 50", "id-1").ok());
  EXPECT_EQ(ReasonOfStart("out other", "id-1"), Reason::k_REQUEST_ID_REUSED);
  daemon_->Pass(seconds(1));
  EXPECT_EQ(ReasonOfStart("out other", "id-1"), Reason::k_REQUEST_ID_REUSED);
  Restart();
  EXPECT_EQ(ReasonOfStart("out other", "id-1"), Reason::k_REQUEST_ID_REUSED);
  EXPECT_EQ(host_.place.starts["id-1"], 1);
}

TEST_F(SessionTest, ARequestIdOfAnotherSessionIsRefusedAlwaysAndNeverStarts) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(daemon_->Create("other").ok());
  const auto elsewhere = [&] {
    return ReasonOf(daemon_->Start("other", "sleep 50", "id-1").status());
  };
  ASSERT_TRUE(daemon_->Start("s", "sleep 50", "id-1").ok());
  EXPECT_EQ(elsewhere(), Reason::k_REQUEST_ID_REUSED);
  daemon_->Pass(seconds(1));
  EXPECT_EQ(elsewhere(), Reason::k_REQUEST_ID_REUSED);
  Restart();
  EXPECT_EQ(elsewhere(), Reason::k_REQUEST_ID_REUSED);
  EXPECT_EQ(host_.place.starts["id-1"], 1);
}

TEST_F(SessionTest, RunningCommandIsAdoptedAfterACrashWithExactOffsets) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto started =
      daemon_->Start("s", "outn 100000;sleep 2000;outn 100000;sleep 2000;outn 7", "id-1");
  auto early = daemon_->Follow(started->run);
  daemon_->Pass(seconds(1));
  std::string before = early->sink->Text(OutputStream::kStdout);
  EXPECT_EQ(before.size(), 100000u);
  Restart();
  auto reader = RunToEnd("outn 100000;sleep 2000;outn 100000;sleep 2000;outn 7", "id-1");
  std::string all = reader->sink->Text(OutputStream::kStdout);
  ASSERT_EQ(all.size(), 200007u);
  for (size_t i = 0; i < all.size(); ++i)
    ASSERT_EQ(all[i], PatternByte("id-1", OutputStream::kStdout, i)) << i;
  EXPECT_EQ(host_.place.starts["id-1"], 1);
  const CommandInfo& info = *reader->sink->finished();
  EXPECT_LT(*info.start_time - info.create_time, seconds(1)) << "it began long before its adoption";
}

TEST_F(SessionTest, AcceptedButNeverSentIsNeverStartedAfterARestart) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  CommandInfo info;
  info.session_id = "s";
  info.id = "c1";
  info.run_id = "id-1";
  info.request_digest = "out x";
  info.incarnation = host_.place.incarnation;
  ASSERT_TRUE(daemon_->Await(daemon_->store.AcceptCommand(info))->fresh);
  Restart();
  auto reader = RunToEnd("out x", "id-1");
  EXPECT_EQ(reader->sink->finished()->state, CommandState::kNeverStarted);
  EXPECT_EQ(reader->sink->finished()->outcome->cause, Cause::kDaemonRestarted);
  EXPECT_EQ(host_.place.starts["id-1"], 0);
  EXPECT_TRUE(host_.place.poisoned.contains("id-1"));
}

TEST_F(SessionTest, CommandOfAReplacedPlaceEndsUnknownAndIsNotRunAgain) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(daemon_->Start("s", "hang", "id-1").ok());
  daemon_->Pass(seconds(1));
  host_.place.KillRunner();
  Restart();
  auto reader = RunToEnd("hang", "id-1");
  EXPECT_EQ(reader->sink->finished()->state, CommandState::kUnknown);
  EXPECT_EQ(host_.place.starts["id-1"], 1);
}

TEST_F(SessionTest, CommandOfAPlaceThatIsReplacedDuringTheAdoptionEndsUnknown) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(daemon_->Start("s", "hang", "id-1").ok());
  daemon_->Pass(seconds(1));
  host_.place.on_adopt = [this] { host_.place.ReplaceRunner(); };
  Restart();
  auto reader = RunToEnd("hang", "id-1");
  EXPECT_EQ(reader->sink->finished()->state, CommandState::kUnknown) << "it has run";
}

TEST_F(SessionTest, RecordOfAStoredEndIsForgottenWhenTheDaemonDiedBeforeItCouldSaySo) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  die_after_ = "PutCommand";
  auto started = daemon_->Start("s", "out a;sleep 100;exit 3", "id-1");
  daemon_->Pass(seconds(1));
  ASSERT_TRUE(host_.place.commands.contains("id-1")) << "FORGET was said in spite of the death";
  die_after_ = nullptr;
  Restart();
  ASSERT_TRUE(daemon_->Start("s", "hang", "id-2").ok());
  EXPECT_FALSE(host_.place.commands.contains("id-1"));
  Restart();
  ASSERT_TRUE(daemon_->Start("s", "out x").ok());
  EXPECT_TRUE(host_.place.commands.contains("id-2")) << "a command with a row was forgotten";
  EXPECT_EQ(RunToEnd("out a;sleep 100;exit 3", "id-1")->sink->finished()->outcome->value, 3);
}

TEST_F(SessionTest, AKillBeforeTheAdoptionEndsTheChildrenThatACommandLeft) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  RunToEnd("out a;child", "id-1");
  const std::shared_ptr<FakeCommand> left = host_.place.commands.at("id-1");
  ASSERT_TRUE(left->child);
  host_.place.reachable = false;
  Restart();
  auto known = daemon_->Start("s", "out a;child", "id-1");
  ASSERT_TRUE(known.ok()) << known.status();
  std::optional<absl::StatusOr<TreeReport>> report;
  asio::co_spawn(daemon_->loop.executor(), known->run->Kill(seconds(1), Cause::kCancelled),
                 [&](std::exception_ptr, auto told) { report = std::move(told); });
  daemon_->Pass(minutes(1));
  EXPECT_FALSE(report.has_value()) << "nobody has looked over there";
  host_.place.reachable = true;
  ASSERT_TRUE(daemon_->RunUntil([&] { return report.has_value(); }));
  EXPECT_EQ((*report)->signalled, 1u);
  EXPECT_FALSE(left->child);
}

TEST_F(SessionTest, APlaceThatTurnsOutToBeAnotherOneIsNotTakenForTheExpectedOne) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  const std::string before = host_.place.incarnation;
  host_.place.KillRunner();
  Restart();
  StartCommand request = MakeStart("s", "out x", "id-1");
  request.expected_incarnation = before;
  const absl::Status refused = daemon_->Await(daemon_->table.Start(request)).status();
  EXPECT_EQ(ReasonOf(refused), Reason::k_INCARNATION_CHANGED) << refused;
  EXPECT_EQ(MetadataOf(refused)["incarnation"], host_.place.incarnation);
  EXPECT_EQ(host_.place.starts.count("id-1"), 0u);
  EXPECT_EQ(host_.disk.commands.size(), 0u) << "the request id is free";
}

TEST_F(SessionTest, ACommandIsOfThePlaceThatItWasSentTo) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  host_.place.KillRunner();
  Restart();
  ASSERT_TRUE(daemon_->Start("s", "hang", "id-1").ok());
  EXPECT_EQ(host_.disk.commands.begin()->second.info.incarnation, host_.place.incarnation);
}

TEST_F(SessionTest, FailedStartLeavesTheRequestIdFree) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  host_.place.faults.refuse_start_percent = 100;
  EXPECT_EQ(ReasonOfStart("out x", "id-1"), Reason::k_BACKEND_UNREACHABLE);
  host_.place.faults.refuse_start_percent = 0;
  EXPECT_EQ(RunToEnd("out x", "id-1")->sink->Text(OutputStream::kStdout), "x");
}

TEST_F(SessionTest, FailedStartThatCannotBeTakenBackEndsAsNeverStarted) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  host_.place.faults.refuse_start_percent = 100;
  writes_until_full_ = 1;  // the acceptance
  EXPECT_EQ(ReasonOfStart("out x", "id-1"), Reason::k_BACKEND_UNREACHABLE);
  writes_until_full_ = -1;
  host_.place.faults.refuse_start_percent = 0;
  auto reader = RunToEnd("out x", "id-1");
  ASSERT_NE(reader->sink->finished(), nullptr);
  EXPECT_EQ(reader->sink->finished()->state, CommandState::kNeverStarted);
  EXPECT_EQ(host_.place.starts.count("id-1"), 0u);
  EXPECT_EQ(daemon_->stats.running_commands, 0u);
}

TEST_F(SessionTest, FullDiskRefusesTheStartAndForgetsNothing) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto running = daemon_->Start("s", "out a;sleep 100;exit 3", "id-1");
  disk_full_ = true;
  EXPECT_EQ(ReasonOfStart("out x"), Reason::k_DISK_FULL);
  auto reader = daemon_->Follow(running->run);
  daemon_->Pass(seconds(10));
  EXPECT_EQ(reader->sink->finished(), nullptr) << "an end that is not stored was told";
  disk_full_ = false;
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  EXPECT_EQ(reader->sink->finished()->outcome->value, 3);
}

TEST_F(SessionTest, CancelEndsTheCommandAsCancelled) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto started = daemon_->Start("s", "out a;hang");
  auto report = daemon_->Await(started->run->Kill(seconds(1), Cause::kCancelled));
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->verified);
  EXPECT_EQ(started->run->info().state, CommandState::kKilled);
  EXPECT_EQ(started->run->info().outcome->cause, Cause::kCancelled);
}

TEST_F(SessionTest, CancelDuringTheStartEndsTheCommandAsCancelled) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  host_.place.faults = {.stall_percent = 100, .longest_stall = seconds(30)};
  bool answered = false;
  asio::co_spawn(daemon_->loop.executor(), daemon_->table.Start(MakeStart("s", "hang", "id-1")),
                 [&](std::exception_ptr, auto) { answered = true; });
  ASSERT_TRUE(daemon_->RunUntil([&] { return host_.place.starts.contains("id-1"); }));
  ASSERT_FALSE(answered) << "nothing is held back";
  auto again = daemon_->Start("s", "hang", "id-1");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_LT(again->run->info().state, CommandState::kRunning);
  auto report = daemon_->Await(again->run->Kill(seconds(1), Cause::kCancelled));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->verified);
  EXPECT_EQ(again->run->info().state, CommandState::kKilled);
  EXPECT_EQ(again->run->info().outcome->cause, Cause::kCancelled);
  EXPECT_EQ(host_.place.starts["id-1"], 1);
}

TEST_F(SessionTest, CancelOfAStartThatFailsSaysWhyAndNothingStarts) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  host_.place.faults = {.stall_percent = 100, .longest_stall = seconds(30)};
  asio::co_spawn(daemon_->loop.executor(), daemon_->table.Start(MakeStart("s", "hang", "id-1")),
                 [](std::exception_ptr, auto) {});
  auto again = daemon_->Start("s", "hang", "id-1");
  ASSERT_TRUE(again.ok()) << again.status();
  host_.place.reachable = false;
  auto report = daemon_->Await(again->run->Kill(seconds(1), Cause::kCancelled));
  EXPECT_EQ(ReasonOf(report.status()), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_EQ(host_.place.starts.count("id-1"), 0u);
}

TEST_F(SessionTest, ASessionIsShownDegradedWhileItsPlaceIsAwayAndItsCommandGoesOn) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  const auto session = *daemon_->table.Find("s");
  auto started = daemon_->Start("s", "sleep 60000;out x", "id-1");
  const auto shown = [&](SessionState state) {
    return daemon_->table.List({.state = state}, "", 10).size() == 1;
  };
  EXPECT_TRUE(shown(SessionState::kReady));
  const uint64_t seen = daemon_->table.last_seq();
  host_.place.tell_reachable.at("s")(false);
  EXPECT_TRUE(shown(SessionState::kDegraded));
  EXPECT_TRUE(daemon_->table.NextChange(seen).has_value()) << "watchers are not told";
  EXPECT_EQ(session->phase(), "connecting") << "what a new command would wait for";
  EXPECT_EQ(session->info().state, SessionState::kReady) << "stored, as if it were for good";
  EXPECT_TRUE(started->run->away_since().has_value());
  host_.place.tell_reachable.at("s")(true);
  EXPECT_TRUE(shown(SessionState::kReady));
  EXPECT_FALSE(started->run->away_since().has_value());
  daemon_->RunUntil([&] { return started->run->ended(); });
  EXPECT_EQ(started->run->info().state, CommandState::kExited);
}

TEST_F(SessionTest, CwdAndGenerationMoveWithTheEnd) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  RunToEnd("cd /usr;exit 0");
  daemon_->Pass(seconds(1));
  auto session = daemon_->table.Find("s");
  EXPECT_EQ((*session)->info().cwd, "/usr");
  EXPECT_EQ((*session)->info().generation, 1u);
  Restart();
  EXPECT_EQ((*daemon_->table.Find("s"))->info().cwd, "/usr");
}

TEST_F(SessionTest, TakenNamesAreRefusedUntilTheSessionHasEnded) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  EXPECT_EQ(ReasonOf(daemon_->Create("s").status()), Reason::k_SESSION_ID_TAKEN);
  ASSERT_TRUE(
      daemon_->Await((*daemon_->table.Find("s"))->Close({.grace = seconds(1)}, nullptr)).ok());
  EXPECT_EQ((*daemon_->table.Find("s"))->info().state, SessionState::kClosed);
  EXPECT_EQ(ReasonOfStart("out x"), Reason::k_SESSION_NOT_READY);
  EXPECT_TRUE(daemon_->Create("s").ok());
  EXPECT_EQ(RunToEnd("out x")->sink->Text(OutputStream::kStdout), "x");
}

TEST_F(SessionTest, TakingAnEndedNameAgainRemovesTheOldOutput) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  RunToEnd("outn 300000");
  EXPECT_FALSE(std::filesystem::is_empty(dir_.path()));
  ASSERT_TRUE(
      daemon_->Await((*daemon_->table.Find("s"))->Close({.grace = seconds(1)}, nullptr)).ok());
  EXPECT_FALSE(std::filesystem::is_empty(dir_.path())) << "results outlive their session";
  ASSERT_TRUE(daemon_->Create("s").ok());
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(SessionTest, OutputWithoutARowIsRemovedAtStartAndNothingElse) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(daemon_->Start("s", "outn 300000;sleep 5000;outn 5", "id-1").ok());
  RunToEnd("errn 300000", "id-2");
  daemon_->Pass(seconds(1));
  for (const char* orphan : {"s+c0.out", "s+c0.err", "gone+c1.out"})
    std::ofstream(dir_.path() + "/" + orphan) << "left behind";
  std::ofstream(dir_.path() + "/notes.txt") << "not ours";
  Restart();
  daemon_->Pass(seconds(1));
  std::map<std::string, int> kinds;
  for (const auto& file : std::filesystem::directory_iterator(dir_.path()))
    ++kinds[file.path().extension()];
  EXPECT_EQ(kinds, (std::map<std::string, int>{{".out", 1}, {".err", 1}, {".txt", 1}}));
  auto reader = RunToEnd("outn 300000;sleep 5000;outn 5", "id-1");
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout).size(), 300005u);
  reader = RunToEnd("errn 300000", "id-2");
  EXPECT_EQ(reader->sink->Text(OutputStream::kStderr).size(), 300000u);
}

TEST_F(SessionTest, CreateIsIdempotentByRequestId) {
  CreateSession request;
  request.backend = "fake";
  request.request_id = "r-1";
  request.digest = "body";
  request.wait_ready = true;
  auto first = daemon_->Await(daemon_->table.Create(request));
  auto second = daemon_->Await(daemon_->table.Create(request));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->id, second->id);
  Restart();
  EXPECT_EQ(daemon_->Await(daemon_->table.Create(request))->id, first->id);
  request.digest = "other";
  EXPECT_EQ(ReasonOf(daemon_->Await(daemon_->table.Create(request)).status()),
            Reason::k_REQUEST_ID_REUSED);
}

TEST_F(SessionTest, WhoWaitsForAPlaceThatCannotBeOpenedIsToldWhyAlsoAfterARestart) {
  CreateSession request;
  request.id = "s";
  request.backend = "fake";
  request.request_id = "r-1";
  request.wait_ready = true;
  host_.place.faults.refuse_open_percent = 100;
  const absl::Status first = daemon_->Await(daemon_->table.Create(request)).status();
  EXPECT_EQ(ReasonOf(first), Reason::k_BACKEND_UNREACHABLE) << first;
  EXPECT_EQ((*daemon_->table.Find("s"))->info().state, SessionState::kFailed);
  Restart();
  const absl::Status again = daemon_->Await(daemon_->table.Create(request)).status();
  EXPECT_EQ(ReasonOf(again), Reason::k_BACKEND_UNREACHABLE) << again;
  EXPECT_EQ(again.message(), first.message());
  request.wait_ready = false;
  EXPECT_EQ(daemon_->Await(daemon_->table.Create(request))->state, SessionState::kFailed);
}

TEST_F(SessionTest, AChildLeftBehindIsTheCommandsResidueUntilItHasEnded) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto started = daemon_->Start("s", "child;exit 3");
  ASSERT_TRUE(started.ok()) << started.status();
  ASSERT_TRUE(daemon_->RunUntil([&] { return started->run->ended(); }));
  EXPECT_EQ(started->run->info().state, CommandState::kExited);
  EXPECT_TRUE(started->run->info().residual);
  EXPECT_FALSE(started->run->drained()) << "its output may go on";
  auto report = daemon_->Await(started->run->Kill(seconds(1), Cause::kCancelled));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(started->run->info().residual);
  EXPECT_EQ(started->run->info().outcome->value, 3) << "its own end stands";
}

TEST_F(SessionTest, CapsAreTypedAndNameTheSetting) {
  Restart(TableLimits{.max_sessions = 1, .max_commands_per_session = 2});
  ASSERT_TRUE(daemon_->Create("s").ok());
  absl::Status second = daemon_->Create("t").status();
  EXPECT_EQ(ReasonOf(second), Reason::k_QUOTA_SESSIONS);
  EXPECT_EQ(MetadataOf(second)["setting"], "limits.max_sessions");
  ASSERT_TRUE(daemon_->Start("s", "hang").ok());
  ASSERT_TRUE(daemon_->Start("s", "hang").ok());
  EXPECT_EQ(ReasonOfStart("hang"), Reason::k_QUOTA_COMMANDS);
}

TEST_F(SessionTest, CapsPerAccountLeaveOtherAccountsAlone) {
  Restart(TableLimits{.max_sessions_per_uid = 1, .max_commands_per_uid = 2});
  const auto create = [this](const std::string& id, uint32_t uid) {
    CreateSession request;
    request.id = id;
    request.backend = "fake";
    request.wait_ready = true;
    request.uid = uid;
    return daemon_->Await(daemon_->table.Create(std::move(request))).status();
  };
  ASSERT_TRUE(create("s", 7).ok());
  EXPECT_EQ(MetadataOf(create("t", 7))["setting"], "limits.max_sessions_per_uid");
  ASSERT_TRUE(create("t", 8).ok());
  const auto start = [this](const std::string& script, uint32_t uid) {
    StartCommand request = MakeStart("s", script, daemon_->random.Uuid());
    request.uid = uid;
    return daemon_->Await(daemon_->table.Start(std::move(request)));
  };
  ASSERT_TRUE(start("hang", 7).ok());
  auto second = start("sleep 5000", 7);
  absl::Status third = start("out x", 7).status();
  EXPECT_EQ(ReasonOf(third), Reason::k_QUOTA_COMMANDS);
  EXPECT_EQ(MetadataOf(third)["setting"], "limits.max_commands_per_uid");
  EXPECT_TRUE(start("out x", 8).ok());
  daemon_->RunUntil([&] { return second->run->ended(); });
  EXPECT_TRUE(start("out x", 7).ok()) << "an ended command still counts";
}

TEST_F(SessionTest, AtTheCapARetryStillFindsItsCommandAndAFailedStartDoesNotCount) {
  Restart(TableLimits{.max_commands = 1});
  ASSERT_TRUE(daemon_->Create("s").ok());
  host_.place.faults.refuse_start_percent = 100;
  EXPECT_EQ(ReasonOfStart("hang"), Reason::k_BACKEND_UNREACHABLE);
  host_.place.faults.refuse_start_percent = 0;
  auto first = daemon_->Start("s", "hang", "id-1");
  ASSERT_TRUE(first.ok()) << first.status();
  auto again = daemon_->Start("s", "hang", "id-1");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->existing);
  EXPECT_EQ(ReasonOfStart("hang", "id-2"), Reason::k_QUOTA_COMMANDS);
  EXPECT_EQ(daemon_->stats.running_commands, 1u);
}

TEST_F(SessionTest, CommandsThatAreStillBeingStartedCountForTheCap) {
  Restart(TableLimits{.max_commands = 3});
  ASSERT_TRUE(daemon_->Create("s").ok());
  int refused = 0, answered = 0;
  for (int i = 0; i < 10; ++i) {
    asio::co_spawn(daemon_->loop.executor(),
                   daemon_->table.Start(MakeStart("s", "hang", "id-" + std::to_string(i))),
                   [&](std::exception_ptr, auto started) {
                     ++answered;
                     refused += ReasonOf(started.status()) == Reason::k_QUOTA_COMMANDS ? 1 : 0;
                   });
  }
  daemon_->RunUntil([&] { return answered == 10; });
  EXPECT_EQ(refused, 7);
}

TEST_F(SessionTest, UsedUpSpoolRefusesCommandsUntilOutputIsDropped) {
  Restart(TableLimits{.output_spool_bytes = 200'000});
  ASSERT_TRUE(daemon_->Create("s").ok());
  RunToEnd("outn 300000");
  EXPECT_EQ(ReasonOfStart("out x"), Reason::k_SPOOL_FULL);
  for (const auto& file : std::filesystem::directory_iterator(dir_.path()))
    std::filesystem::remove(file);
  EXPECT_EQ(RunToEnd("out x")->sink->Text(OutputStream::kStdout), "x");
}

TEST_F(SessionTest, PasswordThatNobodyKnowsAnyMoreIsAskedForByACondition) {
  CreateSession request;
  request.backend = "fake";
  request.id = "s";
  request.sudo_password = "secret";
  request.wait_ready = true;
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(request)).ok());
  Restart();
  RunToEnd("out x");
  auto session = *daemon_->table.Find("s");
  EXPECT_TRUE(session->info().conditions.empty()) << "the same runner still knows it";
  host_.place.KillRunner();
  Restart();
  RunToEnd("out x");
  session = *daemon_->table.Find("s");
  ASSERT_EQ(session->info().conditions.size(), 1u);
  EXPECT_EQ(session->info().conditions[0].type, "SECRET_NEEDED");
  UpdateSession update;
  update.sudo_password = "again";
  ASSERT_TRUE(daemon_->Await(session->Update(update)).ok());
  EXPECT_TRUE(session->info().conditions.empty());
}

TEST_F(SessionTest, WatchersSeeEachSessionsNewestVersionAndItsRemoval) {
  uint64_t seen = daemon_->table.last_seq();
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto change = daemon_->table.NextChange(seen);
  ASSERT_TRUE(change.has_value());
  EXPECT_EQ(change->id, "s");
  EXPECT_FALSE(daemon_->table.NextChange(change->seq).has_value()) << "older versions are not kept";
}

}  // namespace
}  // namespace hermes
