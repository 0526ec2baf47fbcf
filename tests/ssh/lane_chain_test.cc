// Lanes to a server that must run one program at a time on a connection.

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/ssh/ssh_lane.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "tests/runtime/run.h"

namespace hermes {
namespace {

// What a program does, until a test ends it.
struct Program {
  explicit Program(Loop& loop) : changed(loop) {}
  void End() {
    ended = true;
    changed.NotifyAll();
  }
  bool ended = false;
  bool aborted = false;
  Event changed;
};

Task<absl::StatusOr<size_t>> AwaitProgram(std::shared_ptr<Program> program) {
  while (!program->ended && !program->aborted) co_await program->changed.Wait();
  if (program->ended) co_return 0;
  co_return absl::UnavailableError("dropped");
}

class ProgramStream : public Stream {
 public:
  explicit ProgramStream(std::shared_ptr<Program> program) : program_(std::move(program)) {}
  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char>) override {
    return AwaitProgram(program_);
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char>) override {
    return AwaitProgram(program_);
  }
  Task<absl::Status> Write(std::string_view) override { co_return absl::OkStatus(); }
  void CloseStdin() override {}
  void Abort() override {
    program_->aborted = true;
    program_->changed.NotifyAll();
  }
  Task<std::optional<End>> WaitEnd() override { co_return End{.signalled = false, .value = 0}; }

 private:
  const std::shared_ptr<Program> program_;
};

// The server: its connections, and the programs that were ever started on each.
struct Far {
  int alive = 0;
  std::vector<std::vector<std::shared_ptr<Program>>> programs;

  // The most that ran at once on each connection is asked for whenever one starts.
  int most_at_once = 0;
  void Note(const std::vector<std::shared_ptr<Program>>& of) {
    int running = 0;
    for (const auto& program : of) running += program->ended ? 0 : 1;
    most_at_once = std::max(most_at_once, running);
  }
};

class FarConnection : public SshConnection {
 public:
  FarConnection(Loop& loop, Far& far) : loop_(loop), far_(far), index_(far.programs.size()) {
    far_.programs.emplace_back();
    ++far_.alive;
  }
  ~FarConnection() override { --far_.alive; }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> Run(std::string) override {
    auto& mine = far_.programs[index_];
    mine.push_back(std::make_shared<Program>(loop_));
    far_.Note(mine);
    co_return std::make_unique<ProgramStream>(mine.back());
  }
  bool alive() const override { return true; }
  absl::Status why() const override { return absl::OkStatus(); }
  bool one_at_a_time() const override { return true; }

 private:
  Loop& loop_;
  Far& far_;
  const size_t index_;
};

class FarTransport : public SshTransport {
 public:
  FarTransport(Loop& loop, Far& far) : loop_(loop), far_(far) {}
  std::string_view name() const override { return "far"; }
  absl::Status Available() const override { return absl::OkStatus(); }
  Task<absl::StatusOr<SshResolved>> Resolve(SshTarget) override { co_return SshResolved{}; }
  Task<absl::StatusOr<std::unique_ptr<SshConnection>>> Connect(SshTarget, WishPtr,
                                                               SshTries*) override {
    co_return std::make_unique<FarConnection>(loop_, far_);
  }

 private:
  Loop& loop_;
  Far& far_;
};

class LaneChainTest : public testing::Test {
 protected:
  ~LaneChainTest() override { lane_->Stop(); }

  // Asks for a stream; it is in streams_ once it is there.
  void Ask() {
    asio::co_spawn(loop_.executor(), SshLane::Run(lane_, "true", nullptr),
                   [this](std::exception_ptr, absl::StatusOr<std::unique_ptr<Stream>> stream) {
                     if (stream.ok()) streams_.push_back(*std::move(stream));
                     changed_.NotifyAll();
                   });
  }
  void AwaitStreams(size_t count) { RunTask(loop_, HaveStreams(this, count)); }
  void AwaitConnections(int count) { RunTask(loop_, HaveConnections(this, count)); }

  static Task<void> HaveStreams(LaneChainTest* test, size_t count) {
    while (test->streams_.size() < count) co_await test->changed_.Wait();
  }
  static Task<void> HaveConnections(LaneChainTest* test, int count) {
    while (test->far_.alive != count) {
      co_await test->clock_.SleepUntil(test->clock_.Now() + std::chrono::milliseconds(1));
    }
  }

  Loop loop_;
  SystemClock clock_{loop_};
  SystemRandom random_;
  Far far_;
  FarTransport transport_{loop_, far_};
  Event changed_{loop_};
  std::vector<std::unique_ptr<Stream>> streams_;
  SshLane::Ptr lane_ = std::make_shared<SshLane>(SshLane::Deps{
      loop_, clock_, random_, transport_, SshTarget{}, std::make_shared<SshGate>(loop_)});
};

TEST_F(LaneChainTest, EachStreamGetsAConnectionOfItsOwn) {
  for (int i = 0; i < 5; ++i) Ask();
  AwaitStreams(5);
  EXPECT_EQ(far_.alive, 5);
  EXPECT_EQ(far_.most_at_once, 1);
  EXPECT_TRUE(lane_->HasRoom());
}

TEST_F(LaneChainTest, AConnectionIsUsedAgainAfterItsProgramHasEnded) {
  Ask();
  AwaitStreams(1);
  far_.programs[0][0]->End();
  streams_.clear();
  for (int i = 0; i < 20; ++i) {
    Ask();
    AwaitStreams(1);
    for (const auto& of : far_.programs) of.back()->End();
    streams_.clear();
  }
  EXPECT_LE(far_.programs.size(), 2u);  // the last one's end may not have been seen yet
  EXPECT_EQ(far_.most_at_once, 1);
}

TEST_F(LaneChainTest, AProgramThatDoesNotEndCostsItsConnection) {
  Ask();
  AwaitStreams(1);
  EXPECT_EQ(far_.alive, 1);
  streams_.clear();  // nobody wants it any more, but it runs on
  Ask();
  AwaitStreams(1);
  EXPECT_EQ(far_.programs.size(), 2u);
  AwaitConnections(1);
  EXPECT_TRUE(far_.programs[0][0]->aborted);
  EXPECT_FALSE(far_.programs[1][0]->aborted);
  EXPECT_EQ(far_.most_at_once, 1);
}

TEST_F(LaneChainTest, WhoFindsTheWholeChainTakenWaits) {
  constexpr size_t kAll = kMostSpares + 1;
  for (size_t i = 0; i < kAll + 3; ++i) Ask();
  AwaitStreams(kAll);
  EXPECT_FALSE(lane_->HasRoom());
  EXPECT_EQ(far_.alive, static_cast<int>(kAll));
  for (size_t more = 0; more < 3; ++more) {
    far_.programs.back().back()->End();
    streams_[kAll - 1 + more].reset();
    AwaitStreams(kAll + more + 1);
  }
  EXPECT_EQ(far_.alive, static_cast<int>(kAll));
  EXPECT_EQ(far_.most_at_once, 1);
}

}  // namespace
}  // namespace hermes
