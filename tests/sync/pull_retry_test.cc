// What an attempt of a pull that broke leaves to the next one.

#include <filesystem>

#include <gmock/gmock.h>

#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

class PullRetryTest : public SyncStand {
 protected:
  // The place has these, the host has others.
  void Differ(const Files& files) {
    Files before;
    for (const auto& [name, bytes] : files) before[name] = "old";
    Agree(before);
    for (const auto& [name, bytes] : files) WriteFar(name, bytes);
  }
  // Two attempts: the connection breaks behind so many files, and between them this happens.
  void BreakOnce(size_t files, std::function<void()> then = {}) {
    far().hooks.cut_after = files;
    far().hooks.before = [this, files, then](std::string_view verb) {
      if (verb != "look" || far().fetched.size() < files) return absl::OkStatus();
      far().hooks.cut_after.reset();
      if (then) then();
      return absl::OkStatus();
    };
  }
};

TEST_F(PullRetryTest, AsksOnlyForWhatHadNotComeWhole) {
  Files files;
  for (int i = 0; i < 10; ++i) files["f" + std::to_string(i)] = std::string(i * 1000, 'x') + "y";
  Differ(files);
  BreakOnce(7);
  const SyncReport report = MustPull();
  EXPECT_THAT(far().asked, ElementsAre(10, 3));
  EXPECT_THAT(far().fetched, ElementsAre("f0", "f1", "f2", "f3", "f4", "f5", "f6",  //
                                         "f7", "f8", "f9"));
  EXPECT_EQ(HostFiles(), files);
  EXPECT_EQ(report.counts.applied, 10u);
  EXPECT_EQ(report.unsaved, 0u);
  // And it is one sync: all of it goes back at once.
  EXPECT_TRUE(Revert("y1").ok());
  for (const auto& [name, bytes] : HostFiles()) EXPECT_EQ(bytes, "old") << name;
}

TEST_F(PullRetryTest, AsksAgainForWhatIsAnotherVersionByThen) {
  Differ({{"a", "1"}, {"b", "1"}, {"c", "1"}});
  BreakOnce(2, [this] { WriteFar("a", "2"); });
  MustPull();
  EXPECT_THAT(far().asked, ElementsAre(3, 2));
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}, {"b", "1"}, {"c", "1"}}));
  EXPECT_FALSE(IsKept("1")) << "the version that nobody wants takes no place in the undo store";
}

TEST_F(PullRetryTest, AsksForNothingWhereAllHadCome) {
  Differ({{"a", "1"}, {"b", "1"}, {"c", "1"}});
  BreakOnce(2, [this] { fs::remove(Far("c")); });
  MustPull({.approve_deletes = true});
  EXPECT_THAT(far().asked, ElementsAre(3));
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}, {"b", "1"}}));
}

TEST_F(PullRetryTest, AfterTheLastAttemptNothingIsLeftOfAny) {
  Differ({{"a", "1"}, {"b", "1"}, {"c", "1"}});
  far().hooks.cut_after = 2;
  EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_THAT(far().asked, ElementsAre(3, 1, 1));
  EXPECT_EQ(HostFiles(), (Files{{"a", "old"}, {"b", "old"}, {"c", "old"}}));
  EXPECT_TRUE(FilesBelow(Host(".hermesd-stage")).empty());
}

}  // namespace
}  // namespace hermes::sync
