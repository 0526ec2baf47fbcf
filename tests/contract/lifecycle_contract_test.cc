// Vectors of connections that break, daemons that die, places that are down.

#include <string>
#include <vector>

#include "daemon/runtime/status.h"
#include "tests/contract/driver.h"

namespace hermes::contract {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Numbered lines, slowly enough that something can happen in the middle.
constexpr const char* kLines =
    "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ $((i%1000)) -eq 0 ] && sleep 0.2; "
    "done; exit 7";

std::string Lines() {
  std::string lines;
  for (int i = 0; i < 3000; ++i) lines += "line " + std::to_string(i) + "\n";
  return lines;
}

TEST_P(BackendContract, TheEngineIsTheOneThatWasAskedFor) {
  EXPECT_EQ(session().facts.engine, GetParam().engine);
  EXPECT_NE(session().facts.engine_reason, "");
  EXPECT_NE(session().facts.incarnation, "");
}

TEST_P(BackendContract, NoCapabilityIsDeniedWhereThePlaceIsKnownToHaveAll) {
  const Capabilities& can = capabilities();
  if (!GetParam().complete) GTEST_SKIP() << "not every capability is promised here";
  EXPECT_TRUE(can.split_stderr && can.merged_order && can.pty && can.stdin_stream && can.argv);
  EXPECT_TRUE(can.survives_daemon && can.remote_deadline && can.shell_functions);
  EXPECT_TRUE(can.residual_tracking && can.kill_verified);
  EXPECT_EQ(can.kill_method, KillMethod::kSupervisor);
  EXPECT_EQ(can.max_concurrent_commands, 0u);
}

// Its handle may live on for days, and a place may have few.
TEST_P(BackendContract, ACommandThatHasDrainedHoldsNoStream) {
  const size_t before = session().sandbox->open_streams();
  std::vector<RunPtr> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(Run("echo out; cat; exit 3"));
    world().WaitDrained(held.back());
    ExpectExit(held.back(), 3);
  }
  EXPECT_EQ(session().sandbox->open_streams(), before);
}

TEST_P(BackendContract, V20AnAbandonedCommandGoesOnAndIsTakenUpWhereReadingStopped) {
  RunPtr first = world().Start(session(), kLines);
  ASSERT_TRUE(world().Until([first] { return first->out.size() > 3000; }));
  first->channel->Abandon();
  ASSERT_TRUE(world().Until([first] { return !first->reading; }));
  first->channel.reset();
  RunPtr second = world().Adopt(session(), first, first->offset[0], 0);
  world().WaitEnd(second);
  EXPECT_EQ(first->out + second->out, Lines());
  ExpectExit(second, 7);
}

TEST_P(BackendContract, V22ABrokenConnectionLosesNothingAndRunsNothingTwice) {
  const bool kept = capabilities().survives_daemon;
  const std::string file = "/tmp/hermes-contract-" + world().random.Hex(8);
  RunPtr run = world().Start(session(), "echo ran >> " + file + "; " + kLines);
  for (size_t cut = 1; cut <= (kept ? 5 : 1); ++cut) {
    ASSERT_TRUE(world().Until([&] { return run->out.size() > cut * 4000; }));
    session().sandbox->Cut();
  }
  world().WaitEnd(run);
  EXPECT_TRUE(run->lost.empty());
  if (kept) {
    EXPECT_TRUE(run->out == Lines());
    ExpectExit(run, 7);
  } else {
    EXPECT_TRUE(Lines().starts_with(run->out));
    EXPECT_EQ(run->outcome->state, CommandState::kUnknown) << run->Told();
    EXPECT_EQ(run->outcome->cause, Cause::kSandboxLost);
  }
  EXPECT_EQ(Out("wc -l < " + file + "; rm " + file), "1\n");
}

TEST_P(BackendContract, V22ADeadFarEndIsAnUnknownEndAndTheSessionComesBackWithItsState) {
  if (!GetParam().kill_far_end) GTEST_SKIP() << "there is no process of ours to kill";
  const std::string sleep = world().UniqueSeconds(60);
  Run("export A=kept; cd /usr");
  const std::string incarnation = session().facts.incarnation;
  RunPtr run = world().Start(session(), "echo s; sleep " + sleep);
  ASSERT_TRUE(world().Until([run] { return run->out == "s\n"; }));
  world().KillFarEnd();
  world().WaitEnd(run);
  EXPECT_TRUE(run->outcome->state == CommandState::kUnknown ||
              run->outcome->state == CommandState::kKilled)
      << run->Told();
  EXPECT_EQ(run->outcome->cause, Cause::kRunnerDied);
  EXPECT_TRUE(world().Until([this] { return !session().changed_to.empty(); }));
  EXPECT_NE(session().changed_to, incarnation);
  EXPECT_EQ(Out("echo $A; pwd"), "kept\n/usr\n");
  EXPECT_EQ(world().AwaitArgument(session(), sleep, 0), 0)
      << "the tree must not outlive its runner";
}

TEST_P(BackendContract, V66ALeaseHoldsWhileItIsRenewedAndLapsesAfterwards) {
  if (!capabilities().survives_daemon) GTEST_SKIP() << "the capability says so";
  TestSession& leased = world().Open({}, seconds(3));
  world().Run(leased, "export A=kept");
  RunPtr held = world().Run(leased, "sleep 4; echo alive");
  EXPECT_EQ(held->out, "alive\n");
  ExpectExit(held, 0);
  const std::string sleep = world().UniqueSeconds(60);
  RunPtr run = world().Start(leased, "echo s; sleep " + sleep);
  ASSERT_TRUE(world().Until([run] { return run->out == "s\n"; }));
  world().RestartDaemon();  // comes back without renewing
  RunPtr again = world().Adopt(leased, run, 2, 0);
  world().WaitEnd(again, seconds(30));
  EXPECT_EQ(again->outcome->state, CommandState::kKilled) << again->Told();
  EXPECT_EQ(again->outcome->cause, Cause::kLeaseExpired);
  EXPECT_EQ(world().CountArgument(leased, sleep), 0);
  EXPECT_EQ(world().Run(leased, "echo $A")->out, "kept\n");
}

TEST_P(BackendContract, V68APlaceThatIsDownIsATypedErrorAndTheNextCallRecovers) {
  if (!GetParam().broken_backend) GTEST_SKIP() << "this place cannot be put out of order";
  World& world = this->world();
  auto [backend, repair] = GetParam().broken_backend(world.loop, world.clock, world.dir);
  std::swap(world.backend, backend);
  std::unique_ptr<RunnerLinks> links = std::make_unique<RunnerLinks>(
      RunnerLinks::Deps{world.loop, world.clock, world.random, "contract"});
  std::swap(world.links, links);
  TestSession session;
  SessionSpec spec;
  spec.session_id = "s-down";
  const SteadyTime asked = world.clock.Now();
  absl::Status down = world.TryOpen(session, spec, Duration(0), "");
  EXPECT_EQ(ReasonOf(down), Reason::k_BACKEND_UNREACHABLE) << down;
  EXPECT_LT(world.clock.Now() - asked, seconds(20));
  session.engine.reset();
  repair();
  absl::Status up = world.TryOpen(session, spec, Duration(0), "");
  EXPECT_TRUE(up.ok()) << up;
  EXPECT_EQ(world.Run(session, "echo up")->out, "up\n");
  // V70: it was this engine again, no other one took its place meanwhile.
  EXPECT_EQ(session.facts.engine, GetParam().engine);
  EXPECT_TRUE(world.Await(session.engine->Close(Duration(0))).ok());
  world.RestartDaemon();  // lets go of the channels; there is no session to open again
  session.engine.reset();
}

TEST_P(BackendContract, V70NothingRunsElsewhereWhenThePlaceIsDown) {
  if (!GetParam().broken_backend) GTEST_SKIP() << "this place cannot be put out of order";
  TempDir elsewhere;
  auto [backend, repair] = GetParam().broken_backend(world().loop, world().clock, elsewhere.path());
  std::swap(world().backend, backend);
  TestSession session;
  SessionSpec spec;
  spec.session_id = "s-down";
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(world().TryOpen(session, spec, Duration(0), "").ok());
    EXPECT_EQ(session.facts.engine, "");
    session.engine.reset();
  }
  repair();
}

TEST_P(BackendContract, V71ARestartedDaemonTakesUpItsCommandsAtExactOffsets) {
  if (!capabilities().survives_daemon) GTEST_SKIP() << "the capability says so";
  Run("export A=kept");
  RunPtr run = world().Start(session(), kLines);
  ASSERT_TRUE(world().Until([run] { return run->out.size() > 3000; }));
  const std::string incarnation = session().facts.incarnation;
  world().RestartDaemon();
  EXPECT_EQ(session().facts.incarnation, incarnation);
  RunPtr again = world().Adopt(session(), run, run->offset[0], run->offset[1]);
  world().WaitEnd(again);
  EXPECT_EQ(run->out + again->out, Lines());
  ExpectExit(again, 7);
  EXPECT_EQ(Out("echo $A"), "kept\n");
}

TEST_P(BackendContract, V71WhereNothingIsKeptARestartedDaemonIsToldSoAndNothingRunsAgain) {
  if (capabilities().survives_daemon) GTEST_SKIP() << "the capability says so";
  const std::string file = "/tmp/hermes-contract-" + world().random.Hex(8);
  const std::string sleep = world().UniqueSeconds(60);
  CommandSpec spec;
  spec.run_id = world().random.Uuid();
  spec.script = "echo ran >> " + file + "; echo s; sleep " + sleep;
  RunPtr run = world().Start(session(), spec);
  ASSERT_TRUE(world().Until([run] { return run->out == "s\n"; }));
  world().RestartDaemon();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ReasonOf(world().Await(session().engine->Adopt(spec.run_id, 0, 0)).status()),
              Reason::k_COMMAND_UNKNOWN);
    EXPECT_EQ(ReasonOf(world().Await(session().engine->Start(spec)).status()),
              Reason::k_COMMAND_UNKNOWN);
  }
  EXPECT_EQ(Out("wc -l < " + file + "; rm " + file), "1\n");
  ExpectExit(Run("pkill -f 'sleep " + sleep + "'; true"), 0);  // where nobody else ends it
}

TEST_P(BackendContract, V71WhatACommandWroteAndHowItEndedMeanwhileIsKept) {
  if (!capabilities().survives_daemon) GTEST_SKIP() << "the capability says so";
  const std::string gate = "/tmp/hermes-contract-" + world().random.Hex(8);
  RunPtr run = world().Start(session(), "echo first; until [ -e " + gate +
                                            " ]; do sleep 0.02; done; yes 0123456789abcde | "
                                            "head -c 8000000; echo e >&2; exit 9");
  ASSERT_TRUE(world().Until([run] { return run->out == "first\n"; }));
  world().RestartDaemon();
  world().Run(session(), "touch " + gate);
  RunPtr again = world().Adopt(session(), run, 6, 0);
  world().WaitEnd(again);
  ASSERT_EQ(again->out.size(), 8'000'000u);
  for (size_t i = 0; i < again->out.size(); ++i) {
    ASSERT_EQ(again->out[i], "0123456789abcde\n"[i % 16]) << "at " << i;
  }
  EXPECT_EQ(again->err, "e\n");
  ExpectExit(again, 9);
  world().Run(session(), "rm " + gate);
}

TEST_P(BackendContract, V71AnUnknownRunIsSaidToBeUnknownAndNeverStartsLater) {
  CommandSpec spec;
  spec.run_id = world().random.Uuid();
  spec.script = "echo ran";
  absl::StatusOr<std::unique_ptr<Channel>> adopted =
      world().Await(session().engine->Adopt(spec.run_id, 0, 0));
  EXPECT_EQ(ReasonOf(adopted.status()), Reason::k_COMMAND_UNKNOWN);
  if (!capabilities().survives_daemon) {
    EXPECT_EQ(ReasonOf(world().Await(session().engine->Start(spec)).status()),
              Reason::k_COMMAND_UNKNOWN);
    return;
  }
  RunPtr run = world().Run(session(), spec);
  EXPECT_EQ(run->out, "");
  EXPECT_NE(run->outcome->state, CommandState::kExited) << run->Told();
}

TEST_P(BackendContract, V71StdinGoesOnAfterARestart) {
  if (!capabilities().survives_daemon || !capabilities().stdin_stream) {
    GTEST_SKIP() << "the capability says so";
  }
  CommandSpec spec;
  spec.script = "cat";
  spec.stdin_open = true;
  RunPtr run = world().Start(session(), spec);
  ASSERT_TRUE(world().Write(run, 0, "one\n", false).ok());
  ASSERT_TRUE(world().Until([run] { return run->out == "one\n"; }));
  world().RestartDaemon();
  RunPtr again = world().Adopt(session(), run, run->offset[0], 0);
  ASSERT_TRUE(world().Write(again, 0, "one\ntwo\n", true).ok());
  world().WaitEnd(again);
  EXPECT_EQ(again->out, "two\n");
  ExpectExit(again, 0);
}

TEST_P(BackendContract, WhatNoRunIdNamesAnyMoreCanBeEndedAndTheSessionGoesOn) {
  const std::string sleep = world().UniqueSeconds(60);
  RunPtr run = Run("sleep " + sleep + " >/dev/null 2>&1 & export A=kept");
  ExpectExit(run, 0);
  ASSERT_EQ(world().AwaitArgument(session(), sleep, 1), 1);
  ASSERT_TRUE(world().Await(session().engine->EndLeftovers(milliseconds(200))).ok());
  EXPECT_EQ(world().CountArgument(session(), sleep), capabilities().residual_tracking ? 1 : 0);
  EXPECT_EQ(Run("echo $A")->out, "kept\n");
}

TEST_P(BackendContract, ClosingASessionKillsItsCommandsAndLeavesOthersAlone) {
  TestSession& closing = session();
  TestSession& other = world().Open();
  const std::string sleep = world().UniqueSeconds(60);
  RunPtr mine = world().Start(closing, "echo s; sleep " + sleep);
  RunPtr theirs = world().Start(other, "echo s; read -r x; sleep 0.5; echo done");
  ASSERT_TRUE(world().Until([&] { return mine->out == "s\n" && theirs->out.starts_with("s\n"); }));
  absl::StatusOr<TreeReport> closed = world().Await(closing.engine->Close(milliseconds(200)));
  ASSERT_TRUE(closed.ok()) << closed.status();
  EXPECT_EQ(closed->survivors, 0u);
  world().WaitDrained(mine);
  EXPECT_EQ(mine->outcome->state, CommandState::kKilled) << mine->Told();
  world().WaitEnd(theirs);
  EXPECT_EQ(theirs->out, "s\ndone\n");
  EXPECT_EQ(world().CountArgument(other, sleep), 0);
  absl::StatusOr<std::unique_ptr<Channel>> late =
      world().Await(closing.engine->Start({.run_id = "late", .script = "true"}));
  EXPECT_EQ(ReasonOf(late.status()), Reason::k_SESSION_NOT_READY);
  closing.engine.reset();
}

}  // namespace
}  // namespace hermes::contract
