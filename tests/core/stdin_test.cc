// Inline stdin is kept until its command has all of it, whatever becomes of the daemon.

#include <sys/resource.h>
#include <sys/stat.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "daemon/runtime/status.h"
#include "tests/core/session_fixture.h"

namespace hermes {
namespace {

using std::chrono::seconds;

class StdinTest : public SessionTest {
 protected:
  StdinTest() { EXPECT_TRUE(daemon_->Create("s").ok()); }

  static std::string Input(size_t bytes) {
    std::string input(bytes, '\0');
    for (size_t i = 0; i < bytes; ++i) input[i] = PatternByte("input", OutputStream::kStdout, i);
    return input;
  }

  absl::StatusOr<Session::StartResult> Start(const std::string& script, const std::string& run_id) {
    StartCommand request = MakeStart("s", script, run_id);
    request.spec.stdin_open = true;
    request.stdin_data = input_;
    return daemon_->Await(daemon_->table.Start(std::move(request)));
  }

  void Drain() {
    bool drained = false;
    asio::co_spawn(daemon_->loop.executor(), daemon_->table.Drain(),
                   [&](std::exception_ptr) { drained = true; });
    daemon_->RunUntil([&] { return drained; }, seconds(5));
  }

  const FakeCommand& Far(const std::string& run_id) { return *host_.place.commands.at(run_id); }

  // The place has all of it and its end, once, and nothing of it is kept here.
  void ExpectTaken(const std::string& run_id) {
    EXPECT_TRUE(Far(run_id).stdin_bytes == input_)
        << Far(run_id).stdin_bytes.size() << " for " << input_.size();
    EXPECT_TRUE(Far(run_id).stdin_eof);
    EXPECT_EQ(Kept(), 0u);
  }

  size_t Kept() const {
    size_t files = 0;
    for (const auto& file : std::filesystem::directory_iterator(dir_.path()))
      files += file.path().extension() == ".in";
    return files;
  }

  std::string input_ = Input(700'000);
};

TEST_F(StdinTest, ArrivesWholeAndIsNotKeptAnyLonger) {
  ASSERT_TRUE(Start("hang", "id-1").ok());
  daemon_->Pass(seconds(1));
  ExpectTaken("id-1");
}

TEST_F(StdinTest, ThatIsOnItsWayWhenTheDaemonDiesIsSentAgain) {
  host_.place.holds_stdin = true;
  ASSERT_TRUE(Start("hang", "id-1").ok());
  daemon_->Pass(seconds(1));
  ASSERT_EQ(Far("id-1").stdin_bytes, "");
  EXPECT_EQ(Kept(), 1u);
  for (const auto& file : std::filesystem::directory_iterator(dir_.path())) {
    struct stat info;
    ASSERT_EQ(stat(file.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
  }
  host_.place.holds_stdin = false;
  Restart();
  daemon_->Pass(seconds(1));
  ExpectTaken("id-1");
}

TEST_F(StdinTest, OfWhichThePlaceHasTakenAPartGoesOnFromThere) {
  host_.place.holds_stdin = true;
  ASSERT_TRUE(Start("hang", "id-1").ok());
  daemon_->Pass(seconds(1));
  host_.place.holds_stdin = false;
  for (size_t taken : {100'000, 700'000}) {
    host_.place.commands.at("id-1")->stdin_bytes = input_.substr(0, taken);
    host_.place.commands.at("id-1")->stdin_eof = false;
    Restart();
    host_.place.holds_stdin = taken != input_.size();
    daemon_->Pass(seconds(1));
  }
  ExpectTaken("id-1");
}

TEST_F(StdinTest, ThatADrainingDaemonHasNotSentIsSentByTheNext) {
  host_.place.holds_stdin = true;
  ASSERT_TRUE(Start("hang", "id-1").ok());
  daemon_->Pass(seconds(1));
  Drain();
  EXPECT_EQ(Kept(), 1u);
  host_.place.holds_stdin = false;
  Restart();
  daemon_->Pass(seconds(1));
  ExpectTaken("id-1");
}

TEST_F(StdinTest, WithoutAByteHasItsEndFromTheNextDaemon) {
  input_.clear();
  host_.place.holds_stdin = true;
  ASSERT_TRUE(Start("hang", "id-1").ok());
  daemon_->Pass(seconds(1));
  ASSERT_FALSE(Far("id-1").stdin_eof);
  host_.place.holds_stdin = false;
  Restart();
  daemon_->Pass(seconds(1));
  ExpectTaken("id-1");
}

TEST_F(StdinTest, IsKeptUntilItsEndIsAcknowledged) {
  host_.place.holds_stdin = true;
  ASSERT_TRUE(Start("hang", "id-1").ok());
  daemon_->Pass(seconds(30));
  EXPECT_EQ(Kept(), 1u) << "written, and perhaps lost on its way";
  host_.place.holds_stdin = false;
  daemon_->Pass(seconds(2));
  ExpectTaken("id-1");
}

TEST_F(StdinTest, OfACommandThatEndsWithoutReadingItIsNotKept) {
  host_.place.holds_stdin = true;
  auto started = Start("sleep 5000", "id-1");
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(Kept(), 1u);
  daemon_->RunUntil([&] { return started->run->ended(); });
  daemon_->loop.RunReady();
  EXPECT_EQ(Kept(), 0u);
}

TEST_F(StdinTest, IsKeptForNoCommandThatHasNone) {
  host_.place.holds_stdin = true;
  ASSERT_TRUE(daemon_->Start("s", "hang", "id-1").ok());
  daemon_->Pass(seconds(1));
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(StdinTest, ThatTheDiskHasNoRoomForIsRefusedAndNothingStarts) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit full = {300'000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &full);
  const absl::Status refused = Start("hang", "id-1").status();
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(ReasonOf(refused), Reason::k_DISK_FULL) << refused;
  daemon_->loop.RunReady();
  EXPECT_EQ(host_.place.starts.count("id-1"), 0u);
  EXPECT_EQ(Kept(), 0u);
  ASSERT_TRUE(Start("hang", "id-1").ok()) << "the request id is free";
  daemon_->Pass(seconds(1));
  ExpectTaken("id-1");
}

TEST_F(StdinTest, OfAStartThatFailsIsNotKept) {
  host_.place.faults.refuse_start_percent = 100;
  EXPECT_FALSE(Start("hang", "id-1").ok());
  daemon_->loop.RunReady();
  EXPECT_EQ(Kept(), 0u);
}

TEST_F(StdinTest, CountsForTheSpoolWhileItIsKept) {
  Restart(TableLimits{.output_spool_bytes = 600'000});
  host_.place.holds_stdin = true;
  ASSERT_TRUE(Start("hang", "id-1").ok());
  EXPECT_EQ(ReasonOfStart("out x"), Reason::k_SPOOL_FULL);
  host_.place.holds_stdin = false;
  daemon_->Pass(seconds(2));
  EXPECT_EQ(RunToEnd("out x")->sink->Text(OutputStream::kStdout), "x");
}

TEST_F(StdinTest, OfACommandThatIsGoneOrHasEndedIsRemovedAtStartAndNoOther) {
  RunToEnd("out x", "ended");
  host_.place.holds_stdin = true;
  ASSERT_TRUE(Start("hang", "id-1").ok());
  daemon_->Pass(seconds(1));
  std::string ended;
  for (const auto& [key, row] : host_.disk.commands)
    if (row.info.run_id == "ended") ended = key.second;
  for (const std::string& left : {"s+" + ended, std::string("s+c0"), std::string("gone+c1")})
    std::ofstream(dir_.path() + "/" + left + ".in") << "left behind";
  ASSERT_EQ(Kept(), 4u);
  Restart();
  daemon_->Pass(seconds(1));
  EXPECT_EQ(Kept(), 1u);
  host_.place.holds_stdin = false;
  daemon_->Pass(seconds(2));
  ExpectTaken("id-1");
}

}  // namespace
}  // namespace hermes
