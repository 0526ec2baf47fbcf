#include "sync/undo.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>

#include "daemon/runtime/status.h"
#include "tests/sync/fault_fs.h"
#include "tests/sync/land_stand.h"

namespace hermes::sync {
namespace {

class UndoTest : public ::testing::Test {
 protected:
  void Land(const TestTree& before, const TestTree& after, const std::string& id, int64_t now_s) {
    Landing landing(root_.fs(), root_.fd());
    auto staged = StageAll(root_.fs(), landing, before, after, id);
    ASSERT_TRUE(staged.ok()) << staged.status();
    auto report = landing.Land(std::move(staged->stage), std::move(staged->changes), now_s);
    ASSERT_TRUE(report.ok()) << report.status();
  }
  void Overwrite(const std::string& path, const std::string& text) {
    std::filesystem::remove(root_.Path(path));
    PutFile(root_.fs(), root_.fd(), path, {text});
  }
  std::vector<std::string> Ids() {
    std::vector<std::string> ids;
    auto entries = undo_.List();
    EXPECT_TRUE(entries.ok()) << entries.status();
    for (const UndoEntry& entry : *entries) ids.push_back(entry.id);
    return ids;
  }
  RealRoot root_;
  UndoStore undo_{root_.fs(), root_.fd()};
};

using IdList = std::vector<std::string>;

TEST_F(UndoTest, RefusesOnlyWhatWasEditedSince) {
  TestTree before = {{"a", {"1"}}, {"b", {"2"}}, {"c", {"3"}}};
  PutTree(root_.fs(), root_.fd(), before);
  Land(before, {{"a", {"one"}}, {"b", {"two"}}, {"new", {"n"}}}, "s1", 100);
  Overwrite("a", "edited since");
  Overwrite("c", "made again");
  auto report = undo_.Revert("s1");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(ResultOf(*report, "a").outcome, Outcome::kHostChanged);
  EXPECT_EQ(ResultOf(*report, "b").outcome, Outcome::kDone);
  EXPECT_EQ(ResultOf(*report, "c").outcome, Outcome::kHostChanged);
  EXPECT_EQ(ResultOf(*report, "new").outcome, Outcome::kDone);
  TestTree want = {{"a", {"edited since"}}, {"b", {"2"}}, {"c", {"made again"}}};
  EXPECT_EQ(Describe(root_.tree()), Describe(want));
  // What was refused can be taken back once the edit is gone.
  Overwrite("a", "one");
  report = undo_.Revert("s1");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(ResultOf(*report, "a").outcome, Outcome::kDone);
  EXPECT_EQ(root_.tree().at("a").text, "1");
}

TEST_F(UndoTest, TakesBackOnceAndASecondTimeHasNothingToDo) {
  TestTree before = {{"a", {"1"}}};
  PutTree(root_.fs(), root_.fd(), before);
  Land(before, {{"a", {"one"}}}, "s1", 100);
  ASSERT_TRUE(undo_.Revert("s1").ok());
  const auto again = undo_.Revert("s1");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->results.empty());
  EXPECT_EQ(Describe(root_.tree()), Describe(before));
  EXPECT_EQ(ReasonOf(undo_.Revert("s2").status()), Reason::k_RESULT_EXPIRED);
  EXPECT_EQ(ReasonOf(undo_.Revert("../s1").status()), Reason::k_RESULT_EXPIRED);
}

TEST_F(UndoTest, SyncsOnTopOfEachOtherGoBackInTurn) {
  TestTree first = {{"a", {"1"}}};
  TestTree second = {{"a", {"2"}}};
  PutTree(root_.fs(), root_.fd(), first);
  Land(first, second, "s1", 100);
  Land(second, {{"a", {"3"}}}, "s2", 200);
  auto early = undo_.Revert("s1");
  ASSERT_TRUE(early.ok());
  EXPECT_EQ(ResultOf(*early, "a").outcome, Outcome::kHostChanged);
  ASSERT_TRUE(undo_.Revert("s2").ok());
  ASSERT_TRUE(undo_.Revert("s1").ok());
  EXPECT_EQ(Describe(root_.tree()), Describe(first));
}

TEST_F(UndoTest, DirectoriesComeBackWithTheirBits) {
  TestTree before = {{"d/", {"", 0711}}, {"d/e/", {"", 0750}}, {"d/e/f", {"x", 0640}}};
  PutTree(root_.fs(), root_.fd(), before);
  Land(before, {}, "s1", 100);
  EXPECT_EQ(Describe(root_.tree()), "");
  ASSERT_TRUE(undo_.Revert("s1").ok());
  EXPECT_EQ(Describe(root_.tree()), Describe(before));
}

TEST_F(UndoTest, TheOldestGoWhenTheyAreTooOldOrTooMuch) {
  std::string kilo(1000, 'x');
  TestTree tree;
  for (int i = 0; i < 5; ++i) {
    std::string name = "f" + std::to_string(i);
    PutFile(root_.fs(), root_.fd(), name, {kilo});
    Land({{name, {kilo}}}, {{name, {"new"}}}, "s" + std::to_string(4 - i), 100 - i);
  }
  EXPECT_EQ(Ids(), (IdList{"s0", "s1", "s2", "s3", "s4"}));
  ASSERT_TRUE(undo_.Expire({100, 5000}, 100).ok());
  EXPECT_EQ(Ids(), (IdList{"s0", "s1", "s2", "s3", "s4"}));
  ASSERT_TRUE(undo_.Expire({100, 5000}, 197).ok());
  EXPECT_EQ(Ids(), (IdList{"s1", "s2", "s3", "s4"}));
  ASSERT_TRUE(undo_.Expire({100, 2500}, 100).ok());
  EXPECT_EQ(Ids(), (IdList{"s3", "s4"}));
  ASSERT_TRUE(undo_.Expire({100, 0}, 100).ok());
  EXPECT_EQ(Ids(), (IdList{"s4"}));  // the newest can always be taken back
  ASSERT_TRUE(undo_.Expire({100, 0}, 300).ok());
  EXPECT_EQ(Ids(), IdList{});
  EXPECT_EQ(ReasonOf(undo_.Revert("s4").status()), Reason::k_RESULT_EXPIRED);
  EXPECT_EQ(root_.tree().at("f0").text, "new");
}

TEST_F(UndoTest, ListsWhatItHolds) {
  TestTree before = {{"a", {"12345"}}, {"b", {"6"}}};
  PutTree(root_.fs(), root_.fd(), before);
  Land(before, {{"b", {"seven"}}, {"c", {"8"}}}, "s1", 100);
  auto entries = undo_.List();
  ASSERT_TRUE(entries.ok() && entries->size() == 1);
  EXPECT_EQ(entries->front().time_s, 100);
  EXPECT_EQ(entries->front().in_place, 3u);
  EXPECT_EQ(entries->front().bytes, 6u);  // the old a and b
  EXPECT_TRUE(entries->front().readable);
}

TEST_F(UndoTest, AJournalThatCantBeReadTakesNothingBackAndStaysUntilItExpires) {
  TestTree before = {{"a", {"1"}}};
  PutTree(root_.fs(), root_.fd(), before);
  Land(before, {{"a", {"one"}}}, "s1", 100);
  std::string journal = root_.Path(std::string(kPlaceName) + "/s1/" + std::string(kJournalName));
  std::filesystem::resize_file(journal, 30);
  EXPECT_EQ(ReasonOf(undo_.Revert("s1").status()), Reason::k_SYNC_FAILED);
  ASSERT_TRUE(Landing(root_.fs(), root_.fd()).Recover().ok());
  EXPECT_EQ(Ids(), IdList{"s1"});
  ASSERT_TRUE(undo_.Expire({100, 1 << 20}, 1ll << 40).ok());
  EXPECT_EQ(Ids(), IdList{});
  EXPECT_EQ(root_.tree().at("a").text, "one");
}

// Any byte of the journal may be another: it is read as it was, as shorter, or not at all.
TEST_F(UndoTest, ADamagedJournalNeverMovesTheWrongFile) {
  TestTree before = {{"a", {"1"}}, {"b", {"2"}}};
  TestTree after = {{"a", {"one"}}, {"c", {"3"}}};
  PutTree(root_.fs(), root_.fd(), before);
  Land(before, after, "s1", 100);
  Handle dir(root_.fs(), root_.fs().OpenDir(root_.fd(), std::string(kPlaceName) + "/s1"));
  Handle file(root_.fs(),
              root_.fs().OpenFile({dir.get(), std::string(kJournalName)}, Fs::Access::kUpdate));
  FileStat stat;
  ASSERT_EQ(root_.fs().Stat(file.get(), &stat), 0);
  for (uint64_t at = 0; at < stat.size; ++at) {
    char byte = 0;
    ASSERT_EQ(root_.fs().Read(file.get(), at, &byte, 1), 1);
    for (int bit : {0, 7}) {
      char other = static_cast<char>(byte ^ (1 << bit));
      ASSERT_EQ(root_.fs().Write(file.get(), at, {&other, 1}), 0);
      auto journal = Journal::Open(root_.fs(), dir.get());
      if (journal.ok()) {  // the commit was hit
        EXPECT_TRUE(journal->open()) << at;
        EXPECT_EQ(journal->plan().changes.size(), 3u) << at;
      }
    }
    ASSERT_EQ(root_.fs().Write(file.get(), at, {&byte, 1}), 0);
  }
  auto journal = Journal::Open(root_.fs(), dir.get());
  ASSERT_TRUE(journal.ok() && !journal->open());
}

}  // namespace
}  // namespace hermes::sync
