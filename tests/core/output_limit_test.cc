// What becomes of a command whose output does not fit, by its policy: at its limit, and while the
// disk is full.

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "tests/core/session_fixture.h"

namespace hermes {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr uint64_t kLimit = 256 << 10;
constexpr uint64_t kWindow = 128 << 10;
constexpr uint64_t kInMemory = kInlineBytes;  // what needs no disk

class OutputLimitTest : public SessionTest {
 protected:
  void SetUp() override {
    host_.place.output_window = kWindow;
    ASSERT_TRUE(daemon_->Create("s").ok());
  }

  std::shared_ptr<CommandRun> Start(Overflow overflow, const std::string& script,
                                    const std::string& id = "id-1") {
    StartCommand request = MakeStart("s", script, id);
    request.output = {.limit_bytes = kLimit, .overflow = overflow};
    auto started = daemon_->Await(daemon_->table.Start(std::move(request)));
    EXPECT_TRUE(started.ok()) << started.status();
    return started->run;
  }

  void RunToEndOf(Overflow overflow, const std::string& id, const std::string& script) {
    auto run = Start(overflow, script, id);
    ASSERT_TRUE(daemon_->RunUntil([&] { return run->drained(); }));
  }

  // A folder that is none: no output finds room until it is one.
  void FillDisk() {
    host_.spool_dir = dir_.path() + "/spool";
    std::ofstream(host_.spool_dir) << "in the way";
    Restart();
  }
  void MakeRoom() { std::filesystem::remove(host_.spool_dir); }

  static std::string First(uint64_t count) {
    std::string text;
    for (uint64_t i = 0; i < count; ++i) text += PatternByte("id-1", OutputStream::kStdout, i);
    return text;
  }

  // What a reader is told of the ended command.
  std::string Told(std::shared_ptr<CommandRun> run) {
    auto reader = daemon_->Follow(std::move(run));
    daemon_->RunUntil([&] { return reader->result.has_value(); });
    return reader->sink->Text(OutputStream::kStdout);
  }
};

TEST_F(OutputLimitTest, UnderBlockProcessTheCommandWaitsAndNothingIsDropped) {
  auto run = Start(Overflow::kBlockProcess, "outn 1000000;exit 0");
  auto reader = daemon_->Follow(run);
  daemon_->Pass(minutes(60));
  EXPECT_EQ(run->info().state, CommandState::kRunning);
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout), First(kLimit));
  const FakeCommand& command = *host_.place.commands.at("id-1");
  EXPECT_EQ(command.acked[0], kLimit) << "what was not kept was acknowledged";
  auto report = daemon_->Await(run->Kill(seconds(1), Cause::kCancelled));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(run->info().state, CommandState::kKilled);
  EXPECT_EQ(run->info().outcome->cause, Cause::kCancelled);
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout), First(kLimit) + "[GAP]");
  EXPECT_EQ(run->info().produced.offset[0], kLimit + kWindow) << "the gap is not all of it";
}

TEST_F(OutputLimitTest, WhatIsNotKeptIsCountedOnceWhateverTheReason) {
  RunToEndOf(Overflow::kDropMiddle, "id-1", "outn 1000000;exit 0");
  EXPECT_EQ(daemon_->stats.output_bytes_dropped, 1'000'000 - kLimit) << "trimmed";
  RunToEndOf(Overflow::kBlockProcess, "id-2", "outn 300000;exit 0");
  EXPECT_EQ(daemon_->stats.output_bytes_dropped, 1'300'000 - 2 * kLimit) << "refused at its end";
  Restart();
  RunToEndOf(Overflow::kDropMiddle, "id-1", "outn 1000000;exit 0");
  EXPECT_EQ(daemon_->stats.output_bytes_dropped, 0u) << "an earlier daemon has counted it";
}

TEST_F(OutputLimitTest, UnderBlockProcessATimeoutOverThereEndsTheCommandThatWaits) {
  auto run = Start(Overflow::kBlockProcess, "timeout 5000;outn 1000000;exit 0");
  ASSERT_TRUE(daemon_->RunUntil([&] { return run->ended(); }, seconds(10)));
  EXPECT_EQ(run->info().outcome->cause, Cause::kRunTimeout);
  EXPECT_EQ(Told(run), First(kLimit) + "[GAP]");
}

TEST_F(OutputLimitTest, UnderBlockProcessARestartChangesNothing) {
  Start(Overflow::kBlockProcess, "outn 1000000;exit 0");
  daemon_->Pass(minutes(1));
  Restart();
  auto run = Start(Overflow::kBlockProcess, "outn 1000000;exit 0");
  auto reader = daemon_->Follow(run);
  daemon_->Pass(minutes(60));
  EXPECT_EQ(run->info().state, CommandState::kRunning);
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout), First(kLimit));
  EXPECT_TRUE(Close("s").ok());
  EXPECT_EQ(run->info().state, CommandState::kKilled);
  EXPECT_EQ(host_.place.starts["id-1"], 1);
}

TEST_F(OutputLimitTest, UnderBlockProcessARestThatFitsTheWindowIsAGapAtTheEnd) {
  auto run = Start(Overflow::kBlockProcess, "outn 300000;exit 3");
  ASSERT_TRUE(daemon_->RunUntil([&] { return run->ended(); }, seconds(10)));
  EXPECT_EQ(run->info().outcome->value, 3);
  EXPECT_EQ(Told(run), First(kLimit) + "[GAP]");
  EXPECT_EQ(run->info().produced.offset[0], 300000u);
}

TEST_F(OutputLimitTest, UnderBlockProcessAFullDiskHoldsTheCommandUntilThereIsRoom) {
  FillDisk();
  auto run = Start(Overflow::kBlockProcess, "outn 200000;exit 3");
  auto reader = daemon_->Follow(run);
  daemon_->Pass(minutes(60));
  EXPECT_EQ(run->info().state, CommandState::kRunning);
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout), First(kInMemory));
  EXPECT_EQ(host_.place.commands.at("id-1")->acked[0], 0u);
  MakeRoom();
  ASSERT_TRUE(daemon_->RunUntil([&] { return reader->result.has_value(); }, seconds(10)));
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout), First(200000));
  EXPECT_EQ(run->info().outcome->value, 3);
}

TEST_F(OutputLimitTest, UnderBlockProcessAKillAndATimeoutDoNotWaitForAFullDisk) {
  FillDisk();
  auto run = Start(Overflow::kBlockProcess, "outn 200000;exit 3");
  daemon_->Pass(minutes(1));
  ASSERT_TRUE(daemon_->Await(run->Kill(seconds(1), Cause::kCancelled), seconds(10)).ok());
  EXPECT_EQ(run->info().outcome->cause, Cause::kCancelled);
  EXPECT_EQ(Told(run), First(kInMemory) + "[GAP]");

  StartCommand request = MakeStart("s", "timeout 5000;outn 200000;exit 3", "id-2");
  request.output = {.limit_bytes = kLimit, .overflow = Overflow::kBlockProcess};
  run = daemon_->Await(daemon_->table.Start(std::move(request)))->run;
  ASSERT_TRUE(daemon_->RunUntil([&] { return run->ended(); }, seconds(10)));
  EXPECT_EQ(run->info().outcome->cause, Cause::kRunTimeout);
}

// It has exited over there, and only its last bytes are not kept yet.
TEST_F(OutputLimitTest, UnderBlockProcessAnEndByItselfWaitsForRoomUnlessItIsCancelled) {
  FillDisk();
  auto run = Start(Overflow::kBlockProcess, "outn 100000;exit 3");
  daemon_->Pass(minutes(60));
  EXPECT_FALSE(run->ended()) << "told before its output was kept";
  ASSERT_TRUE(daemon_->Await(run->Kill(seconds(1), Cause::kCancelled), seconds(10)).ok());
  EXPECT_EQ(run->info().state, CommandState::kExited);
  EXPECT_EQ(Told(run), First(kInMemory) + "[GAP]");
}

TEST_F(OutputLimitTest, UnderKillAFullDiskIsALimitLikeAnother) {
  FillDisk();
  auto run = Start(Overflow::kKill, "outn 200000;hang");
  ASSERT_TRUE(daemon_->RunUntil([&] { return run->ended(); }, seconds(10)));
  EXPECT_EQ(run->info().state, CommandState::kKilled);
  EXPECT_EQ(run->info().outcome->cause, Cause::kOutputLimit);
  EXPECT_EQ(Told(run), First(kInMemory) + "[GAP]");
  Restart();
  EXPECT_EQ(Told(Start(Overflow::kKill, "outn 200000;hang")), First(kInMemory) + "[GAP]");
}

}  // namespace
}  // namespace hermes
