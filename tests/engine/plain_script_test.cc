// A plain command whose place the test plays: the shell that says nothing, the end that comes while
// a kill is on its way, in time that the test moves.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/engine/plain_command.h"
#include "backends/engine/plain_engine.h"
#include "backends/engine/plain_text.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/go.h"

namespace hermes {
namespace {

using std::chrono::seconds;

// One program that was started over there: what it was told, and what it says.
struct Program {
  explicit Program(Loop& loop) : changed(loop) {}
  // The marks in the order in which the text has them: the end's, the start's.
  std::string Mark(size_t which) const {
    std::vector<std::string> marks;
    for (size_t at = told.find(plain::kMarkByte); at != std::string::npos;
         at = told.find(plain::kMarkByte, at + 1)) {
      marks.push_back(told.substr(at, told.find('\'', at) - at));
    }
    return which < marks.size() ? marks[which] : "";
  }
  void Say(OutputStream where, const std::string& text) {
    said[static_cast<size_t>(where)] += text;
    changed.NotifyAll();
  }
  void End() {
    over = true;
    changed.NotifyAll();
  }

  std::string told;
  std::string said[kOutputStreams];
  bool over = false;
  Event changed;
};
using ProgramPtr = std::shared_ptr<Program>;

class ProgramStream : public Stream {
 public:
  explicit ProgramStream(ProgramPtr program) : program_(std::move(program)) {}
  ~ProgramStream() override { program_->End(); }
  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    return ReadFrom(program_, 0, into);
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override {
    return ReadFrom(program_, 1, into);
  }
  Task<absl::Status> Write(std::string_view data) override {
    program_->told += data;
    program_->changed.NotifyAll();
    co_return absl::OkStatus();
  }
  void CloseStdin() override {}
  void Abort() override { program_->End(); }
  Task<std::optional<End>> WaitEnd() override { co_return std::nullopt; }

 private:
  static Task<absl::StatusOr<size_t>> ReadFrom(ProgramPtr program, size_t which,
                                               std::span<char> into) {
    while (program->said[which].empty() && !program->over) co_await program->changed.Wait();
    const size_t bytes = program->said[which].copy(into.data(), into.size());
    program->said[which].erase(0, bytes);
    co_return bytes;
  }

  ProgramPtr program_;
};

class ScriptedSandbox : public Sandbox {
 public:
  explicit ScriptedSandbox(Loop& loop) : loop_(loop) {}

  std::vector<ProgramPtr> commands, others;

  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string, Lane lane,
                                                           WishPtr) override {
    auto program = std::make_shared<Program>(loop_);
    (lane == Lane::kCommand ? commands : others).push_back(program);
    co_return std::make_unique<ProgramStream>(program);
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "there is no runner");
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane, WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "there is no runner");
  }
  std::string place_key() const override { return "scripted"; }
  std::string handle() const override { return "scripted"; }
  Task<absl::Status> Close(bool) override { co_return absl::OkStatus(); }

 private:
  Loop& loop_;
};

class PlainScriptTest : public ::testing::Test {
 protected:
  PlainScriptTest() {
    engine_ = MakePlainEngine({loop_, clock_, random_}, {sandbox_, {.argv = true}, "test"});
    auto opened = Go(engine_->Open({.session_id = "s"}));
    Answer("b\np/bin/sh\nd/\n");
    EXPECT_TRUE(opened->has_value() && (*opened)->ok());
  }
  ~PlainScriptTest() override {
    channel_.reset();
    engine_.reset();
    Settle();
  }
  template <typename T>
  Running<T> Go(Task<T> task) {
    return hermes::Go(loop_, std::move(task));
  }
  void Settle() { hermes::Settle(loop_); }

  // What the last short text answers: these lines, and that they are all.
  void Answer(const std::string& lines) {
    ASSERT_FALSE(sandbox_->others.empty());
    Program& program = *sandbox_->others.back();
    std::string text;
    for (size_t at = 0; at < lines.size(); at = lines.find('\n', at) + 1) {
      text += program.Mark(0) + lines.substr(at, lines.find('\n', at) + 1 - at);
    }
    program.Say(OutputStream::kStdout, text + program.Mark(0) + "e0 0 0\n");
    Settle();
  }

  void Start(Duration run_timeout = Duration(0)) {
    CommandSpec spec;
    spec.run_id = random_.Uuid();
    spec.argv = {"true"};
    spec.run_timeout = run_timeout;
    auto started = Go(engine_->Start(std::move(spec)));
    ASSERT_TRUE(started->has_value() && (*started)->ok());
    channel_ = *std::move(**started);
  }
  Program& command() { return *sandbox_->commands.back(); }
  void SayStarted() {
    command().Say(OutputStream::kStdout, command().Mark(1) + "77\n");
    command().Say(OutputStream::kStderr, command().Mark(1) + "\n");
    Settle();
  }
  void EndWell() {
    for (const OutputStream which : {OutputStream::kStdout, OutputStream::kStderr}) {
      command().Say(which, command().Mark(0) + "e0 0 0\n");
    }
    command().End();
    Settle();
  }

  // All that is there until the end, which must be there, too.
  Outcome ReadEnd() {
    for (;;) {
      auto event = Go(channel_->Read());
      EXPECT_TRUE(event->has_value()) << "it has not ended";
      if (!event->has_value() || !(*event)->ok()) break;
      if (const auto* ended = std::get_if<EndedEvent>(&***event)) return ended->outcome;
    }
    channel_->Abandon();
    Settle();
    return {};
  }

  Loop loop_;
  FakeClock clock_{loop_};
  SystemRandom random_;
  std::shared_ptr<ScriptedSandbox> sandbox_ = std::make_shared<ScriptedSandbox>(loop_);
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Channel> channel_;
};

TEST_F(PlainScriptTest, AKillOfACommandThatNeverSaysAnythingEndsItUnknown) {
  Start();
  auto killed = Go(channel_->Kill(Duration(0), Cause::kCancelled));
  clock_.Advance(plain::kAnswerLimit - seconds(1));
  EXPECT_EQ(sandbox_->others.size(), 1u) << "its shell may be slow";
  clock_.Advance(seconds(1));
  ASSERT_EQ(sandbox_->others.size(), 2u) << "it may run all the same";
  Answer("k0 0\n");
  ASSERT_TRUE(killed->has_value());
  EXPECT_TRUE((*killed)->ok()) << (*killed)->status();
  EXPECT_EQ(ReadEnd().state, CommandState::kUnknown);
  EXPECT_TRUE(command().over) << "the stream is given up";
}

TEST_F(PlainScriptTest, AKillWaitsForAStartThatIsSlow) {
  Start();
  auto killed = Go(channel_->Kill(Duration(0), Cause::kCancelled));
  clock_.Advance(plain::kAnswerLimit - seconds(1));
  SayStarted();
  ASSERT_EQ(sandbox_->others.size(), 2u);
  clock_.Advance(seconds(2));
  Answer("k1 0\n");
  EndWell();
  EXPECT_TRUE(killed->has_value());
  EXPECT_EQ(ReadEnd().state, CommandState::kKilled);
}

TEST_F(PlainScriptTest, ADeadlineEndsACommandThatNeverSaysAnything) {
  Start(seconds(3));
  clock_.Advance(seconds(2) + plain::kAnswerLimit);
  EXPECT_EQ(sandbox_->others.size(), 1u);
  clock_.Advance(seconds(1));
  ASSERT_EQ(sandbox_->others.size(), 2u);
  Answer("k0 0\n");
  EXPECT_EQ(ReadEnd().state, CommandState::kUnknown);
}

TEST_F(PlainScriptTest, ACommandThatStartsLateHasItsWholeTime) {
  Start(seconds(3));
  clock_.Advance(seconds(2) + plain::kAnswerLimit);
  SayStarted();
  clock_.Advance(seconds(2));
  EXPECT_EQ(sandbox_->others.size(), 1u) << "the far side keeps the deadline";
  EndWell();
  EXPECT_EQ(ReadEnd().state, CommandState::kExited);
}

TEST_F(PlainScriptTest, AnEndOfItsOwnWhileAKillIsOnItsWayIsNoKill) {
  Start();
  SayStarted();
  auto killed = Go(channel_->Kill(Duration(0), Cause::kCancelled));
  EndWell();
  Answer("k0 0\n");
  ASSERT_TRUE(killed->has_value());
  const Outcome outcome = ReadEnd();
  EXPECT_EQ(outcome.state, CommandState::kExited);
  EXPECT_EQ(outcome.cause, Cause::kNatural);
}

TEST_F(PlainScriptTest, AKillThatMetTheCommandStaysOneWhateverASecondFinds) {
  Start();
  SayStarted();
  auto first = Go(channel_->Kill(Duration(0), Cause::kOutputLimit));
  ProgramPtr ladder = sandbox_->others.back();
  auto second = Go(channel_->Kill(Duration(0), Cause::kCancelled));
  Answer("k0 0\n");
  EndWell();
  sandbox_->others.push_back(ladder);
  Answer("k3 0\n");
  EXPECT_TRUE(first->has_value() && second->has_value());
  const Outcome outcome = ReadEnd();
  EXPECT_EQ(outcome.state, CommandState::kKilled);
  EXPECT_EQ(outcome.cause, Cause::kOutputLimit);
}

// A command that does not heed TERM, a reader that reads nothing.
TEST_F(PlainScriptTest, WhatComesUnreadWhileAKillIsUnderWayIsBoundedAndTheRestIsToldAsLost) {
  Start();
  SayStarted();
  auto killed = Go(channel_->Kill(seconds(10), Cause::kOutputLimit));
  const std::string piece(1 << 20, 'x');
  constexpr uint64_t kPieces = 64;
  for (uint64_t i = 0; i < kPieces; ++i) {
    command().Say(OutputStream::kStdout, piece);
    command().Say(OutputStream::kStderr, "e");
    Settle();
  }
  Answer("k1 0\n");
  EndWell();
  uint64_t next = 0, kept = 0, losses = 0, errors = 0;
  for (bool ended = false; !ended;) {
    auto event = Go(channel_->Read());
    ASSERT_TRUE(event->has_value() && (*event)->ok());
    if (const auto* data = std::get_if<DataEvent>(&***event)) {
      if (data->stream == OutputStream::kStderr) errors += data->data.size();
      if (data->stream == OutputStream::kStderr) continue;
      EXPECT_EQ(data->offset, next);
      next += data->data.size();
      kept += data->data.size();
    }
    if (const auto* lost = std::get_if<LostEvent>(&***event)) {
      EXPECT_EQ(lost->from, next);
      next = lost->to;
      ++losses;
    }
    ended = std::holds_alternative<EndedEvent>(***event);
  }
  EXPECT_EQ(next, kPieces << 20);
  EXPECT_GE(kept, plain::kMostUnread);
  EXPECT_LE(kept, plain::kMostUnread + (64 << 10));
  EXPECT_EQ(losses, 1u);
  EXPECT_EQ(errors, kPieces);
}

}  // namespace
}  // namespace hermes
