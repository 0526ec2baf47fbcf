// What readers of a command see, and what they cost the command and each other.

#include <algorithm>
#include <chrono>
#include <string>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/core/follow.h"
#include "tests/core/session_fixture.h"

namespace hermes {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

class SessionReaderTest : public SessionTest {};

TEST_F(SessionReaderTest, OutputLimitWithKillPolicyEndsTheCommandTyped) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  StartCommand request = MakeStart("s", "outn 400000;hang", "id-1");
  request.output = {.limit_bytes = 256 << 10, .overflow = Overflow::kKill};
  auto started = daemon_->Await(daemon_->table.Start(std::move(request)));
  auto reader = daemon_->Follow(started->run);
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  EXPECT_EQ(reader->sink->finished()->outcome->cause, Cause::kOutputLimit);
  std::string text = reader->sink->Text(OutputStream::kStdout);
  EXPECT_EQ(text.size(), (256u << 10) + 5) << "the first 256 KiB, then [GAP]";
}

TEST_F(SessionReaderTest, DroppedMiddleIsAGapWithBothEnds) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  StartCommand request = MakeStart("s", "outn 1000000", "id-1");
  request.output.limit_bytes = 256 << 10;
  auto started = daemon_->Await(daemon_->table.Start(std::move(request)));
  daemon_->RunUntil([&] { return started->run->ended(); });
  auto reader = daemon_->Follow(started->run);
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  uint64_t at = 0;
  int gaps = 0;
  for (const CommandEvent& event : reader->sink->events) {
    if (const auto* gap = std::get_if<GapPiece>(&event)) {
      EXPECT_EQ(gap->from, at);
      at = gap->to;
      ++gaps;
    } else if (const auto* piece = std::get_if<OutputPiece>(&event)) {
      ASSERT_EQ(piece->offset, at);
      for (char c : piece->data) ASSERT_EQ(c, PatternByte("id-1", OutputStream::kStdout, at++));
    }
  }
  EXPECT_EQ(at, 1000000u);
  EXPECT_EQ(gaps, 1);
}

// What a reader that takes one event per 50 ms sees of `writes` writes, one per 50 ms.
std::vector<GapPiece> GapsOfASlowReader(FakeDaemon& daemon, int writes) {
  std::string script;
  for (int i = 0; i < writes; ++i) script += "outn 50000;sleep 10;";
  StartCommand request = MakeStart("s", script, "id-1");
  request.output.limit_bytes = 256 << 10;
  auto started = daemon.Await(daemon.table.Start(std::move(request)));
  auto reader = daemon.Follow(started->run, {}, std::chrono::milliseconds(50));
  daemon.RunUntil([&] { return reader->result.has_value(); });
  std::vector<GapPiece> gaps;
  uint64_t at = 0;
  for (const CommandEvent& event : reader->sink->events) {
    if (const auto* gap = std::get_if<GapPiece>(&event)) {
      EXPECT_EQ(gap->from, at);
      at = gap->to;
      gaps.push_back(*gap);
    } else if (const auto* piece = std::get_if<OutputPiece>(&event)) {
      EXPECT_EQ(piece->offset, at);
      at += piece->data.size();
    }
  }
  EXPECT_EQ(at, static_cast<uint64_t>(writes) * 50000);
  return gaps;
}

TEST_F(SessionReaderTest, ReaderThatFallsBehindSeesHeadOneGapAndTail) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  std::vector<GapPiece> gaps = GapsOfASlowReader(*daemon_, 40);
  ASSERT_EQ(gaps.size(), 1u);
  EXPECT_GE(gaps[0].from, 128u << 10);
  EXPECT_EQ(gaps[0].to, 40u * 50000 - (128 << 10));
}

TEST_F(SessionReaderTest, ReaderThatStaysBehindHearsOfFewGapsAndGetsOn) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  const size_t gaps = GapsOfASlowReader(*daemon_, 200).size();
  EXPECT_GE(gaps, 2u) << "it hears nothing until the end";
  EXPECT_LE(gaps, 3u);
}

TEST_F(SessionReaderTest, SlowReaderDelaysNeitherTheCommandNorAnotherReader) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto started = daemon_->Start("s", "outn 500000;sleep 10;outn 500000");
  auto slow = daemon_->Follow(started->run, {}, minutes(1));
  auto fast = daemon_->Follow(started->run);
  daemon_->RunUntil([&] { return fast->result.has_value(); }, seconds(5));
  EXPECT_EQ(fast->sink->Text(OutputStream::kStdout).size(), 1000000u);
  EXPECT_FALSE(slow->result.has_value());
  daemon_->RunUntil([&] { return slow->result.has_value(); });
  EXPECT_EQ(slow->sink->Text(OutputStream::kStdout).size(), 1000000u);
}

// A flood of 24 MB, of which 8 MiB are kept, read at 240 KiB per 0.2 ms.
TEST_F(SessionReaderTest, ReaderThatKeepsUpSeesEveryByteOfAFloodThatIsNotKept) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  StartCommand request = MakeStart("s", "sleep 10;outn 24000000", "id-1");
  request.output.limit_bytes = 8 << 20;
  auto started = daemon_->Await(daemon_->table.Start(std::move(request)));
  auto reader = daemon_->Follow(started->run, {}, std::chrono::microseconds(200));
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout).size(), 24000000u) << "[GAP] in it";
}

TEST_F(SessionReaderTest, ReaderThatIsStuckDoesNotHoldAFlood) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  StartCommand request = MakeStart("s", "sleep 10;outn 24000000", "id-1");
  request.output.limit_bytes = 8 << 20;
  auto started = daemon_->Await(daemon_->table.Start(std::move(request)));
  auto stuck = daemon_->Follow(started->run, {}, minutes(1));
  const SteadyTime begun = daemon_->clock.Now();
  daemon_->RunUntil([&] { return started->run->ended(); });
  EXPECT_LT(daemon_->clock.Now() - begun, seconds(11));
  EXPECT_FALSE(stuck->result.has_value());
}

TEST_F(SessionReaderTest, CursorBeyondTheEndIsRefusedByName) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto started = daemon_->Start("s", "out abc");
  daemon_->RunUntil([&] { return started->run->ended(); });
  auto reader = daemon_->Follow(started->run, Cursor{{4, 0}});
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  EXPECT_EQ(ReasonOf(reader->result->status()), Reason::k_OFFSET_BEYOND_END);
  EXPECT_EQ(MetadataOf(reader->result->status())["end"], "3");
}

TEST_F(SessionReaderTest, BeatsProveThatASilentStreamLives) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto started = daemon_->Start("s", "sleep 100000");
  auto reader = daemon_->Follow(started->run);
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  int beats = 0;
  for (const CommandEvent& event : reader->sink->events)
    beats += std::holds_alternative<BeatInfo>(event) ? 1 : 0;
  EXPECT_EQ(beats, 6);
}

// After a restart: the client has seen more than what came from the far side so far.
TEST_F(SessionReaderTest, ACursorThatWaitsForItsBytesIsToldThatItsStreamLives) {
  constexpr char kScript[] = "out abc;sleep 100000;out def";
  ASSERT_TRUE(daemon_->Create("s").ok());
  ASSERT_TRUE(daemon_->Start("s", kScript, "id-1").ok());
  Restart();
  auto run = daemon_->Start("s", kScript, "id-1")->run;
  auto reader = daemon_->Follow(run, Cursor{{5, 0}});
  auto gone = daemon_->Follow(run, Cursor{{5, 0}});
  gone->sink->gone = true;
  daemon_->Pass(seconds(1));
  host_.place.tell_reachable.at("s")(false);
  daemon_->Pass(seconds(1));
  host_.place.tell_reachable.at("s")(true);
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  size_t beats = 0, phases = 0, started = 0;
  for (const CommandEvent& event : reader->sink->events) {
    started += std::holds_alternative<StartedInfo>(event);
    if (started > 0) break;
    beats += std::holds_alternative<BeatInfo>(event);
    const auto* phase = std::get_if<PhaseInfo>(&event);
    phases += phase != nullptr && phase->name == "reconnecting";
  }
  EXPECT_EQ(beats, 6u);
  EXPECT_EQ(phases, 1u);
  EXPECT_EQ(started, 1u);
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout), "f");
  EXPECT_EQ(**gone->result, Follower::Result::kReaderGone);
  EXPECT_EQ(gone->sink->events.size(), 1u);
}

TEST_F(SessionReaderTest, ReaderIsToldWhenThePlaceIsAwayForLong) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  auto reader = daemon_->Follow(daemon_->Start("s", "out a;sleep 20000;out b")->run);
  const auto told = [&reader] {
    int count = 0;
    for (const CommandEvent& event : reader->sink->events) {
      const auto* phase = std::get_if<PhaseInfo>(&event);
      count += phase != nullptr && phase->name == "reconnecting" ? 1 : 0;
    }
    return count;
  };
  const auto tell = [this](bool reachable) {
    host_.place.tell_reachable.at("s")(reachable);
    daemon_->loop.RunReady();
  };
  daemon_->Pass(seconds(1));
  tell(false);
  daemon_->Pass(kPhaseAfter - std::chrono::milliseconds(1));
  tell(true);
  daemon_->Pass(seconds(1));
  EXPECT_EQ(told(), 0) << "a short wait is no news";
  tell(false);
  daemon_->Pass(seconds(10));
  EXPECT_EQ(told(), 1);
  tell(true);
  tell(false);
  daemon_->Pass(seconds(1));
  EXPECT_EQ(told(), 2) << "it was there meanwhile";
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout), "ab");
}

TEST_F(SessionReaderTest, TheFirstBytesGoAtOnceAndLaterOnesAreGatheredFor10Milliseconds) {
  ASSERT_TRUE(daemon_->Create("s").ok());
  std::string script = "out first";
  for (int i = 0; i < 50; ++i) script += ";sleep 2;out x";
  auto started = daemon_->Start("s", script);
  auto reader = daemon_->Follow(started->run);
  const auto pieces = [&reader] {
    return std::count_if(
        reader->sink->events.begin(), reader->sink->events.end(),
        [](const CommandEvent& event) { return std::holds_alternative<OutputPiece>(event); });
  };
  daemon_->loop.RunReady();
  EXPECT_EQ(pieces(), 1) << "the first bytes waited";
  daemon_->RunUntil([&] { return reader->result.has_value(); });
  EXPECT_EQ(reader->sink->Text(OutputStream::kStdout), "first" + std::string(50, 'x'));
  EXPECT_GE(pieces(), 1 + 100 / 12) << "held for longer than 10 ms";
  EXPECT_LE(pieces(), 2 + 100 / 10) << "every byte went alone";
}

}  // namespace
}  // namespace hermes
