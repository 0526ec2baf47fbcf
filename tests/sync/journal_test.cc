#include "sync/journal.h"

#include <gtest/gtest.h>

#include "tests/sync/mem_fs.h"

namespace hermes::sync {
namespace {

LandPlan PlanOf(int changes) {
  LandPlan plan{77, {}, {{"dir", true, 0750}, {"dir/new", false, 0}}};
  for (int i = 0; i < changes; ++i) {
    Content old{DigestOf("old"), 3, false};
    Content now{DigestOf("now"), 3, true};
    plan.changes.push_back({*RelPath::Parse("dir/\n\xff" + std::to_string(i)),
                            i % 3 == 0 ? MaybeContent() : old, i % 3 == 1 ? MaybeContent() : now,
                            std::to_string(i)});
  }
  return plan;
}

class JournalTest : public ::testing::Test {
 protected:
  uint64_t Size() {
    FileStat stat;
    EXPECT_EQ(fs_.StatAt({fs_.root(), std::string(kJournalName)}, &stat), 0);
    return stat.size;
  }
  MemFs fs_;
};

TEST_F(JournalTest, ReadsWhatItWrote) {
  LandPlan plan = PlanOf(7);
  ASSERT_TRUE(Journal::Create(fs_, fs_.root(), plan).ok());
  auto journal = Journal::Open(fs_, fs_.root());
  ASSERT_TRUE(journal.ok()) << journal.status();
  EXPECT_TRUE(journal->open() && !journal->backwards());
  EXPECT_EQ(journal->plan().time_s, 77);
  ASSERT_EQ(journal->plan().changes.size(), 7u);
  for (size_t i = 0; i < 7; ++i) {
    const Change& read = journal->plan().changes[i];
    EXPECT_EQ(read.path, plan.changes[i].path);
    EXPECT_EQ(read.from, plan.changes[i].from);
    EXPECT_EQ(read.to, plan.changes[i].to);
    EXPECT_EQ(read.slot, plan.changes[i].slot);
  }
  ASSERT_EQ(journal->plan().dirs.size(), 2u);
  EXPECT_EQ(journal->plan().dirs[0].mode, 0750u);
  EXPECT_FALSE(journal->plan().dirs[1].existed);
}

TEST_F(JournalTest, KnowsWhatIsInPlaceAfterEachTurn) {
  auto journal = Journal::Create(fs_, fs_.root(), PlanOf(3));
  ASSERT_TRUE(journal.ok());
  ASSERT_TRUE(
      journal
          ->Commit(
              {{Outcome::kDone, false}, {Outcome::kHostChanged, true}, {Outcome::kDone, false}})
          .ok());
  ASSERT_TRUE(journal->BeginRevert({0, 2}).ok());
  auto between = Journal::Open(fs_, fs_.root());
  ASSERT_TRUE(between.ok());
  EXPECT_TRUE(between->open() && between->backwards());
  EXPECT_EQ(between->turn(), (std::vector<uint32_t>{0, 2}));
  ASSERT_TRUE(between->Commit({{Outcome::kDone, false}, {Outcome::kHostChanged, false}}).ok());
  auto after = Journal::Open(fs_, fs_.root());
  ASSERT_TRUE(after.ok());
  EXPECT_FALSE(after->open());
  EXPECT_FALSE(after->landed(0));
  EXPECT_FALSE(after->landed(1));
  EXPECT_TRUE(after->kept(1));
  EXPECT_TRUE(after->landed(2));
}

// So a disk that became full since the plan was written can't keep a turn from its end.
TEST_F(JournalTest, ACommitNeedsNoRoom) {
  auto journal = Journal::Create(fs_, fs_.root(), PlanOf(100));
  ASSERT_TRUE(journal.ok());
  uint64_t size = Size();
  ASSERT_TRUE(journal->Commit(std::vector<Ruling>(100, {Outcome::kDone, false})).ok());
  EXPECT_EQ(Size(), size);
  ASSERT_TRUE(journal->BeginRevert({1, 2, 3}).ok());
  size = Size();
  ASSERT_TRUE(journal->Commit(std::vector<Ruling>(3, {Outcome::kDone, false})).ok());
  EXPECT_EQ(Size(), size);
}

TEST_F(JournalTest, OneThatWasNeverWrittenIsNone) {
  EXPECT_TRUE(absl::IsNotFound(Journal::Open(fs_, fs_.root()).status()));
  Handle file(fs_, fs_.OpenFile({fs_.root(), std::string(kJournalName)}, Fs::Access::kCreate));
  EXPECT_TRUE(absl::IsNotFound(Journal::Open(fs_, fs_.root()).status()));
  ASSERT_EQ(fs_.Write(file.get(), 0, std::string(100, '\0')), 0);
  EXPECT_TRUE(absl::IsNotFound(Journal::Open(fs_, fs_.root()).status()));
  ASSERT_EQ(fs_.Write(file.get(), 0, "something else"), 0);
  EXPECT_TRUE(absl::IsDataLoss(Journal::Open(fs_, fs_.root()).status()));
}

}  // namespace
}  // namespace hermes::sync
