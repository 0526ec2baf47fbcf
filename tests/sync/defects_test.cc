// The predecessor's defects, each as a test that would see it again. README.md lists those that lie
// elsewhere.

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>

#include "daemon/runtime/fd.h"
#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"
#include "tests/sync/tar_bytes.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

class DefectsTest : public SyncStand {
 protected:
  DefectsTest() : SyncStand(RealRoot::Where::kMemory) {}
};

// The baseline was the hash of the host's file after the upload, so that an edit during the upload
// was taken for what the sandbox had, and a pull buried it.
TEST_F(DefectsTest, D03AnEditDuringTheUploadIsNoBaselineAndOutlivesThePull) {
  for (const size_t size : {size_t{10}, size_t{5 << 20}}) {  // held in memory, read as it goes out
    SCOPED_TRACE(size);
    Empty();
    Agree({{"a", "1"}});
    const std::string sent(size, 's');
    WriteHost("a", sent);
    // The bytes are over there, what is known of them is not written yet.
    far().hooks.after_apply = [this] {
      WriteHost("a", "saved during the upload");
      return absl::OkStatus();
    };
    MustPush();
    far().hooks = {};
    EXPECT_TRUE(FarFiles().at("a") == sent);
    EXPECT_FALSE(manager().Clean());
    const SyncReport report = MustPull();
    EXPECT_EQ(report.counts.conflicts, 0u);
    EXPECT_EQ(HostFiles().at("a"), "saved during the upload");
    MustPush();
    EXPECT_EQ(FarFiles().at("a"), "saved during the upload");
  }
}

// Files were copied onto their names: through links, into fifos, half of one when it was killed.
TEST_F(DefectsTest, D04NothingIsWrittenThroughWhatLiesUnderAName) {
  Files names;
  for (const char* name : {"link", "hard", "fifo", "dir", "up/x", "plain"}) names[name] = "1";
  Agree(names);
  for (const auto& [name, bytes] : names) WriteFar(name, "from the sandbox");
  Spit(dir_ + "/outside/secret", "1");
  // While the files are fetched, so that no look of before has seen it.
  far().hooks.within_fetch = [this] {
    for (const char* name : {"link", "hard", "fifo", "dir", "up"}) fs::remove_all(Host(name));
    fs::create_symlink("../outside/secret", Host("link"));
    fs::create_hard_link(dir_ + "/outside/secret", Host("hard"));
    EXPECT_EQ(mkfifo(Host("fifo").c_str(), 0600), 0);
    fs::create_directory(Host("dir"));
    Spit(Host("dir/mine"), "mine");
    fs::create_directory_symlink("../outside", Host("up"));
    return Nothing();
  };
  const SyncReport report = MustPull();
  EXPECT_EQ(FilesBelow(dir_ + "/outside"), (Files{{"secret", "1"}}));
  EXPECT_EQ(HostFiles().at("plain"), "from the sandbox");
  EXPECT_EQ(HostFiles().at("dir/mine"), "mine");
  EXPECT_TRUE(fs::is_symlink(Host("link")));
  EXPECT_TRUE(fs::is_symlink(Host("up")));
  EXPECT_TRUE(fs::is_fifo(Host("fifo")));
  EXPECT_EQ(Slurp(Host("hard")), "1");
  EXPECT_EQ(report.unsaved, 5u);
}

// A push that was skipped or had failed was a line in a log, and commands ran on stale files.
TEST_F(DefectsTest, D06NoPushIsSkippedAndWhatFailedIsToldUntilItIsDone) {
  Agree({{"a", "1"}});
  WriteHost("a", "2");
  EXPECT_FALSE(manager().Clean());
  far().hooks.before = [](std::string_view) { return Error(Reason::k_BACKEND_UNREACHABLE, "cut"); };
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ReasonOf(Push().status()), Reason::k_BACKEND_UNREACHABLE);
    EXPECT_FALSE(manager().Clean());
  }
  far().hooks.before = [](std::string_view) { return Error(Reason::k_SYNC_FAILED, "no"); };
  EXPECT_EQ(ReasonOf(Push().status()), Reason::k_SYNC_FAILED);
  EXPECT_FALSE(manager().Clean());
  far().hooks = {};
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "2");
  EXPECT_TRUE(manager().Clean());
}

// Deletions over there never came back, and no push restored the files: the trees drifted apart.
TEST_F(DefectsTest, D08ADeletionOverThereIsTakenOrToldAndNeverForgotten) {
  for (const DeletePolicy deletes :
       {DeletePolicy::kGuarded, DeletePolicy::kReport, DeletePolicy::kNever}) {
    SCOPED_TRACE(static_cast<int>(deletes));
    Empty();
    Agree({{"a", "1"}, {"b", "1"}}, {.deletes = deletes});
    fs::remove(Far("a"));
    for (int pull = 0; pull < 2; ++pull) {
      MustPull();
      EXPECT_EQ(HostFiles().contains("a"), deletes != DeletePolicy::kGuarded);
      if (deletes == DeletePolicy::kReport)  // each time, as the trees still differ
        EXPECT_EQ(heard_.Of("a").why, Why::kNotDeleted);
      if (deletes == DeletePolicy::kNever) EXPECT_TRUE(heard_.entries.empty());
    }
    MustPush();
    EXPECT_EQ(FarFiles(), (Files{{"b", "1"}}));
    if (deletes == DeletePolicy::kGuarded) continue;
    WriteHost("a", "2");
    MustPush();
    EXPECT_EQ(FarFiles(), HostFiles());
  }
}

// One fifo, socket or endless name, and everything was lost after three attempts. V64 is the
// socket.
TEST_F(DefectsTest, D09OneOddFileOverThereLosesNothingElseV64) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", "2");
  WriteFar("new", "3");
  ASSERT_EQ(mkfifo(Far("fifo").c_str(), 0600), 0);
  fs::create_symlink("/etc/passwd", Far("link"));
  WriteFar("odd\nname", "4");
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  std::strncpy(address.sun_path, Far("live.sock").c_str(), sizeof(address.sun_path) - 1);
  const Fd live(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(live.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const SyncReport report = MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}, {"b", "1"}, {"new", "3"}}));
  EXPECT_EQ(report.counts.rejected, 4u);
  EXPECT_EQ(report.unsaved, 1u);  // the name that not every side can spell: it has bytes
  EXPECT_FALSE(report.suspect);
  for (const char* name : {"fifo", "link", "live.sock", "odd\nname"})
    EXPECT_EQ(heard_.Of(name).why, Why::kOdd);
  // And one here does not keep the rest from going over.
  ASSERT_EQ(mkfifo(Host("host-fifo").c_str(), 0600), 0);
  WriteHost("b", "5");
  MustPush();
  EXPECT_EQ(FarFiles().at("b"), "5");
}

// A header that was damaged in mid-archive ended the reader without an error, and the files before
// it were applied as if they were all.
TEST_F(DefectsTest, D10OfADamagedStreamNothingIsApplied) {
  const Files old = {{"a", "1"}, {"b", "1"}, {"c", "1"}};
  Agree(old);
  for (const auto& [name, bytes] : old) WriteFar(name, "2");
  const std::string first = tar::File("a", "2");
  const std::string whole = first + tar::File("b", "2") + tar::File("c", "2") + tar::End();
  std::string damaged = whole;
  damaged[first.size() + 1] = '?';  // in the second one's header
  for (const std::string& stream : {damaged, first, whole.substr(0, first.size() + 600)}) {
    SCOPED_TRACE(stream.size());
    far().hooks.stream = stream;
    EXPECT_FALSE(Pull().ok());
    EXPECT_EQ(HostFiles(), old);
    manager().set_suspect(false);
  }
  far().hooks = {};
  MustPull();
  EXPECT_EQ(HostFiles(), FarFiles());
}

// The sandbox was destroyed whether or not its work had come back: here whoever ends a place is
// told how much would be lost, and a pull that failed is a failure.
TEST_F(DefectsTest, D11WhatWouldBeLostIsCountedAndAFailedPullIsAnError) {
  Agree({{"a", "1"}, {"b", "1"}, {"c", "1"}}, {.max_file_bytes = 100});
  WriteFar("a", "2");
  WriteFar("big", std::string(101, 'x'));
  fs::remove(Host("b"));
  fs::create_symlink("c", Host("b"));
  WriteFar("b", "2");
  EXPECT_EQ(MustPull().unsaved, 2u);
  EXPECT_EQ(MustPull().unsaved, 2u);
  WriteFar("a", "3");
  far().hooks.before = [](std::string_view) { return Error(Reason::k_BACKEND_UNREACHABLE, "cut"); };
  EXPECT_FALSE(Pull().ok());
  far().hooks = {};
  fs::remove(Far("big"));
  fs::remove(Host("b"));
  EXPECT_EQ(MustPull().unsaved, 0u);
  EXPECT_EQ(HostFiles(), (Files{{"a", "3"}, {"b", "2"}, {"c", "1"}}));
}

// The lock was held through the whole download.
TEST_F(DefectsTest, D12TheLockIsFreeDuringTheDownload) {
  lock_file_ = dir_ + "/.sync.lock";
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  struct stat root = {};
  ASSERT_EQ(stat(Host("").c_str(), &root), 0);
  int fetches = 0;
  const LockRequest request{lock_file_, {{root.st_dev, root.st_ino}}};
  far().hooks.before = [&](std::string_view) {
    EXPECT_TRUE(locks_.TryAcquire(request).ok());
    return absl::OkStatus();
  };
  far().hooks.within_fetch = [&] {
    ++fetches;
    EXPECT_TRUE(locks_.TryAcquire(request).ok());
    return Nothing();
  };
  MustPull();
  EXPECT_EQ(fetches, 1);
  EXPECT_EQ(HostFiles().at("a"), "2");
}

}  // namespace
}  // namespace hermes::sync
