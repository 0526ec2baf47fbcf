#include "sync/host_tree.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"
#include "tests/sync/host_tree_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

RelPath Path(std::string_view text) { return *RelPath::Parse(text); }

class HostTreeTest : public ::testing::Test, protected HostTreeStand {
 protected:
  void ExpectTruth(Effort effort = Effort::kChanges) { EXPECT_EQ(Now(effort).files, Truth()); }
  std::optional<Oddity> OddityOf(const std::string& name) {
    const auto found = tree_->manifest().oddities.find(name);
    return found == tree_->manifest().oddities.end() ? std::nullopt : std::optional(found->second);
  }
};

TEST_F(HostTreeTest, FirstRefreshReadsEverything) {
  Write("a", "1");
  Write("d/e/f", "22");
  Write("x", "");
  chmod(At("x").c_str(), 0755);
  fs::create_directories(At("empty/dir"));
  Open();
  const FileMap files = {
      {Path("a"), Bytes("1")}, {Path("d/e/f"), Bytes("22")}, {Path("x"), Bytes("", true)}};
  EXPECT_EQ(Now().files, files);
  EXPECT_EQ(tree_->manifest().files.at(Path("d/e/f")).size, 2u);
  EXPECT_TRUE(tree_->manifest().oddities.empty());
  EXPECT_TRUE(tree_->watching());
}

TEST_F(HostTreeTest, IsUnchangedUntilSomethingChanges) {
  Write("a", "1");
  Open();
  EXPECT_FALSE(tree_->Unchanged());
  Now();
  const uint64_t generation = tree_->generation();
  EXPECT_TRUE(tree_->Unchanged());
  EXPECT_TRUE(tree_->Unchanged());
  Write("a", "2");
  EXPECT_FALSE(tree_->Unchanged());
  EXPECT_FALSE(tree_->Unchanged());
  ExpectTruth();
  EXPECT_GT(tree_->generation(), generation);
  EXPECT_TRUE(tree_->Unchanged());
}

TEST_F(HostTreeTest, NoticesThatADirectoryAboveTheRootHasMoved) {
  mount_.host_root = Outside("up/per/root");
  fs::create_directories(mount_.host_root);
  Open();
  Now();
  ASSERT_TRUE(tree_->Unchanged());
  fs::rename(Outside("up"), Outside("gone"));
  EXPECT_FALSE(tree_->Unchanged());
  EXPECT_EQ(ReasonOf(tree_->Refresh(Effort::kChanges)), Reason::k_SYNC_FAILED);
}

TEST_F(HostTreeTest, GenerationStandsWhileContentsStand) {
  Write("a", "1");
  Open();
  Now();
  const uint64_t generation = tree_->generation();
  Write("a", "1");
  chmod(At("a").c_str(), 0600);
  Now();
  Now(Effort::kBytes);
  EXPECT_EQ(tree_->generation(), generation);
}

TEST_F(HostTreeTest, SeesWhatIsMadeEditedMovedAndRemoved) {
  Write("a", "1");
  Write("d/b", "2");
  Open();
  Now();
  Write("new", "3");
  Write("d/b", "4");
  ExpectTruth();
  fs::rename(At("new"), At("d/moved"));
  chmod(At("d/b").c_str(), 0755);
  ExpectTruth();
  fs::remove(At("a"));
  fs::resize_file(At("d/b"), 0);
  ExpectTruth();
  EXPECT_TRUE(tree_->watching());
}

TEST_F(HostTreeTest, V41AnEditOfEqualSizeWithItsTimeRestoredIsSeen) {
  Write("a", "before");
  Open();
  Now();
  struct stat seen;
  ASSERT_EQ(stat(At("a").c_str(), &seen), 0);
  Write("a", "behind");
  const timespec times[] = {seen.st_atim, seen.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, At("a").c_str(), times, 0), 0);
  EXPECT_EQ(Now().files.at(Path("a")), Bytes("behind"));
}

TEST_F(HostTreeTest, SeesDirectoriesComeMoveAndGo) {
  Write("d/e/f", "1");
  Open();
  Now();
  Write("new/deep/down/x", "2");
  ExpectTruth();
  Write("new/deep/down/x", "3");
  Write("new/deep/y", "4");
  ExpectTruth();
  fs::rename(At("new/deep"), At("d/deep"));
  ExpectTruth();
  Write("d/deep/down/x", "5");
  ExpectTruth();
  fs::rename(At("d"), Outside("d"));
  ExpectTruth();
  ExpectTruth();  // the end of its watches was noticed too
  WriteFile(Outside("d/e/f"), "changed outside");
  EXPECT_TRUE(tree_->Unchanged());
  fs::rename(Outside("d"), At("d"));
  ExpectTruth();
  fs::remove_all(At("d"));
  ExpectTruth();
  EXPECT_TRUE(tree_->watching());
}

TEST_F(HostTreeTest, SeesDirectoriesSwapNamesAndTurnIntoFiles) {
  Write("a/x", "1");
  Write("b/x", "2");
  Open();
  Now();
  ASSERT_EQ(renameat2(AT_FDCWD, At("a").c_str(), AT_FDCWD, At("b").c_str(), RENAME_EXCHANGE), 0);
  ExpectTruth();
  Write("a/x", "3");
  Write("b/x", "4");
  ExpectTruth();
  fs::remove_all(At("a"));
  Write("a", "a file now");
  ExpectTruth();
  fs::remove(At("a"));
  Write("a/x", "and back");
  ExpectTruth();
}

TEST_F(HostTreeTest, ADirectoryThatLeavesAndReturnsBetweenTwoLooksIsReadAgain) {
  Write("d/x", "1");
  Open();
  Now();
  fs::rename(At("d"), Outside("d"));
  fs::create_directory(Outside("d/sub"));
  WriteFile(Outside("d/sub/y"), "2");
  WriteFile(Outside("d/x"), "3");
  fs::rename(Outside("d"), At("d"));
  ExpectTruth();
  fs::remove_all(At("d"));
  Write("d/x", "another directory, perhaps of the same number");
  ExpectTruth();
  Write("d/x", "4");
  ExpectTruth();
}

TEST_F(HostTreeTest, IgnoredNamesAreNotEvenWatched) {
  mount_.ignore = {"*.o", "/build"};
  Write("build/x", "1");
  Write("a.o", "1");
  Write(".hermesd-stage/x", "1");
  Write("a", "1");
  Open();
  EXPECT_EQ(Now().files, (FileMap{{Path("a"), Bytes("1")}}));
  Write("build/x", "2");
  Write(".hermesd-stage/x", "2");
  EXPECT_TRUE(tree_->Unchanged());
  Write("b.o", "1");
  EXPECT_EQ(Now().files, (FileMap{{Path("a"), Bytes("1")}}));
}

TEST_F(HostTreeTest, ReportsWhatCannotTravel) {
  Write("a", "1");
  Open();
  ASSERT_EQ(mkfifo(At("pipe").c_str(), 0600), 0);
  fs::create_symlink("a", At("link"));
  fs::create_directory_symlink("..", At("up"));
  const Fd socket_fd(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = {.sun_family = AF_UNIX};
  ASSERT_LT(At("sock").size(), sizeof(address.sun_path));
  At("sock").copy(address.sun_path, sizeof(address.sun_path));
  ASSERT_EQ(bind(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  Write("new\nline/x", "1");
  Write("back\\slash", "1");
  EXPECT_EQ(Now().files, (FileMap{{Path("a"), Bytes("1")}}));
  const std::map<std::string, Oddity> expected = {
      {"pipe", Oddity::kSpecial}, {"link", Oddity::kLink},      {"up", Oddity::kLink},
      {"sock", Oddity::kSpecial}, {"new\nline", Oddity::kName}, {"back\\slash", Oddity::kName}};
  EXPECT_EQ(tree_->manifest().oddities, expected);
  for (const auto& [name, oddity] : expected) fs::remove_all(At(name));
  Write("pipe", "a file now");
  ExpectTruth();
  EXPECT_TRUE(tree_->manifest().oddities.empty());
}

TEST_F(HostTreeTest, TakesNamesOfAnyOtherBytes) {
  for (const char* name : {"\xff\xfe", "-rf", "a b", "*", "'\"$(x)", "\x1b[31m", "\xc3\xa9", "..."})
    Write(name, name);
  Open();
  ExpectTruth();
  EXPECT_EQ(tree_->manifest().files.size(), 8u);
}

TEST_F(HostTreeTest, ReportsNamesBeyondTheLimits) {
  std::string deep = "d";
  for (size_t i = 1; i < kMaxDepth; ++i) deep += "/d";
  fs::create_directories(At(deep));
  WriteFile(At(deep + "/too deep"), "1");
  Write("a", "1");
  Open();
  EXPECT_EQ(Now().files.size(), 1u);
  EXPECT_EQ(OddityOf(deep + "/too deep"), Oddity::kName);
}

TEST_F(HostTreeTest, FollowsLinksAsThePolicySays) {
  WriteFile(Outside("secret"), "out");
  fs::create_directory(Outside("dir"));
  Write("in", "in");
  fs::create_symlink("in", At("inside"));
  fs::create_symlink(Outside("secret"), At("outside"));
  fs::create_symlink(Outside("dir"), At("dir"));
  fs::create_symlink("nowhere", At("broken"));
  mount_.links = LinkPolicy::kInside;
  Open();
  EXPECT_EQ(Now().files, (FileMap{{Path("in"), Bytes("in")}, {Path("inside"), Bytes("in")}}));
  EXPECT_EQ(tree_->manifest().oddities.size(), 3u);

  mount_.links = LinkPolicy::kFollowHost;
  Open();
  EXPECT_EQ(Now().files.size(), 3u);
  EXPECT_EQ(Now().files.at(Path("outside")), Bytes("out"));
  WriteFile(Outside("secret"), "new");
  EXPECT_FALSE(tree_->Unchanged());
  EXPECT_EQ(Now().files.at(Path("outside")), Bytes("new"));
  fs::remove(Outside("secret"));
  EXPECT_FALSE(Now().files.contains(Path("outside")));
  EXPECT_EQ(OddityOf("outside"), Oddity::kLink);
}

TEST_F(HostTreeTest, SeesWritesThroughAHardLinkElsewhere) {
  Write("a", "1");
  fs::create_hard_link(At("a"), Outside("a"));
  Open();
  Now();
  for (int i = 0; i < 20; ++i) {
    WriteFile(Outside("a"), std::to_string(i));
    EXPECT_FALSE(tree_->Unchanged());
    ExpectTruth();
  }
}

TEST_F(HostTreeTest, SeesStoresThroughAMappingOnceItIsClosed) {
  Write("a", "before");
  Open();
  Now();
  {
    const Fd file(open(At("a").c_str(), O_RDWR | O_CLOEXEC));
    void* const map = mmap(nullptr, 6, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    ASSERT_NE(map, MAP_FAILED);
    static_cast<char*>(map)[0] = 'x';
    Now(Effort::kBytes);
    static_cast<char*>(map)[1] = 'y';  // onto a page that is dirty already: no new time, no notice
    ASSERT_EQ(munmap(map, 6), 0);
  }
  EXPECT_EQ(Now().files.at(Path("a")), Bytes("xyfore"));
}

TEST_F(HostTreeTest, ANoticeIsNotForgottenByAScanOfTimes) {
  Write("a", "before");
  Open();
  Now();
  const Fd file(open(At("a").c_str(), O_RDWR | O_CLOEXEC));
  void* const map = mmap(nullptr, 6, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  ASSERT_NE(map, MAP_FAILED);
  static_cast<char*>(map)[0] = 'x';
  Now(Effort::kBytes);
  static_cast<char*>(map)[1] = 'y';
  ASSERT_EQ(munmap(map, 6), 0);
  Fd(open(At("a").c_str(), O_WRONLY | O_CLOEXEC)).reset();
  EXPECT_EQ(Now(Effort::kStats).files.at(Path("a")), Bytes("xyfore"));
}

TEST_F(HostTreeTest, LostNoticesMakeItLookAtEverything) {
  // More than the kernel queues. Two files in turn: equal notices in a row count as one.
  size_t queued = 0;
  std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> queued;
  if (queued == 0 || queued > 1'000'000) GTEST_SKIP() << "the queue of notices is too long to fill";
  Write("a", "1");
  Write("b", "1");
  Open();
  Now();
  for (size_t i = 0; i <= queued / 2; ++i) {
    ASSERT_EQ(chmod(At("a").c_str(), 0644), 0);
    ASSERT_EQ(chmod(At("b").c_str(), 0644), 0);
  }
  Write("late/x", "after the queue was full");
  fs::remove(At("b"));
  EXPECT_FALSE(tree_->Unchanged());
  ExpectTruth();
  Write("late/x", "watched like the others");
  ExpectTruth();
  EXPECT_TRUE(tree_->watching());
  EXPECT_TRUE(tree_->Unchanged());
}

TEST_F(HostTreeTest, WithoutEnoughWatchesItScans) {
  Write("a/b/c/d", "1");
  Open(3);
  ExpectTruth();
  EXPECT_FALSE(tree_->watching());
  Write("a/b/c/d", "2");
  Write("e/f", "3");
  EXPECT_FALSE(tree_->Unchanged());
  ExpectTruth();
  fs::remove_all(At("a/b"));
  Now(Effort::kBytes);
  EXPECT_TRUE(tree_->watching());
  EXPECT_TRUE(tree_->Unchanged());
  Write("g/h", "one directory more than there are watches");
  ExpectTruth();
  EXPECT_FALSE(tree_->watching());
  Write("g/h", "4");
  ExpectTruth();
}

// A user namespace has limits of its own, so nobody else misses what is used up here.
TEST_F(HostTreeTest, WhereTheKernelHasNoWatchLeftItScans) {
  if (std::system("unshare -U true 2>/dev/null") != 0) GTEST_SKIP() << "no namespaces here";
  for (int i = 0; i < 40; ++i) Write("d" + std::to_string(i) + "/f", "1");
  const auto in_a_namespace = [this] {
    if (unshare(CLONE_NEWUSER) != 0) return false;
    std::ofstream("/proc/sys/user/max_inotify_watches") << 30;
    Open();
    ExpectTruth();
    EXPECT_FALSE(tree_->watching());
    Write("d7/f", "2");
    Write("d39/g", "3");
    EXPECT_FALSE(tree_->Unchanged());
    ExpectTruth();
    for (int i = 10; i < 40; ++i) fs::remove_all(At("d" + std::to_string(i)));
    Now(Effort::kBytes);
    EXPECT_TRUE(tree_->watching()) << "there are enough for what is left";
    EXPECT_TRUE(tree_->Unchanged());
    return !HasFailure();
  };
  EXPECT_EXIT(_exit(in_a_namespace() ? 0 : 1), testing::ExitedWithCode(0), "");
}

TEST_F(HostTreeTest, AScanDoesNotTrustTimesThatAreTooFresh) {
  Write("a", "0000");
  Open(0);
  Now();
  for (int i = 0; i < 300; ++i) {
    Write("a", std::to_string(1000 + i));  // of equal size and mostly within one tick
    ASSERT_EQ(Now().files.at(Path("a")), Bytes(std::to_string(1000 + i)));
  }
}

TEST_F(HostTreeTest, RefusesARootThatMovedOrWasReplaced) {
  Write("a", "1");
  Open();
  Now();
  fs::rename(At(""), Outside("moved"));
  EXPECT_FALSE(tree_->Unchanged());
  EXPECT_EQ(ReasonOf(tree_->Refresh(Effort::kChanges)), Reason::k_SYNC_FAILED);
  fs::create_directory(At(""));
  EXPECT_FALSE(tree_->Refresh(Effort::kChanges).ok());
  fs::remove(At(""));
  WriteFile(Outside("moved/a"), "2");
  fs::rename(Outside("moved"), At(""));
  ExpectTruth();
  fs::remove_all(At(""));
  EXPECT_FALSE(tree_->Refresh(Effort::kChanges).ok());
  EXPECT_FALSE(tree_->Refresh(Effort::kChanges).ok());
}

TEST_F(HostTreeTest, HoldsTheLimitsOfTheMount) {
  mount_.max_files = 3;
  mount_.max_bytes = 10;
  mount_.max_file_bytes = 6;
  for (const char* name : {"a", "b", "c"}) Write(name, "1");
  Open();
  Now();
  Write("d", "1");
  EXPECT_EQ(ReasonOf(tree_->Refresh(Effort::kChanges)), Reason::k_SYNC_FAILED);
  EXPECT_FALSE(tree_->Unchanged());
  fs::remove(At("d"));
  ExpectTruth();
  Write("a", "1234567");
  Now();
  EXPECT_EQ(OddityOf("a"), Oddity::kTooBig);
  Write("a", "123456");
  ExpectTruth();
  Write("b", "12345");
  const absl::Status status = tree_->Refresh(Effort::kChanges);
  EXPECT_NE(status.message().find("bytes"), std::string::npos) << status;
  Write("b", "");
  ExpectTruth();
}

TEST_F(HostTreeTest, AHugeTreeIsGivenUpEarly) {
  mount_.max_files = 2;
  for (int i = 0; i < 50; ++i) Write("d" + std::to_string(i) + "/f", "1");
  Open();
  EXPECT_FALSE(tree_->Refresh(Effort::kChanges).ok());
  EXPECT_LE(tree_->manifest().files.size(), 3u);
}

// Runs as an account without rights: the thread's ids alone change, those of the process stay.
template <typename F>
void AsNobody(F run) {
  std::thread([&run] {
    constexpr int kNobody = 65534;
    ASSERT_EQ(syscall(SYS_setresuid, kNobody, kNobody, kNobody), 0);
    run();
  }).join();
}

TEST_F(HostTreeTest, UnreadableFilesAndDirectoriesAreUnknownNotGone) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  Write("a", "1");
  Write("shut/x", "1");
  Write("secret", "1");
  Open();
  fs::permissions(fs::path(At("")).parent_path().parent_path(), fs::perms(0755));
  AsNobody([this] { Now(); });
  EXPECT_EQ(tree_->manifest().files.size(), 3u);
  chmod(At("shut").c_str(), 0700);
  chmod(At("secret").c_str(), 0600);
  AsNobody([this] { Now(); });
  EXPECT_EQ(tree_->manifest().files.size(), 1u);
  EXPECT_EQ(OddityOf("shut"), Oddity::kUnreadable);
  EXPECT_EQ(OddityOf("secret"), Oddity::kUnreadable);
  chmod(At("shut").c_str(), 0755);
  chmod(At("secret").c_str(), 0644);
  AsNobody([this] { Now(); });
  EXPECT_EQ(tree_->manifest().files, Truth());
  EXPECT_TRUE(tree_->manifest().oddities.empty());
}

TEST_F(HostTreeTest, StaysOnItsFileSystem) {
  Write("a", "1");
  fs::create_directory(At("other"));
  if (mount("none", At("other").c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "may not mount";
  WriteFile(At("other/x"), "1");
  Open();
  EXPECT_EQ(Now().files.size(), 1u);
  EXPECT_EQ(OddityOf("other"), Oddity::kOtherFileSystem);
  ASSERT_EQ(umount2(At("other").c_str(), MNT_DETACH), 0);
}

TEST_F(HostTreeTest, RemembersFilesOfAnEarlierLife) {
  Write("a", "1");
  Write("b", "2");
  struct stat seen;
  ASSERT_EQ(stat(At("a").c_str(), &seen), 0);
  const Content remembered = Bytes("as remembered");
  StatKey other = KeyOf(seen);
  ++other.ctime_ns;
  Open(kMaxWatches, {{"a", {remembered, KeyOf(seen)}}, {"b", {remembered, other}}});
  EXPECT_EQ(Now().files.at(Path("a")), remembered);
  EXPECT_EQ(tree_->manifest().files.at(Path("b")), Bytes("2"));
  EXPECT_EQ(tree_->TrustedKey(Path("a")), KeyOf(seen));
  EXPECT_EQ(Now(Effort::kStats).files.at(Path("a")), remembered);
  EXPECT_EQ(Now(Effort::kBytes).files.at(Path("a")), Bytes("1"));
}

TEST_F(HostTreeTest, FreshFilesAreNotRememberedByTheirKeys) {
  Write("a", "1");
  Open();
  Now();
  EXPECT_EQ(tree_->TrustedKey(Path("a")).ino, 0u);
  EXPECT_EQ(tree_->TrustedKey(Path("none")).ino, 0u);
  const timespec old[] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
  ASSERT_EQ(utimensat(AT_FDCWD, At("a").c_str(), old, 0), 0);
  Now();
  EXPECT_EQ(tree_->TrustedKey(Path("a")).ino, 0u) << "its ctime is fresh still";
}

TEST_F(HostTreeTest, AFileMountIsThatFileAlone) {
  Write("token", "1");
  Write("other", "1");
  mount_.host_root = At("token");
  mount_.remote_root = "/token";
  Open();
  EXPECT_EQ(Now().files, (FileMap{{Path("token"), Bytes("1")}}));
  EXPECT_FALSE(tree_->watching());
  Write("other", "2");
  WriteFile(At("token.new"), "2");
  fs::rename(At("token.new"), At("token"));
  EXPECT_FALSE(tree_->Unchanged());
  EXPECT_EQ(Now().files, (FileMap{{Path("token"), Bytes("2")}}));
  fs::remove(At("token"));
  EXPECT_FALSE(tree_->Unchanged());
  EXPECT_TRUE(Now().files.empty());
  EXPECT_TRUE(tree_->Unchanged());
}

TEST_F(HostTreeTest, WatchesWhereTheKernelTellsEverything) {
  EXPECT_TRUE(TellsOfChanges(0xef53));       // ext
  EXPECT_TRUE(TellsOfChanges(0x9123683e));   // btrfs
  EXPECT_TRUE(TellsOfChanges(0x01021994));   // tmpfs
  EXPECT_FALSE(TellsOfChanges(0x6969));      // NFS
  EXPECT_FALSE(TellsOfChanges(0xfe534d42));  // SMB2
  EXPECT_FALSE(TellsOfChanges(0x65735546));  // FUSE
}

}  // namespace
}  // namespace hermes::sync
