// kill -9 of a real hermesd while it brings files back: whatever the moment, each file is old or
// new, nothing is lost on either side, and nothing of it is left lying about.

#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/e2e/files_fixture.h"

namespace hermes {
namespace {

class FilesKillTest : public FilesTest {
 protected:
  // Every file over there gets this version; `bytes` of it.
  void WriteAllFar(int files, char version, int bytes) {
    Out("cd " + Far("") + "; v=$(head -c " + std::to_string(bytes) + " /dev/zero | tr '\\0' " +
        std::string(1, version) + "); for i in $(seq 0 " + std::to_string(files - 1) +
        "); do printf %s $v > $i; done");
  }
  int CountOnHost(int files, const std::string& text) const {
    int count = 0;
    for (int i = 0; i < files; ++i) count += Slurp(Host(std::to_string(i))) == text ? 1 : 0;
    return count;
  }
  // What is kept of syncs that landed has a journal; a stage that was left behind has none.
  std::vector<std::string> StagesLeftBehind() const {
    std::vector<std::string> left;
    for (const auto& entry : fs::directory_iterator(Host(".hermesd-stage"))) {
      if (!fs::exists(entry.path() / "journal")) left.push_back(entry.path().filename());
    }
    return left;
  }
};

TEST_F(FilesKillTest, AKillAtAnyMomentOfAPullLosesNothingAndLeavesEachFileOldOrNew) {
  constexpr int kFiles = 24;
  constexpr int kBytes = 200'000;
  const int kills = std::getenv("HERMES_DEEP") != nullptr ? 100 : 9;
  const auto version = [](int round) { return static_cast<char>('a' + round % 26); };
  const auto text = [&](int round) { return std::string(kBytes, version(round)); };
  for (int i = 0; i < kFiles; ++i) Spit(Host(std::to_string(i)), "at first");
  Create();
  WriteAllFar(kFiles, version(0), kBytes);
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(Pull(daemon_).status.ok());
  const auto whole = std::chrono::steady_clock::now() - begin;
  int mixed = 0;
  for (int round = 1; round <= kills; ++round) {
    SCOPED_TRACE(round);
    WriteAllFar(kFiles, version(round), kBytes);
    const std::string mine = "edit " + std::to_string(round);
    Spit(Host("mine"), mine);
    const FirstRename rename(dir_ + "/host");
    std::thread client([this] { Pull(daemon_); });
    if (round % 3 == 0) {
      EXPECT_TRUE(rename.Await());
    } else {
      std::this_thread::sleep_for(whole * round / kills);
    }
    daemon_.Kill(SIGKILL);
    client.join();
    const int fresh = CountOnHost(kFiles, text(round));
    ASSERT_EQ(fresh + CountOnHost(kFiles, text(round - 1)), kFiles) << "a file is neither";
    mixed += fresh > 0 && fresh < kFiles ? 1 : 0;
    for (int i = 0; i < kFiles; ++i) ASSERT_EQ(Slurp(Far(std::to_string(i))), text(round)) << i;
    daemon_.Start();
    const Synced again = Pull(daemon_);
    ASSERT_TRUE(again.status.ok()) << again.status.error_message();
    ASSERT_EQ(CountOnHost(kFiles, text(round)), kFiles);
    ASSERT_EQ(Slurp(Host("mine")), mine);
    ASSERT_EQ(StagesLeftBehind(), std::vector<std::string>());
    ASSERT_EQ(Out("cat " + Far("mine")), mine);
  }
  std::printf("%d of %d kills left some files old and some new\n", mixed, kills);
}

// Nobody asks for a sync, and nobody uses the session.
TEST_F(FilesKillTest, AStartedDaemonEndsTheLandingThatAKillInterrupted) {
  constexpr int kFiles = 300;
  constexpr int kRounds = 10;
  for (int i = 0; i < kFiles; ++i) Spit(Host(std::to_string(i)), "at first");
  Create();
  WriteAllFar(kFiles, 'z', 10);
  ASSERT_TRUE(Pull(daemon_).status.ok());
  bool interrupted = false;
  for (int round = 0; round < kRounds && !interrupted; ++round) {
    const char version = static_cast<char>('a' + round);
    const std::string text(10, version);
    WriteAllFar(kFiles, version, 10);
    const FirstRename rename(dir_ + "/host");
    std::thread client([this] { Pull(daemon_); });
    EXPECT_TRUE(rename.Await());
    daemon_.Kill(SIGKILL);
    client.join();
    interrupted = CountOnHost(kFiles, text) < kFiles;
    daemon_.Start();
    ASSERT_TRUE(Eventually([&] { return CountOnHost(kFiles, text) == kFiles; }))
        << CountOnHost(kFiles, text) << " of " << kFiles;
    const Synced next = Pull(daemon_);
    ASSERT_TRUE(next.status.ok()) << next.status.error_message();
    EXPECT_EQ(next.job.applied(), 0u);
    EXPECT_EQ(next.job.conflicts(), 0u);
    EXPECT_EQ(StagesLeftBehind(), std::vector<std::string>());
  }
  EXPECT_TRUE(interrupted) << "no kill came before a landing was over";
}

// The session is closed, as nearly always when somebody wants the old files back.
TEST_F(FilesKillTest, AStartedDaemonEndsTheUndoThatAKillInterrupted) {
  constexpr int kFiles = 300;
  constexpr int kRounds = 10;
  for (int i = 0; i < kFiles; ++i) Spit(Host(std::to_string(i)), "at first");
  bool interrupted = false;
  for (int round = 0; round < kRounds && !interrupted; ++round) {
    Create();
    WriteAllFar(kFiles, 'z', 10);
    const Cleaned cleaned = Cleanup();
    ASSERT_TRUE(cleaned.status.ok() && cleaned.pull) << cleaned.status.error_message();
    ASSERT_EQ(CountOnHost(kFiles, "zzzzzzzzzz"), kFiles);
    const std::string pull = cleaned.pull->name();
    const FirstRename rename(dir_ + "/host");
    std::thread client([&] { Undo(daemon_, pull); });
    EXPECT_TRUE(rename.Await());
    daemon_.Kill(SIGKILL);
    client.join();
    interrupted = CountOnHost(kFiles, "at first") < kFiles;
    daemon_.Start();
    ASSERT_TRUE(Eventually([&] { return CountOnHost(kFiles, "at first") == kFiles; }))
        << CountOnHost(kFiles, "at first") << " of " << kFiles;
    const Synced again = Undo(daemon_, pull);
    ASSERT_TRUE(again.status.ok()) << again.status.error_message();
    EXPECT_EQ(CountOnHost(kFiles, "at first"), kFiles);
  }
  EXPECT_TRUE(interrupted) << "no kill came before an undo was over";
}

}  // namespace
}  // namespace hermes
