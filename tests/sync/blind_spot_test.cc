// Changes of the host of which the kernel tells nobody: found by the looks at all stat keys and at
// all bytes, each in its time, and pushed.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include <filesystem>

#include "daemon/runtime/fd.h"
#include "sync/push.h"
#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

class BlindSpotTest : public SyncStand {
 protected:
  // A file system whose pages nobody writes back, so that they stay dirty.
  BlindSpotTest() : SyncStand(RealRoot::Where::kMemory) {}

  // Until a file that was written right now is old enough for its times to be believed.
  static void LetTimesPass() {
    timespec begin, now;
    clock_gettime(CLOCK_REALTIME_COARSE, &begin);
    do {
      clock_gettime(CLOCK_REALTIME_COARSE, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1'000'000'000 + now.tv_nsec - begin.tv_nsec <
             50'000'000);
  }

  // The whole mapping stays writable and dirty.
  char* Map(const std::string& path) {
    const Fd file(open(path.c_str(), O_RDWR | O_CLOEXEC));
    void* const at = mmap(nullptr, 2, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    EXPECT_NE(at, MAP_FAILED);
    return static_cast<char*>(at);
  }
};

TEST_F(BlindSpotTest, AWriteThroughAHardLinkElsewhereIsPushedAfterAMinute) {
  Agree({{"a", "1"}, {"b", "1"}});
  LetTimesPass();
  WriteHost("b", "2");
  MustPush();  // what was read of "a" is believed from now on
  fs::create_hard_link(Host("a"), dir_ + "/elsewhere");
  Spit(dir_ + "/elsewhere", "2");
  EXPECT_TRUE(manager().Clean()) << "nobody was told";
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "1");
  clock_.ahead += kStatsAge - seconds(30);
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "1");
  clock_.ahead += seconds(30);
  EXPECT_FALSE(manager().Clean());
  EXPECT_EQ(drift_, 0u);
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "2"}, {"b", "2"}}));
  EXPECT_EQ(drift_, 1u);
}

TEST_F(BlindSpotTest, AStoreIntoADirtyMappingIsPushedByTheAuditOfBytes) {
  Agree({{"b", "1"}});
  WriteHost("a", "11");
  char* const bytes = Map(Host("a"));
  bytes[0] = 'x';  // the page is dirty from here on, and the file's times tell it once
  MustPush();
  LetTimesPass();
  MustPush({.force = true});
  EXPECT_EQ(FarFiles().at("a"), "x1");
  struct stat before, after;
  ASSERT_EQ(stat(Host("a").c_str(), &before), 0);
  bytes[1] = 'y';
  ASSERT_EQ(stat(Host("a").c_str(), &after), 0);
  ASSERT_EQ(KeyOf(before), KeyOf(after)) << "or this test shows nothing";
  clock_.ahead += kStatsAge;
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "x1") << "its key is what it was";
  clock_.ahead += kBytesAge;
  EXPECT_FALSE(manager().Clean());
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "xy");
  EXPECT_GE(drift_, 1u);
  munmap(bytes, 2);
}

}  // namespace
}  // namespace hermes::sync
