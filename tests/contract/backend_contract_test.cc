// Vectors of running commands; the others are in the neighbouring files, the places that they run
// in are in *_places.cc.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "daemon/runtime/status.h"
#include "tests/contract/driver.h"

namespace hermes::contract {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HERMES_KEEPS_FREED_MEMORY true
#endif
#endif
#ifndef HERMES_KEEPS_FREED_MEMORY
#define HERMES_KEEPS_FREED_MEMORY false
#endif
constexpr bool kFreedMemoryIsKept = HERMES_KEEPS_FREED_MEMORY;  // by the address sanitizer

constexpr int kRounds = 30;

// The shortest that `round` takes, in as many rounds as it takes to be below `enough`, and at most
// kRounds: waiting for something that never comes would show in every round, a busy machine does
// not.
template <typename Round>
Duration Best(Duration enough, Round round) {
  Duration best = Duration::max();
  for (int i = 0; i < kRounds && best >= enough; ++i) best = std::min<Duration>(best, round());
  return best;
}

constexpr const char* kDay = "\xe6\x97\xa5";  // U+65E5

// The resident memory of this process.
uint64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0;
  file >> pages >> pages;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

TEST_P(BackendContract, V01ExactBytesAndExitZero) {
  RunPtr run = Run("printf exact");
  EXPECT_EQ(run->out, "exact");
  EXPECT_EQ(run->err, "");
  ExpectExit(run, 0);
  EXPECT_TRUE(run->started.has_value());
}

TEST_P(BackendContract, V02TrueSaysNothing) {
  RunPtr run = Run("true");
  EXPECT_EQ(run->out + run->err, "");
  ExpectExit(run, 0);
  world().WaitDrained(run);
}

TEST_P(BackendContract, V03TheExitCodeIsTheScriptsOwn) {
  ExpectExit(Run("exit 37"), 37);
  ExpectExit(Run("false"), 1);
}

TEST_P(BackendContract, V04ASignalIsReportedAsASignal) {
  RunPtr run = Run("kill -9 $$");
  EXPECT_EQ(run->outcome->state, CommandState::kExited) << run->Told();
  EXPECT_EQ(run->outcome->cause, Cause::kNatural);
  EXPECT_TRUE(run->outcome->signalled);
  EXPECT_EQ(run->outcome->value, 9);
}

TEST_P(BackendContract, V05StreamsAreApart) {
  if (!capabilities().split_stderr) GTEST_SKIP() << "the capability says so";
  RunPtr run = Run("echo A; echo B >&2");
  EXPECT_EQ(run->out, "A\n");
  EXPECT_EQ(run->err, "B\n");
}

TEST_P(BackendContract, V05MergedStreamsKeepTheirOrder) {
  CommandSpec spec;
  spec.script = "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done";
  spec.merge_stderr = true;
  if (!capabilities().merged_order) return ExpectRefused(spec);
  EXPECT_EQ(world().Run(session(), spec)->out, "o1\ne1\no2\ne2\no3\ne3\no4\ne4\no5\ne5\n");
}

TEST_P(BackendContract, V06WideCharactersSurviveAnyChunking) {
  std::string expected;
  for (int i = 0; i < 10'000; ++i) expected += kDay;
  EXPECT_EQ(Out("i=0; while [ $i -lt 10000 ]; do printf '\\346\\227\\245'; i=$((i+1)); done"),
            expected);
}

TEST_P(BackendContract, V07BinaryBytesArriveUnchanged) {
  EXPECT_EQ(Out("printf 'a\\377\\376b\\000c'"), std::string("a\xff\xfe"
                                                            "b\0c",
                                                            6));
}

TEST_P(BackendContract, V08AHundredMegabytesAreExactAndMemoryStaysBounded) {
  static constexpr std::string_view kLine = "0123456789abcde\n";
  const uint64_t size = static_cast<uint64_t>(Scaled(100'000'000));
  const uint64_t before = ResidentBytes();
  uint64_t most = before, next_look = 0, wrong = 0;
  RunPtr run = world().Start(session(), "yes 0123456789abcde | head -c " + std::to_string(size));
  run->keep = false;
  run->tap = [&](const DataEvent& data) {
    for (size_t i = 0; i < data.data.size(); ++i) {
      if (data.data[i] != kLine[(data.offset + i) % kLine.size()]) ++wrong;
    }
    if (data.offset < next_look) return;
    most = std::max(most, ResidentBytes());
    next_look = data.offset + (1 << 20);
  };
  world().WaitEnd(run);
  ExpectExit(run, 0);
  EXPECT_EQ(run->offset[0], size);
  EXPECT_EQ(wrong, 0u);
  if (!kFreedMemoryIsKept) EXPECT_LT(most - before, 64u << 20);
}

TEST_P(BackendContract, V08TheFirstOfManyBytesComesAtOnce) {
  EXPECT_LT(Best(milliseconds(50),
                 [this] {
                   RunPtr run = Run("yes 0123456789abcde | head -c 5000000");
                   EXPECT_EQ(run->offset[0], 5'000'000u);
                   return run->first_byte_at - run->asked;
                 }),
            milliseconds(50));
}

TEST_P(BackendContract, V09FirstBytesComeAtOnce) {
  EXPECT_LT(Best(milliseconds(100),
                 [this] {
                   RunPtr run =
                       world().Start(session(), "echo hi; sleep " + world().UniqueSeconds(60));
                   EXPECT_TRUE(world().Until([run] { return run->out == "hi\n"; }));
                   EXPECT_FALSE(run->outcome.has_value()) << "the output waited for the end";
                   EXPECT_TRUE(world().Kill(run, Duration(0)).ok());
                   return run->first_byte_at - run->asked;
                 }),
            milliseconds(100));
}

TEST_P(BackendContract, V10ABackgroundChildDoesNotDelayTheEnd) {
  const std::string sleep = world().UniqueSeconds(60);
  RunPtr run;
  EXPECT_LT(Best(seconds(1),
                 [&] {
                   run = Run("sleep " + sleep + " & echo x");
                   EXPECT_EQ(run->out, "x\n");
                   ExpectExit(run, 0);
                   return run->ended_at - run->asked;
                 }),
            seconds(1));
  if (!capabilities().residual_tracking) return;
  EXPECT_TRUE(run->outcome->residual);
  EXPECT_FALSE(run->drained);
  EXPECT_GE(world().AwaitArgument(session(), sleep, 1), 1) << "it lives on";
  ASSERT_TRUE(world().Kill(run, Duration(0)).ok());
  world().WaitDrained(run);
  EXPECT_EQ(world().CountArgument(session(), sleep), 0);
}

TEST_P(BackendContract, V11ADisownedSessionLeaderDoesNotDelayTheEnd) {
  const std::string sleep = world().UniqueSeconds(60);
  RunPtr run;
  EXPECT_LT(Best(seconds(1),
                 [&] {
                   run = Run("setsid sleep " + sleep + " & disown; echo x");
                   EXPECT_EQ(run->out, "x\n");
                   EXPECT_TRUE(world().Kill(run, Duration(0)).ok());
                   return run->ended_at - run->asked;
                 }),
            seconds(1));
  EXPECT_EQ(world().CountArgument(session(), sleep), 0);
}

TEST_P(BackendContract, TheEndWaitsAMomentForAChildThatHoldsTheOutput) {
  auto took = [this](const char* script) {
    RunPtr run = Run(script);
    ExpectExit(run, 0);
    if (!run->drained) world().Kill(run, Duration(0)).IgnoreError();
    return run->ended_at - run->asked;
  };
  const Duration alone = Best(Duration(0), [&] { return took("true"); });
  const Duration quiet = alone + milliseconds(5 + 20);  // the promise, and what a fork costs
  EXPECT_LT(Best(quiet, [&] { return took("sleep 60 & true"); }), quiet);
  const Duration busy = alone + milliseconds(50 + 50);
  EXPECT_LT(Best(busy, [&] { return took("while sleep 0.001; do echo x; done & true"); }), busy);
}

TEST_P(BackendContract, LaterBytesOfABackgroundChildStillArrive) {
  if (!capabilities().residual_tracking) GTEST_SKIP() << "the capability says so";
  const std::string gate = "/tmp/hermes-contract-" + world().random.Hex(8);
  RunPtr run = Run("(until [ -e " + gate + " ]; do sleep 0.02; done; echo late) & echo early");
  EXPECT_EQ(run->out, "early\n");
  Run("touch " + gate);
  world().WaitDrained(run);
  Run("rm " + gate);
  EXPECT_EQ(run->out, "early\nlate\n");
}

TEST_P(BackendContract, AProcessSubstitutionIsReadToItsEnd) {
  for (int i = 0; i < Scaled(50); ++i) {
    RunPtr run = Run("echo hi > >(cat)");
    world().WaitDrained(run);
    ASSERT_EQ(run->out, "hi\n") << "round " << i;
  }
}

TEST_P(BackendContract, V12AScriptOfOneMegabyteRuns) {
  std::string script = "n=0\n";
  while (script.size() < (1 << 20)) script += ": a line of a long script; n=$((n+1))\n";
  script += "echo end $n";
  const size_t lines = (script.size() - 4) / 38;
  RunPtr run = Run(script);
  EXPECT_EQ(run->out.substr(0, 4), "end ") << run->Told();
  EXPECT_GT(lines, 20'000u);
  ExpectExit(run, 0);
}

TEST_P(BackendContract, V13StdinArrivesByteForByte) {
  if (!capabilities().stdin_stream) GTEST_SKIP() << "the capability says so";
  std::string data;
  while (data.size() < 3'000'000) {
    data += std::string_view("line\r\n\0\xff", 8);
    data.push_back(static_cast<char>(data.size()));
  }
  data.resize(3'000'000);
  data.back() = 'x';  // no final newline
  CommandSpec spec;
  spec.script = "cat";
  spec.stdin_open = true;
  RunPtr run = world().Start(session(), spec);
  ASSERT_TRUE(world().Write(run, 0, data, true).ok());
  world().WaitEnd(run);
  ExpectExit(run, 0);
  EXPECT_TRUE(run->out == data) << run->out.size() << " bytes came back";
  spec.script = "wc -c";
  RunPtr count = world().Start(session(), spec);
  ASSERT_TRUE(world().Write(count, 0, data, true).ok());
  world().WaitEnd(count);
  EXPECT_EQ(count->out, "3000000\n");
}

TEST_P(BackendContract, V14WithoutStdinThereIsEndOfFileAtOnce) {
  RunPtr run = Run("cat; echo done");
  EXPECT_EQ(run->out, "done\n");
}

TEST_P(BackendContract, ARefusedWriteSaysThatStdinIsClosed) {
  RunPtr run = world().Start(session(), "sleep 5");
  EXPECT_EQ(world().Write(run, 0, "x", false).code(), absl::StatusCode::kFailedPrecondition);
  world().Kill(run, Duration(0)).IgnoreError();
}

TEST_P(BackendContract, V15TheTimeoutEndsTheTreeOverThere) {
  const std::string sleep = world().UniqueSeconds(77);
  CommandSpec spec;
  spec.script = "echo s; sleep " + sleep;
  spec.run_timeout = seconds(2);
  spec.kill_grace = milliseconds(200);
  EXPECT_LT(Best(seconds(3),
                 [&] {
                   RunPtr run = world().Run(session(), spec);
                   EXPECT_EQ(run->out, "s\n");
                   EXPECT_EQ(run->outcome->state, CommandState::kKilled) << run->Told();
                   EXPECT_EQ(run->outcome->cause, Cause::kRunTimeout);
                   EXPECT_GE(run->ended_at - run->asked, seconds(2));
                   EXPECT_EQ(world().CountArgument(session(), sleep), 0);
                   return run->ended_at - run->asked;
                 }),
            seconds(3));
}

TEST_P(BackendContract, V16CancelEndsTheTreeOverThere) {
  const std::string sleep = world().UniqueSeconds(77);
  RunPtr run = world().Start(session(), "echo s; sleep " + sleep);
  ASSERT_TRUE(world().Until([run] { return run->out == "s\n"; }));
  absl::StatusOr<TreeReport> report = world().Kill(run, milliseconds(500));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->survivors, 0u);
  EXPECT_EQ(report->verified, capabilities().kill_verified);
  EXPECT_EQ(report->method, capabilities().kill_method);
  world().WaitEnd(run);
  EXPECT_EQ(run->outcome->state, CommandState::kKilled) << run->Told();
  EXPECT_EQ(run->outcome->cause, Cause::kCancelled);
  EXPECT_EQ(world().CountArgument(session(), sleep), 0);
}

TEST_P(BackendContract, V16CancelBeforeTheStartIsKnownEndsTheTreeOverThere) {
  const std::string sleep = world().UniqueSeconds(77);
  for (int round = 0; round < 5; ++round) {
    RunPtr run = world().Start(session(), "sleep " + sleep + " & sleep " + sleep);
    ASSERT_FALSE(run->started) << "nothing was read yet";
    absl::StatusOr<TreeReport> report = world().Kill(run, milliseconds(200));
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->survivors, 0u);
    world().WaitEnd(run);
    EXPECT_EQ(run->outcome->state, CommandState::kKilled) << run->Told();
    EXPECT_EQ(run->outcome->cause, Cause::kCancelled);
    world().WaitDrained(run);
  }
  EXPECT_EQ(world().CountArgument(session(), sleep), 0);
}

TEST_P(BackendContract, V17ACommandThatIgnoresTermIsKilledAfterTheGrace) {
  static constexpr Duration kGrace = milliseconds(700);
  const Duration taken = Best(kGrace + seconds(1), [this] {
    RunPtr run = world().Start(session(), "trap '' TERM; echo s; sleep 60");
    EXPECT_TRUE(world().Until([run] { return run->out == "s\n"; }));
    const SteadyTime asked = world().clock.Now();
    EXPECT_TRUE(world().Kill(run, kGrace).ok());
    world().WaitEnd(run);
    EXPECT_EQ(run->outcome->state, CommandState::kKilled) << run->Told();
    return run->ended_at - asked;
  });
  EXPECT_GE(taken, kGrace);
  EXPECT_LT(taken, kGrace + seconds(1));
}

TEST_P(BackendContract, V18AChildThatLeftTheSessionIsGoneToo) {
  const std::string sleep = world().UniqueSeconds(60);
  RunPtr run = world().Start(
      session(), "setsid sh -c 'env -i sleep " + sleep + "; :' & echo s; sleep " + sleep);
  ASSERT_TRUE(world().Until([run] { return run->out == "s\n"; }));
  absl::StatusOr<TreeReport> report = world().Kill(run, milliseconds(200));
  ASSERT_TRUE(report.ok()) << report.status();
  const int left = world().CountArgument(session(), sleep);
  EXPECT_EQ(left, static_cast<int>(report->survivors)) << "gone, or reported";
  if (capabilities().kill_verified) EXPECT_EQ(left, 0);
}

TEST_P(BackendContract, V19NaturalCodesAreNotTakenForKills) {
  ExpectExit(Run("exit 130"), 130);
  ExpectExit(Run("exit 124"), 124);
  ExpectExit(Run("exit 137"), 137);
}

TEST_P(BackendContract, V21ARunIdStartsOneProcess) {
  CommandSpec spec;
  spec.run_id = world().random.Uuid();
  const std::string file = "/tmp/hermes-contract-" + spec.run_id;
  spec.script = "echo ran >> " + file + "; sleep 0.2; wc -l < " + file;
  RunPtr first = world().Start(session(), spec);
  ASSERT_TRUE(world().Until([first] { return first->started.has_value(); }));
  first->channel->Abandon();
  ASSERT_TRUE(world().Until([first] { return !first->reading; }));
  first->channel.reset();
  RunPtr second = world().Run(session(), spec);
  EXPECT_EQ(second->out, "1\n");
  ExpectExit(second, 0);
  world().WaitDrained(second);
  Run("rm -f " + file);
}

// What one command gave that it should not have; empty: nothing.
Task<std::string> RunMarked(World* world, Engine* engine, std::string mark, bool says_it) {
  CommandSpec spec;
  spec.run_id = world->random.Uuid();
  spec.script = says_it ? "echo " + mark : "true";
  absl::StatusOr<std::unique_ptr<Channel>> channel = co_await engine->Start(std::move(spec));
  if (!channel.ok()) co_return mark + " does not start: " + std::string(channel.status().message());
  TestRun run;
  while (!run.drained) {
    absl::StatusOr<ChannelEvent> event = co_await (*channel)->Read();
    if (!event.ok()) co_return mark + " breaks: " + std::string(event.status().message());
    if (DataEvent* data = std::get_if<DataEvent>(&*event)) {
      (data->stream == OutputStream::kStdout ? run.out : run.err) += data->data;
    }
    if (EndedEvent* ended = std::get_if<EndedEvent>(&*event)) run.outcome = ended->outcome;
    run.drained = std::holds_alternative<DrainedEvent>(*event);
  }
  (*channel)->Forget();
  const bool right = run.outcome && run.outcome->state == CommandState::kExited &&
                     run.outcome->value == 0 && run.err.empty() &&
                     run.out == (says_it ? mark + "\n" : "");
  co_return right ? "" : mark + ": " + run.Told() + "; stdout: " + run.out;
}

Task<std::string> Worker(World* world, Engine* engine, int worker, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    const std::string mark = std::to_string(worker) + "-" + std::to_string(i);
    std::string wrong = co_await RunMarked(world, engine, mark, i % 10 == 0);
    if (!wrong.empty()) co_return wrong;
  }
  co_return "";
}

TEST_P(BackendContract, V23EightTimesAThousandCommandsDoNotMix) {
  constexpr int kWorkers = 8;
  int done = 0;
  for (int i = 0; i < kWorkers; ++i) {
    asio::co_spawn(world().loop.executor(),
                   Worker(&world(), session().engine.get(), i, Scaled(1000)),
                   [&, this](std::exception_ptr, const std::string& wrong) {
                     ++done;
                     EXPECT_EQ(wrong, "");
                     world().Poke();
                   });
  }
  ASSERT_TRUE(world().Until([&] { return done == kWorkers; }, seconds(150)));
}

TEST_P(BackendContract, V37SecretsAreInNobodysArguments) {
  constexpr const char* kSecret = "s3cret-of-the-test";
  session().engine->SetSudoPassword(kSecret);
  CommandSpec spec;
  spec.script = "echo ready $PLAIN_VALUE | cut -c1-5; sleep 30; : $SECRET_VALUE";
  spec.secret_env = {{"SECRET_VALUE", kSecret}};
  spec.env = {{"PLAIN_VALUE", "s3cret-of-the-test-too"}};
  RunPtr run = world().Start(session(), spec);
  ASSERT_TRUE(world().Until([run] { return run->out == "ready\n"; }));
  EXPECT_EQ(Out("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c '[s]3cret-of'"),
            "0\n");
  EXPECT_EQ(Out("env | grep -c '[s]3cret-of'"), "0\n") << "it must not stay in the session";
  world().Kill(run, Duration(0)).IgnoreError();
}

TEST_P(BackendContract, V72ABackgroundCommandRunsInItsDirectoryAndEndsWithItsCode) {
  CommandSpec spec;
  spec.script = "pwd; exit 7";
  spec.cwd = "/usr";
  EXPECT_LT(Best(milliseconds(50),
                 [&] {
                   RunPtr run = world().Run(session(), spec);
                   EXPECT_EQ(run->out, "/usr\n");
                   ExpectExit(run, 7);
                   return run->started_at - run->asked;
                 }),
            milliseconds(50));
}

TEST_P(BackendContract, V72StdinIsWrittenWhileItRunsAndClosed) {
  if (!capabilities().stdin_stream) GTEST_SKIP() << "the capability says so";
  CommandSpec spec;
  spec.script = "while read -r line; do echo got $line; done; echo over";
  spec.stdin_open = true;
  RunPtr run = world().Start(session(), spec);
  ASSERT_TRUE(world().Write(run, 0, "one\n", false).ok());
  ASSERT_TRUE(world().Until([run] { return run->out == "got one\n"; }));
  ASSERT_TRUE(world().Write(run, 0, "one\ntwo\n", false).ok()) << "what was taken is skipped";
  ASSERT_TRUE(world().Until([run] { return run->out == "got one\ngot two\n"; }));
  ASSERT_TRUE(world().Write(run, 8, "", true).ok());
  world().WaitEnd(run);
  EXPECT_EQ(run->out, "got one\ngot two\nover\n");
}

TEST_P(BackendContract, V72ATerminalHasASizeThatChanges) {
  CommandSpec spec;
  spec.script = "test -t 0 && stty size; read -r go; stty size; echo $TERM";
  spec.stdin_open = true;
  spec.pty = PtySize{100, 30, "xterm"};
  if (!capabilities().pty) return ExpectRefused(spec);
  RunPtr run = world().Start(session(), spec);
  ASSERT_TRUE(world().Until([run] { return run->out.find("30 100") != std::string::npos; }))
      << run->Told();
  ASSERT_TRUE(run->channel->Resize(120, 40).ok());
  ASSERT_TRUE(world().Write(run, 0, "go\n", false).ok());
  world().WaitEnd(run);
  EXPECT_NE(run->out.find("40 120\r\nxterm\r\n"), std::string::npos) << run->out;
  ExpectExit(run, 0);
}

TEST_P(BackendContract, V72SignalsReachTheWholeTree) {
  RunPtr run = world().Start(session(), "trap 'echo hup; exit 5' HUP; echo s; sleep 60 & wait");
  ASSERT_TRUE(world().Until([run] { return run->out == "s\n"; }));
  ASSERT_TRUE(run->channel->Signal(SIGHUP, 0).ok());
  world().WaitEnd(run);
  EXPECT_EQ(run->out, "s\nhup\n");
  ExpectExit(run, 5);
}

TEST_P(BackendContract, V72AProgramThatIsNotThereIsATypedFailure) {
  CommandSpec spec;
  spec.argv = {"/no/such/program"};
  if (!capabilities().argv) return ExpectRefused(spec);
  RunPtr run = world().Run(session(), spec);
  EXPECT_EQ(run->outcome->state, CommandState::kNeverStarted) << run->Told();
  EXPECT_EQ(run->outcome->cause, Cause::kLaunchFailed);
  EXPECT_EQ(run->outcome->launch_stage, LaunchStage::kNotFound);
  EXPECT_EQ(run->outcome->launch_errno, ENOENT);
  spec.argv = {"/etc/passwd"};
  EXPECT_EQ(world().Run(session(), spec)->outcome->launch_stage, LaunchStage::kNotExecutable);
}

TEST_P(BackendContract, ArgumentsAreTakenAsTheyAreWithoutAShell) {
  CommandSpec spec;
  spec.argv = {"printf", "%s|", "a b", "$HOME", "*", "", "-n", "'\""};
  if (!capabilities().argv) return ExpectRefused(spec);
  EXPECT_EQ(world().Run(session(), spec)->out, "a b|$HOME|*||-n|'\"|");
}

}  // namespace
}  // namespace hermes::contract
