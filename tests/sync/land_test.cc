#include "sync/land.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "daemon/runtime/status.h"
#include "tests/sync/fault_fs.h"
#include "tests/sync/land_stand.h"

namespace hermes::sync {
namespace {

namespace files = std::filesystem;

class LandTest : public ::testing::Test {
 protected:
  absl::StatusOr<LandReport> Land(const TestTree& before, const TestTree& after,
                                  const std::string& id = "s1") {
    return LandAll(root_.fs(), root_.fd(), before, after, id);
  }
  Outcome OutcomeOf(const TestTree& before, const TestTree& after, const std::string& path) {
    auto report = Land(before, after);
    EXPECT_TRUE(report.ok()) << report.status();
    return ResultOf(*report, path).outcome;
  }
  RealRoot root_{RealRoot::Where::kDisk};
};

TEST_F(LandTest, BringsEveryScenarioAndTakesItBack) {
  for (const Scenario& scenario : Scenarios()) {
    SCOPED_TRACE(scenario.name);
    RealRoot root;
    PutTree(root.fs(), root.fd(), scenario.before);
    auto report = LandAll(root.fs(), root.fd(), scenario.before, scenario.after, "s1");
    ASSERT_TRUE(report.ok()) << report.status();
    for (const LandResult& result : report->results) {
      EXPECT_EQ(result.outcome, Outcome::kDone) << result.path.str() << " " << result.why;
    }
    EXPECT_EQ(Describe(FilesOf(root.tree())), Describe(scenario.after));
    auto back = UndoStore(root.fs(), root.fd()).Revert("s1");
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(Describe(root.tree()), Describe(scenario.before));
  }
}

TEST_F(LandTest, RemovesDirectoriesThatItEmptied) {
  TestTree before = {{"a/b/c", {"x"}}, {"a/kept", {"y"}}};
  PutTree(root_.fs(), root_.fd(), before);
  ASSERT_TRUE(Land(before, {{"a/kept", {"y"}}}).ok());
  EXPECT_FALSE(files::exists(root_.Path("a/b")));
  EXPECT_TRUE(files::exists(root_.Path("a/kept")));
}

TEST_F(LandTest, KeepsTheBitsOfAFileButTheExecutableOnes) {
  EXPECT_EQ(LandedMode(std::nullopt, false), 0644u);
  EXPECT_EQ(LandedMode(std::nullopt, true), 0755u);
  EXPECT_EQ(LandedMode(0600, true), 0700u);
  EXPECT_EQ(LandedMode(0640, true), 0750u);
  EXPECT_EQ(LandedMode(0710, true), 0710u);
  EXPECT_EQ(LandedMode(0777, false), 0666u);
  EXPECT_EQ(LandedMode(06755, true), 0755u);
  EXPECT_EQ(LandedMode(06755, false), 0644u);
}

TEST_F(LandTest, LeavesAHostEditWhereItIs) {
  PutTree(root_.fs(), root_.fd(), {{"a", {"edited"}}, {"b", {"same"}}});
  auto report = Land({{"a", {"base"}}, {"b", {"same"}}}, {{"a", {"new"}}, {"b", {"newer"}}});
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(ResultOf(*report, "a").outcome, Outcome::kHostChanged);
  EXPECT_EQ(ResultOf(*report, "b").outcome, Outcome::kDone);
  TestTree want = {{"a", {"edited"}}, {"b", {"newer"}}};
  EXPECT_EQ(Describe(root_.tree()), Describe(want));
}

TEST_F(LandTest, AVersionIsItsExecutableBitToo) {
  PutTree(root_.fs(), root_.fd(), {{"a", {"x", 0755}}});
  EXPECT_EQ(OutcomeOf({{"a", {"x", 0644}}}, {{"a", {"y"}}}, "a"), Outcome::kHostChanged);
}

TEST_F(LandTest, NeverWritesThroughALinkOfTheHost) {
  RealRoot outside;
  PutTree(outside.fs(), outside.fd(), {{"target", {"outside"}}});
  files::create_symlink(outside.Path("target"), root_.Path("link"));
  files::create_symlink(outside.path(), root_.Path("dir"));
  TestTree before = {{"link", {"outside"}}, {"dir/target", {"outside"}}};
  TestTree after = {{"link", {"x"}}, {"dir/target", {"y"}}, {"dir/created", {"z"}}};
  auto report = Land(before, after);
  ASSERT_TRUE(report.ok()) << report.status();
  for (const LandResult& result : report->results) {
    EXPECT_EQ(result.outcome, Outcome::kInTheWay) << result.path.str();
  }
  EXPECT_EQ(Describe(outside.tree()), "target 644 outside\n");
  EXPECT_TRUE(files::is_symlink(root_.Path("link")));
}

TEST_F(LandTest, LeavesHardLinksFifosAndDirectoriesAlone) {
  RealRoot outside(RealRoot::Where::kDisk);
  PutTree(outside.fs(), outside.fd(), {{"target", {"shared"}}});
  files::create_hard_link(outside.Path("target"), root_.Path("hard"));
  files::create_hard_link(outside.Path("target"), root_.Path("hard-deleted"));
  ASSERT_EQ(mkfifo(root_.Path("fifo").c_str(), 0600), 0);
  ASSERT_EQ(mkdir(root_.Path("dir").c_str(), 0700), 0);
  PutTree(root_.fs(), root_.fd(), {{"file", {"plain"}}});
  TestTree before = {
      {"hard", {"shared"}}, {"hard-deleted", {"shared"}}, {"fifo", {""}}, {"dir", {"d"}}};
  TestTree after = {{"hard", {"x"}}, {"fifo", {"y"}}, {"dir", {"z"}}, {"file/below", {"w"}}};
  auto report = Land(before, after);
  ASSERT_TRUE(report.ok()) << report.status();
  for (const LandResult& result : report->results) {
    EXPECT_EQ(result.outcome, Outcome::kInTheWay) << result.path.str();
  }
  EXPECT_EQ(Describe(outside.tree()), "target 644 shared\n");
  EXPECT_TRUE(files::is_fifo(root_.Path("fifo")));
  EXPECT_TRUE(files::is_directory(root_.Path("dir")));
  EXPECT_EQ(files::hard_link_count(root_.Path("hard")), 3u);
}

TEST_F(LandTest, CreatesOverNothingThatIsThere) {
  PutTree(root_.fs(), root_.fd(), {{"a", {"host's own"}}});
  EXPECT_EQ(OutcomeOf({}, {{"a", {"new"}}}, "a"), Outcome::kHostChanged);
  EXPECT_EQ(root_.tree().at("a").text, "host's own");
}

TEST_F(LandTest, RefusesAStagedFileThatIsNotWhatWasAnnounced) {
  Landing landing(root_.fs(), root_.fd());
  const auto land = [&](const std::string& id, auto spoil) {
    auto staged = StageAll(root_.fs(), landing, {}, {{"a", {"announced"}}, {"b", {"good"}}}, id);
    std::string stage = root_.Path(std::string(kPlaceName) + "/" + id + "/files/");
    spoil(stage);
    return landing.Land(std::move(staged->stage), std::move(staged->changes), 1).status();
  };
  const auto overwrite = [](const std::string& path, const std::string& text) {
    int fd = open(path.c_str(), O_WRONLY | O_TRUNC);
    ASSERT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(fd);
  };
  absl::Status bytes =
      land("s1", [&](const std::string& dir) { overwrite(dir + "0", "another!!"); });
  absl::Status longer =
      land("s2", [&](const std::string& dir) { overwrite(dir + "0", "announced+"); });
  absl::Status link = land("s3", [&](const std::string& dir) {
    files::rename(dir + "0", root_.Path("elsewhere"));
    files::create_symlink(root_.Path("elsewhere"), dir + "0");
  });
  absl::Status hard = land("s4", [&](const std::string& dir) {
    files::create_hard_link(dir + "0", root_.Path("hard"));
  });
  absl::Status gone = land("s5", [&](const std::string& dir) { files::remove(dir + "0"); });
  for (const absl::Status& status : {bytes, longer, link, hard, gone}) {
    EXPECT_EQ(ReasonOf(status), Reason::k_SYNC_FAILED) << status;
  }
  EXPECT_FALSE(files::exists(root_.Path("b")));
  EXPECT_TRUE(files::is_empty(root_.Path(std::string(kPlaceName))));  // and nothing stays behind
}

TEST_F(LandTest, RefusesPlansThatNoPlannerMakes) {
  Landing landing(root_.fs(), root_.fd());
  const auto land = [&](auto spoil) {
    auto staged = StageAll(root_.fs(), landing, {}, {{"a", {"1"}}, {"b", {"2"}}}, "s1");
    spoil(staged->changes);
    return ReasonOf(landing.Land(std::move(staged->stage), std::move(staged->changes), 1).status());
  };
  using Changes = std::vector<Change>;
  EXPECT_EQ(land([](Changes& c) { c[1].path = c[0].path; }), Reason::k_SYNC_FAILED);
  EXPECT_EQ(land([](Changes& c) { c[1].slot = c[0].slot; }), Reason::k_SYNC_FAILED);
  EXPECT_EQ(land([](Changes& c) { c[0].slot = "../../a"; }), Reason::k_SYNC_FAILED);
  EXPECT_EQ(land([](Changes& c) { c[0].slot = ""; }), Reason::k_SYNC_FAILED);
  EXPECT_EQ(land([](Changes& c) { c[0].from = c[0].to; }), Reason::k_SYNC_FAILED);
  EXPECT_EQ(land([](Changes& c) { c[0].path = *RelPath::Parse("x/.hermesd-stage/y"); }),
            Reason::k_SYNC_FAILED);
  EXPECT_EQ(Describe(root_.tree()), "");
}

TEST_F(LandTest, AStageThatNeverLandedLeavesNothing) {
  Landing landing(root_.fs(), root_.fd());
  {
    auto staged = StageAll(root_.fs(), landing, {}, {{"a", {"1"}}}, "s1");
  }
  EXPECT_TRUE(files::is_empty(root_.Path(std::string(kPlaceName))));
}

TEST_F(LandTest, RecoveryTakesLeftoversAndLeavesWhatSomebodyIsReceiving) {
  Landing landing(root_.fs(), root_.fd());
  auto receiving = StageAll(root_.fs(), landing, {}, {{"a", {"1"}}}, "receiving");
  ASSERT_TRUE(receiving.ok());
  files::create_directories(root_.Path(std::string(kPlaceName) + "/leftover/files/deep/er"));
  PutFile(root_.fs(), root_.fd(), std::string(kPlaceName) + "/torn/journal", {""});
  auto reports = landing.Recover();
  ASSERT_TRUE(reports.ok() && reports->empty());
  EXPECT_FALSE(files::exists(root_.Path(std::string(kPlaceName) + "/leftover")));
  EXPECT_FALSE(files::exists(root_.Path(std::string(kPlaceName) + "/torn")));
  EXPECT_TRUE(landing.Land(std::move(receiving->stage), std::move(receiving->changes), 1).ok());
  EXPECT_EQ(root_.tree().at("a").text, "1");
}

TEST_F(LandTest, TakesNoPlaceThatOthersMayWriteTo) {
  std::string place = root_.Path(std::string(kPlaceName));
  ASSERT_EQ(mkdir(place.c_str(), 0700), 0);
  ASSERT_EQ(chmod(place.c_str(), 0770), 0);
  Landing landing(root_.fs(), root_.fd());
  EXPECT_EQ(ReasonOf(landing.NewStage("s1", 0).status()), Reason::k_SYNC_FAILED);
  ASSERT_EQ(rmdir(place.c_str()), 0);
  RealRoot elsewhere;
  files::create_symlink(elsewhere.path(), place);
  EXPECT_EQ(ReasonOf(landing.NewStage("s1", 0).status()), Reason::k_SYNC_FAILED);
  EXPECT_TRUE(files::is_empty(elsewhere.path()));
}

TEST_F(LandTest, AsksForRoomBeforeItStages) {
  Landing landing(root_.fs(), root_.fd());
  for (const uint64_t bytes : {uint64_t{1} << 62, uint64_t{UINT64_MAX}})
    EXPECT_EQ(ReasonOf(landing.NewStage("s1", bytes).status()), Reason::k_DISK_FULL);
  EXPECT_FALSE(files::exists(root_.Path(std::string(kPlaceName))));
}

TEST_F(LandTest, AnIdIsPlainAndUsedOnce) {
  Landing landing(root_.fs(), root_.fd());
  for (std::string_view id : {"", ".", "..", "a/b", ".hidden", "a b"}) {
    EXPECT_EQ(ReasonOf(landing.NewStage(id, 0).status()), Reason::k_BAD_FIELD) << id;
  }
  auto first = landing.NewStage("s1", 0);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(ReasonOf(landing.NewStage("s1", 0).status()), Reason::k_BAD_FIELD);
}

// Without a link of its own to what waits in the stage.
void ExpectNoSharedFiles(const RealRoot& root) {
  for (const auto& entry : files::recursive_directory_iterator(root.path())) {
    if (entry.is_regular_file()) EXPECT_EQ(files::hard_link_count(entry), 1u) << entry.path();
  }
}

// The disk becomes full before the n-th effect, for every n, and stays so for whatever needs room.
void FillTheDisk(const Scenario& scenario, bool plain_moves) {
  for (int full_at = 0;; ++full_at) {
    SCOPED_TRACE(std::string(scenario.name) + " " + std::to_string(full_at));
    RealRoot root;
    PutTree(root.fs(), root.fd(), scenario.before);
    FaultFs fs(root.fs());
    fs.skip_syncs = true;
    int effects = 0;
    int refused = 0;
    fs.before = [&](const FsCall& call) {
      const bool fine = call.kind == FsCall::Kind::kExchange || call.no_replace;
      if (plain_moves && fine) return -EINVAL;
      const bool needs_room = call.kind == FsCall::Kind::kOther ||
                              call.kind == FsCall::Kind::kMove || call.kind == FsCall::Kind::kLink;
      if (!needs_room || effects++ != full_at) return 0;
      ++refused;
      return full_at % 2 == 0 ? -ENOSPC : -EDQUOT;
    };
    auto report = LandAll(fs, root.fd(), scenario.before, scenario.after, "s1");
    if (refused == 0) {
      EXPECT_EQ(Describe(FilesOf(root.tree())), Describe(scenario.after));
      return;
    }
    TestTree tree = root.tree();
    if (report.ok()) ExpectNoSharedFiles(root);
    if (report.ok() && !report->disk_full) {
      EXPECT_EQ(Describe(FilesOf(tree)), Describe(scenario.after));
      continue;
    }
    if (report.ok()) {
      EXPECT_EQ(Describe(tree), Describe(scenario.before));
      for (const LandResult& result : report->results) {
        EXPECT_EQ(ReasonOf(result.why), Reason::k_DISK_FULL) << result.path.str();
      }
    } else {
      EXPECT_EQ(ReasonOf(report.status()), Reason::k_DISK_FULL) << report.status();
      ASSERT_TRUE(Landing(root.fs(), root.fd()).Recover().ok());
      // A commit that found no room is done later; what had landed has landed.
      std::string now = Describe(FilesOf(root.tree()));
      EXPECT_TRUE(now == Describe(FilesOf(scenario.before)) || now == Describe(scenario.after));
    }
  }
}

TEST_F(LandTest, AFullDiskLeavesTheHostAsItWas) {
  for (const Scenario& scenario : Scenarios()) FillTheDisk(scenario, false);
}

TEST_F(LandTest, AFullDiskWithoutExchangeLeavesTheHostAsItWas) {
  for (const Scenario& scenario : Scenarios()) FillTheDisk(scenario, true);
}

// An error right after a move of ours: nothing is ruled until somebody can look again.
TEST_F(LandTest, WhatCannotBeSeenAfterAMoveStaysOpenUntilItCan) {
  const TestTree before = {{"a", {"old"}}, {"gone", {"g"}}};
  const TestTree after = {{"a", {"new"}}};
  for (const FsCall::Kind move : {FsCall::Kind::kExchange, FsCall::Kind::kMove}) {
    RealRoot root;
    PutTree(root.fs(), root.fd(), before);
    FaultFs fs(root.fs());
    bool moved = false;
    bool failed = false;
    fs.before = [&](const FsCall& call) {
      if (call.kind == FsCall::Kind::kRead && moved && !std::exchange(failed, true)) return -EIO;
      moved = moved || call.kind == move;
      return 0;
    };
    auto report = LandAll(fs, root.fd(), before, after, "s1");
    EXPECT_TRUE(failed);
    EXPECT_EQ(ReasonOf(report.status()), Reason::k_SYNC_FAILED) << report.status();
    auto reports = Landing(root.fs(), root.fd()).Recover();
    ASSERT_TRUE(reports.ok() && reports->size() == 1) << reports.status();
    EXPECT_EQ(Describe(root.tree()), Describe(after));
    ASSERT_TRUE(UndoStore(root.fs(), root.fd()).Revert("s1").ok());
    EXPECT_EQ(Describe(root.tree()), Describe(before));
  }
}

// A landing that was cut right before its commit.
void CutLanding(RealRoot& root, const TestTree& before, const TestTree& after) {
  PutTree(root.fs(), root.fd(), before);
  FaultFs fs(root.fs());
  int left = 1;  // of the syncs: that of the staged files
  fs.before = [&](const FsCall& call) {
    return call.kind == FsCall::Kind::kSync && left-- <= 0 ? -EIO : 0;
  };
  EXPECT_FALSE(LandAll(fs, root.fd(), before, after, "s1").ok());
}

TEST_F(LandTest, ARecoveryThatCannotLookIsNoRecovery) {
  const TestTree before = {{"a", {"old"}}};
  const TestTree after = {{"a", {"new"}}};
  for (int fail_at = 0;; ++fail_at) {
    SCOPED_TRACE(fail_at);
    RealRoot root;
    CutLanding(root, before, after);
    FaultFs fs(root.fs());
    int calls = 0;
    fs.before = [&](const FsCall&) { return calls++ == fail_at ? -EMFILE : 0; };
    auto reports = Landing(fs, root.fd()).Recover();
    if (calls <= fail_at) break;
    // Either it says that it failed, or nothing is left to do.
    fs.before = [](const FsCall&) { return 0; };
    auto again = Landing(fs, root.fd()).Recover();
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(!reports.ok() || again->empty());
  }
}

TEST_F(LandTest, AFileAmongTheStagesIsNoneAndInNobodysWay) {
  CutLanding(root_, {{"a", {"old"}}}, {{"a", {"new"}}});
  PutFile(root_.fs(), root_.fd(), std::string(kPlaceName) + "/a-note", {"mine"});
  auto reports = Landing(root_.fs(), root_.fd()).Recover();
  ASSERT_TRUE(reports.ok()) << reports.status();
  EXPECT_EQ(reports->size(), 1u);
}

// Recovers the root in the moment in which a new stage has no lock.
class RacingFs : public FaultFs {
 public:
  RacingFs(Fs& fs, int root, int times) : FaultFs(fs), root_(root), times_(times) {}
  int TryLock(int handle) override {
    if (times_-- > 0) EXPECT_TRUE(Landing(fs_, root_).Recover().ok());
    return FaultFs::TryLock(handle);
  }

 private:
  RealFs fs_;
  const int root_;
  int times_;
};

TEST_F(LandTest, ANewStageOutlivesARecoveryThatTakesItForALeftover) {
  RacingFs fs(root_.fs(), root_.fd(), 3);
  auto stage = Landing(fs, root_.fd()).NewStage("s1", 0);
  ASSERT_TRUE(stage.ok()) << stage.status();
  EXPECT_TRUE(files::is_directory(root_.Path(std::string(kPlaceName) + "/s1/files")));
}

}  // namespace
}  // namespace hermes::sync
