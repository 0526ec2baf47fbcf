// A pull whose disk is full where files are staged, and where the base is written: of both places
// that write outside of landing itself.

#include <cerrno>

#include "tests/sync/fault_fs.h"
#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

class PullFullTest : public SyncStand, public SyncListener {
 protected:
  PullFullTest() : SyncStand(RealRoot::Where::kMemory) {
    fault_.before = [this](const FsCall& call) {
      if (!full_ || call.kind != FsCall::Kind::kOther) return 0;
      ++refused_;
      return -ENOSPC;
    };
    landing_fs_ = &fault_;
    NewDaemon();
  }
  void OnEntry(const SyncEntry&) override { full_ = full_at_entry_; }

  FaultFs fault_{fs_};
  bool full_ = false;
  bool full_at_entry_ = false;
  int refused_ = 0;
};

TEST_F(PullFullTest, WhereAFileIsStagedNothingIsChanged) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", "2");
  far().hooks.within_fetch = [this] {
    full_ = true;
    return Nothing();
  };
  EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_DISK_FULL);
  EXPECT_EQ(refused_, 1) << "it was the first that was to be written";
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}, {"b", "1"}}));
  EXPECT_TRUE(FilesBelow(Host(".hermesd-stage")).empty());
  EXPECT_FALSE(manager().suspect());
  full_ = false;
  far().hooks = {};
  MustPull();
  EXPECT_EQ(HostFiles(), FarFiles());
}

TEST_F(PullFullTest, WhereTheBaseIsWrittenWhatHasLandedIsKnownByTheNextPull) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", "2");
  full_at_entry_ = true;  // an entry is told between landing and the base's commit
  EXPECT_EQ(ReasonOf(Pull({.listener = this}).status()), Reason::k_DISK_FULL);
  EXPECT_EQ(refused_, 1);
  EXPECT_EQ(HostFiles().at("a"), "2");
  full_ = full_at_entry_ = false;
  NewDaemon();
  Open();
  EXPECT_EQ(MustPull().counts, SyncCounts());
  MustPush();
  EXPECT_EQ(HostFiles(), FarFiles());
  WriteFar("a", "3");
  MustPull();
  EXPECT_EQ(HostFiles().at("a"), "3") << "and no conflict";
}

TEST_F(PullFullTest, WhereANewBaseBeginsNothingIsLost) {
  WriteHost("a", "1");
  WriteFar("b", "1");
  Open();
  full_at_entry_ = true;
  EXPECT_FALSE(Pull({.listener = this}).ok());
  EXPECT_GT(refused_, 0);
  full_ = full_at_entry_ = false;
  NewDaemon();
  Open();
  MustPull();
  MustPush();
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}, {"b", "1"}}));
  EXPECT_EQ(FarFiles(), HostFiles());
}

}  // namespace
}  // namespace hermes::sync
