// What a pull tells: that a dry run says the same, entry by entry, and what counts as not saved.

#include <algorithm>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>

#include "sync/stage_files.h"
#include "tests/sync/fault_fs.h"
#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

using testing::UnorderedElementsAreArray;

class PullTellTest : public SyncStand {
 protected:
  PullTellTest() : SyncStand(RealRoot::Where::kMemory) {}

  // Without how it went.
  using Told = std::tuple<std::string, Effect, Why, std::string>;
  std::vector<Told> Entries() const {
    std::vector<Told> told;
    for (const SyncEntry& entry : heard_.entries)
      told.emplace_back(entry.path, entry.effect, entry.why, entry.aside);
    return told;
  }
};

TEST_F(PullTellTest, ADryRunTellsAndCountsWhatThePullDoes) {
  for (const ConflictPolicy policy : {ConflictPolicy::kRemote, ConflictPolicy::kHost,
                                      ConflictPolicy::kBoth, ConflictPolicy::kAbort}) {
    SCOPED_TRACE(static_cast<int>(policy));
    Empty();
    for (const char* name : {"both", "gone there", "theirs", "ours", "same"}) WriteHost(name, "1");
    Open({.conflict = policy});
    MustPush();
    WriteHost("both", "host");
    WriteFar("both", "remote");
    WriteHost("gone there", "edited");
    std::filesystem::remove(Far("gone there"));
    WriteFar("theirs", "2");
    WriteHost("ours", "2");
    WriteHost("same", "2");
    WriteFar("same", "2");
    WriteFar("new", "3");
    const SyncReport planned = MustPull({.dry_run = true});
    const std::vector<Told> told = Entries();
    const SyncReport done = MustPull();
    EXPECT_THAT(told, UnorderedElementsAreArray(Entries()));
    EXPECT_EQ(heard_.Of("gone there").why, Why::kHostStands);
    EXPECT_EQ(planned.counts.conflicts, 1u);
    EXPECT_EQ(done.counts.conflicts, 1u);
    EXPECT_EQ(planned.unsaved, done.unsaved);
    EXPECT_EQ(planned.counts.applied, 0u);
  }
}

TEST_F(PullTellTest, FilesBehindAMountPointOverThereAreNotSaved) {
  Agree({{"a", "1"}});
  far().hooks.look = [](RemoteLook* look) {
    look->same = false;
    look->manifest.oddities["disk"] = Oddity::kOtherFileSystem;
  };
  EXPECT_EQ(MustPull().unsaved, 1u);
  EXPECT_EQ(heard_.Of("disk").why, Why::kOdd);
}

TEST_F(PullTellTest, TheTotalIsNeverLessThanWhatCameWhereNoSizeIsToldBefore) {
  Agree({{"a", "1"}});
  WriteFar("b", std::string(100'000, 'x'));
  far().hooks.look = [](RemoteLook* look) {
    for (auto& [path, content] : look->manifest.files) content.size = 0;
  };
  MustPull();
  EXPECT_EQ(heard_.progress.bytes_done, 100'000u);
  EXPECT_EQ(heard_.progress.bytes_total, 100'000u);
  EXPECT_EQ(heard_.progress.files_total, 1u);
}

// A disk that says how much room it has, less with each byte that is written.
class SmallDisk : public FaultFs {
 public:
  SmallDisk(Fs& inner, uint64_t free) : FaultFs(inner), free_(free) {}
  int FreeBytes(int, uint64_t* bytes) override {
    *bytes = free_ - std::min(free_, written);
    return 0;
  }
  int Write(int handle, uint64_t offset, std::string_view bytes) override {
    written += bytes.size();
    return FaultFs::Write(handle, offset, bytes);
  }
  uint64_t written = 0;

 private:
  const uint64_t free_;
};

// What it tells of its sizes is its own word.
TEST_F(PullTellTest, ASandboxThatSendsMoreThanItToldDoesNotFillTheDisk) {
  constexpr uint64_t kFree = 32 << 20;
  SmallDisk disk(fs_, kFree);
  landing_fs_ = &disk;
  NewDaemon();
  Agree({{"a", "1"}});
  WriteFar("b", std::string(kFree, 'x'));
  far().hooks.look = [](RemoteLook* look) {
    for (auto& [path, content] : look->manifest.files) content.size = 0;
  };
  EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_DISK_FULL);
  EXPECT_LE(disk.written, kFree - kFree / kKeptFreeShare + kRoomEvery);
  EXPECT_GE(disk.written, kFree / 2);
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}}));
  EXPECT_FALSE(manager().suspect());
}

}  // namespace
}  // namespace hermes::sync
