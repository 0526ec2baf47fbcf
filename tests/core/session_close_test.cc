// How sessions end, and what a daemon that ends lets go of.

#include <chrono>
#include <optional>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "daemon/runtime/status.h"
#include "tests/core/session_fixture.h"

namespace hermes {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

TEST_F(SessionTest, CleanupThatTheStoreRefusesLeavesTheSessionAsItWas) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  disk_full_ = true;
  EXPECT_EQ(ReasonOf(Close("s")), Reason::k_DISK_FULL);
  EXPECT_EQ(StateOf("s"), SessionState::kReady);
  disk_full_ = false;
  EXPECT_EQ(RunToEnd("out x")->sink->Text(OutputStream::kStdout), "x");
  EXPECT_TRUE(Close("s").ok());
  EXPECT_EQ(StateOf("s"), SessionState::kClosed);
}

TEST_F(SessionTest, CleanupThatIsRefusedAtItsEndIsFinishedByTheNextOne) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  writes_until_full_ = 1;  // CLOSING is stored, CLOSED is not
  EXPECT_EQ(ReasonOf(Close("s")), Reason::k_DISK_FULL);
  EXPECT_EQ(StateOf("s"), SessionState::kClosing) << "what is not stored was told";
  writes_until_full_ = -1;
  EXPECT_TRUE(Close("s").ok()) << "the place was closed twice";
  EXPECT_EQ(StateOf("s"), SessionState::kClosed);
  Restart();
  EXPECT_EQ(StateOf("s"), SessionState::kClosed);
}

TEST_F(SessionTest, CleanupThatCannotReachThePlaceIsTriedAgainUntilItCan) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(daemon_->Start("s", "hang", "id-1").ok());
  host_.place.reachable = false;
  Restart();
  EXPECT_EQ(ReasonOf(Close("s")), Reason::k_BACKEND_UNREACHABLE);
  daemon_->Pass(minutes(10));
  EXPECT_EQ(StateOf("s"), SessionState::kClosing);
  host_.place.reachable = true;
  daemon_->Pass(minutes(60));
  EXPECT_EQ(StateOf("s"), SessionState::kClosed);
}

TEST_F(SessionTest, DiscardClosesASessionWhosePlaceIsGone) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(daemon_->Start("s", "out a;hang", "id-1").ok());
  daemon_->Pass(seconds(1));
  host_.place.reachable = false;
  Restart();
  EXPECT_TRUE(daemon_->Await((*daemon_->table.Find("s"))->Close({.discard = true}, nullptr)).ok());
  EXPECT_EQ(StateOf("s"), SessionState::kClosed);
  const auto& conditions = (*daemon_->table.Find("s"))->info().conditions;
  ASSERT_EQ(conditions.size(), 1u);
  EXPECT_EQ(conditions[0].type, "LEFT_BEHIND");
  EXPECT_EQ(conditions[0].reason, "BACKEND_UNREACHABLE");
  auto reader = RunToEnd("out a;hang", "id-1");
  EXPECT_EQ(reader->sink->finished()->state, CommandState::kUnknown);
  EXPECT_EQ(reader->sink->finished()->outcome->cause, Cause::kSandboxLost);
}

TEST_F(SessionTest, DiscardEndsACleanupThatWaitsForAPlaceThatIsAway) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto started = daemon_->Start("s", "hang", "id-1");
  daemon_->Pass(seconds(1));
  host_.place.reachable = false;
  host_.place.tell_reachable["s"](false);
  std::optional<absl::Status> first;
  asio::co_spawn(daemon_->loop.executor(), (*daemon_->table.Find("s"))->Close({}, nullptr),
                 [&](std::exception_ptr, absl::Status closed) { first = std::move(closed); });
  daemon_->Pass(minutes(5));
  EXPECT_FALSE(first.has_value()) << "its command may still run";
  EXPECT_TRUE(daemon_->Await((*daemon_->table.Find("s"))->Close({.discard = true}, nullptr)).ok());
  ASSERT_TRUE(first.has_value());
  EXPECT_TRUE(first->ok()) << *first;
  EXPECT_EQ(StateOf("s"), SessionState::kClosed);
  EXPECT_EQ(started->run->info().state, CommandState::kUnknown);
  EXPECT_FALSE(daemon_->Await(started->run->Kill(seconds(1), Cause::kCancelled))->verified);
}

TEST_F(SessionTest, CleanupAfterARestartEndsTheChildrenThatACommandLeft) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  RunToEnd("out a;child", "id-1");
  const std::shared_ptr<FakeCommand> left = host_.place.commands.at("id-1");
  Restart();
  host_.place.faults = {.stall_percent = 100, .longest_stall = seconds(30)};
  EXPECT_TRUE(Close("s").ok());
  EXPECT_FALSE(left->child) << "closed before the command was adopted";
}

TEST_F(SessionTest, DrainDoesNotWaitForAPlaceThatIsAway) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(daemon_->Start("s", "hang", "id-1").ok());
  host_.place.reachable = false;
  Restart();
  daemon_->Pass(minutes(2));  // the tries to adopt are half a minute apart by now
  bool drained = false;
  asio::co_spawn(daemon_->loop.executor(), daemon_->table.Drain(),
                 [&](std::exception_ptr) { drained = true; });
  daemon_->RunUntil([&] { return drained; }, seconds(1));
  EXPECT_TRUE(drained);
}

TEST_F(SessionTest, DrainLetsGoOfASessionThatIsStillOpeningForTheNextDaemon) {
  host_.place.silent = true;
  CreateSession request;
  request.id = "s";
  request.backend = "fake";
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(request)).ok());
  daemon_->Pass(seconds(1));
  bool drained = false;
  const auto drain = [](SessionTable& table, bool& over) -> Task<void> {
    co_await table.Drain();
    co_await table.Join();
    over = true;
  };
  asio::co_spawn(daemon_->loop.executor(), drain(daemon_->table, drained),
                 [](std::exception_ptr) {});
  daemon_->RunUntil([&] { return drained; }, seconds(1));
  daemon_.reset();  // as a daemon that ends: nothing of it may still run
  EXPECT_EQ(host_.disk.sessions.at("s").state, SessionState::kOpening);
  host_.place.silent = false;
  Restart();
  EXPECT_EQ(RunToEnd("out x")->sink->Text(OutputStream::kStdout), "x");
}

TEST_F(SessionTest, DrainLetsGoOfRunningCommandsForTheNextDaemon) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto started = daemon_->Start("s", "out a;sleep 5000;out b", "id-1");
  auto reader = daemon_->Follow(started->run);
  daemon_->Pass(seconds(1));
  reader->follower->Drain();
  bool drained = false;
  asio::co_spawn(daemon_->loop.executor(), daemon_->table.Drain(),
                 [&](std::exception_ptr) { drained = true; });
  daemon_->RunUntil([&] { return drained && reader->result.has_value(); }, seconds(1));
  EXPECT_EQ(**reader->result, Follower::Result::kDraining);
  EXPECT_EQ(ReasonOfStart("out x"), Reason::k_DRAINING);
  Restart();
  EXPECT_EQ(RunToEnd("out a;sleep 5000;out b", "id-1")->sink->Text(OutputStream::kStdout), "ab");
}

TEST_F(SessionTest, ReaperClosesIdleSessionsButNoneThatRunsOrIsRead) {
  CreateSession request;
  request.backend = "fake";
  request.idle_ttl = minutes(1);
  for (const char* id : {"idle", "busy", "read"}) {
    request.id = id;
    ASSERT_TRUE(daemon_->Await(daemon_->table.Create(request)).ok());
  }
  ASSERT_TRUE(daemon_->Start("busy", "hang").ok());
  auto ended = daemon_->Start("read", "out x");
  daemon_->RunUntil([&] { return ended->run->drained(); });
  auto reader = daemon_->Follow(ended->run, {}, minutes(10));
  daemon_->Pass(minutes(5));
  EXPECT_EQ((*daemon_->table.Find("idle"))->info().state, SessionState::kClosed);
  EXPECT_EQ((*daemon_->table.Find("busy"))->info().state, SessionState::kReady);
  EXPECT_EQ((*daemon_->table.Find("read"))->info().state, SessionState::kReady);
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  reader.reset();
  daemon_->Pass(seconds(55));
  EXPECT_EQ(StateOf("read"), SessionState::kReady) << "its time began before it was idle";
  daemon_->Pass(seconds(10));
  EXPECT_EQ(StateOf("read"), SessionState::kClosed);
}

// The sweep has found it idle, and before the reaper comes somebody uses it.
TEST_F(SessionTest, WhatBeginsRightAfterTheSweepKeepsItsSession) {
  CreateSession request;
  request.id = "s";
  request.backend = "fake";
  request.idle_ttl = minutes(1);
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(request)).ok());
  std::optional<absl::StatusOr<Session::StartResult>> started;
  const SteadyTime lapse = (*daemon_->table.Find("s"))->last_active() + minutes(1);
  const auto start = [&] {
    if (started || daemon_->clock.Now() < lapse) return;
    asio::co_spawn(daemon_->loop.executor(), daemon_->table.Start(MakeStart("s", "hang", "id-1")),
                   [&](std::exception_ptr, auto result) { started = std::move(result); });
  };
  while (!started) {
    ASSERT_TRUE(daemon_->clock.PostNext());
    daemon_->loop.Post(start);  // behind the sweep, before what it posts
    daemon_->loop.RunReady();
  }
  daemon_->Pass(minutes(5));
  ASSERT_TRUE(started.has_value() && started->ok());
  EXPECT_EQ((*started)->run->info().state, CommandState::kRunning);
  EXPECT_EQ(StateOf("s"), SessionState::kReady);
}

TEST_F(SessionTest, ALeaseThatHasEndedReapsNoSessionThatRunsOrIsRead) {
  CreateSession request;
  request.backend = "fake";
  request.lease = minutes(1);
  for (const char* id : {"unused", "busy", "read"}) {
    request.id = id;
    ASSERT_TRUE(daemon_->Await(daemon_->table.Create(request)).ok());
  }
  auto running = daemon_->Start("busy", "sleep 600000;out x");
  auto ended = daemon_->Start("read", "out x");
  daemon_->RunUntil([&] { return ended->run->drained(); });
  auto reader = daemon_->Follow(ended->run, {}, minutes(10));
  daemon_->Pass(minutes(5));
  EXPECT_EQ(StateOf("unused"), SessionState::kClosed);
  EXPECT_EQ(StateOf("busy"), SessionState::kReady);
  EXPECT_EQ(StateOf("read"), SessionState::kReady);
  daemon_->RunUntil([&] { return running->run->drained() && reader->result.has_value(); });
  EXPECT_EQ(running->run->info().state, CommandState::kExited);
  reader.reset();
  daemon_->Pass(minutes(2));
  EXPECT_EQ(StateOf("busy"), SessionState::kClosed) << "its lease has long ended";
  EXPECT_EQ(StateOf("read"), SessionState::kClosed);
}

TEST_F(SessionTest, LeaseEndsTheSessionUnlessRenewedAndRenewingNeverShortens) {
  CreateSession request;
  request.backend = "fake";
  request.id = "leased";
  request.lease = minutes(10);
  ASSERT_TRUE(daemon_->Await(daemon_->table.Create(request)).ok());
  auto session = *daemon_->table.Find("leased");
  WallTime first = *session->info().expire_time;
  EXPECT_EQ(*daemon_->Await(session->Renew(seconds(5)))->expire_time, first);
  daemon_->Pass(minutes(8));
  EXPECT_GT(*daemon_->Await(session->Renew(minutes(10)))->expire_time, first);
  daemon_->Pass(minutes(9));
  EXPECT_EQ(session->info().state, SessionState::kReady);
  daemon_->Pass(minutes(2));
  EXPECT_EQ(session->info().state, SessionState::kClosed);
}

TEST_F(SessionTest, ANameThatIsTakenWhileItsSessionIsForgottenStaysTaken) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(Close("s").ok());
  daemon_->store.held = "DeleteSession";
  daemon_->Pass(std::chrono::hours(25));
  ASSERT_EQ(host_.disk.sessions.size(), 0u) << "nobody forgets it";
  CreateSession request;
  request.id = "s";
  request.backend = "fake";
  request.request_id = "r-1";
  std::optional<absl::Status> made;
  asio::co_spawn(daemon_->loop.executor(), daemon_->table.Create(request),
                 [&](std::exception_ptr, auto session) { made = session.status(); });
  daemon_->loop.RunReady();
  daemon_->store.Answer();
  ASSERT_TRUE(daemon_->RunUntil([&] { return made.has_value(); }));
  EXPECT_TRUE(made->ok()) << *made;
  EXPECT_TRUE(daemon_->table.Find("s").ok());
  EXPECT_TRUE(daemon_->Await(daemon_->table.Create(request)).ok());
  EXPECT_EQ(RunToEnd("out x")->sink->Text(OutputStream::kStdout), "x");
}

}  // namespace
}  // namespace hermes
