#include <fcntl.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/runtime/backoff.h"
#include "daemon/runtime/check.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/random.h"

namespace hermes {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(BackoffTest, DelaysLieInTheUpperHalfOfADoublingCeiling) {
  SeededRandom random(1);
  for (int round = 0; round < 200; ++round) {
    Backoff backoff({.first = milliseconds(100), .most = seconds(1)}, random);
    for (int ceiling_ms : {100, 200, 400, 800, 1000, 1000, 1000}) {
      const Duration delay = backoff.Next();
      EXPECT_GT(delay, milliseconds(ceiling_ms) / 2);
      EXPECT_LE(delay, milliseconds(ceiling_ms));
    }
    EXPECT_EQ(backoff.attempts(), 7);
  }
}

TEST(BackoffTest, ResetStartsOver) {
  SeededRandom random(1);
  Backoff backoff({.first = milliseconds(100), .most = seconds(60)}, random);
  for (int i = 0; i < 10; ++i) backoff.Next();
  backoff.Reset();
  EXPECT_EQ(backoff.attempts(), 0);
  EXPECT_LE(backoff.Next(), milliseconds(100));
}

TEST(BackoffTest, NeverOverflowsOrExceedsTheMost) {
  SeededRandom random(1);
  Backoff endless({.first = Duration(1), .most = Duration::max()}, random);
  for (int i = 0; i < 200; ++i) EXPECT_GT(endless.Next(), Duration::zero());
  Backoff narrow({.first = seconds(5), .most = seconds(2)}, random);
  EXPECT_LE(narrow.Next(), seconds(2));
}

TEST(RandomTest, HexHasTwoLowerCaseDigitsPerByte) {
  SystemRandom random;
  for (size_t bytes : {0, 1, 7, 8, 9, 32}) {
    const std::string hex = random.Hex(bytes);
    EXPECT_EQ(hex.size(), 2 * bytes);
    EXPECT_EQ(hex.find_first_not_of("0123456789abcdef"), hex.npos);
  }
}

TEST(RandomTest, UuidsAreVersionFourAndDiffer) {
  SystemRandom random;
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const std::string uuid = random.Uuid();
    ASSERT_EQ(uuid.size(), 36u);
    for (size_t at = 0; at < uuid.size(); ++at) {
      const bool dash = at == 8 || at == 13 || at == 18 || at == 23;
      EXPECT_EQ(uuid[at] == '-', dash) << uuid;
    }
    EXPECT_EQ(uuid[14], '4');
    EXPECT_NE(std::string("89ab").find(uuid[19]), std::string::npos) << uuid;
    EXPECT_TRUE(seen.insert(uuid).second);
  }
}

TEST(RandomTest, SameSeedGivesTheSameSequence) {
  SeededRandom a(42), b(42), c(43);
  EXPECT_EQ(a.Uuid(), b.Uuid());
  EXPECT_NE(a.Uuid(), c.Uuid());
}

int OpenNull() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }
bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(FdTest, ClosesAtTheEndOfItsLife) {
  int number = -1;
  {
    Fd fd(OpenNull());
    ASSERT_TRUE(fd.valid());
    number = fd.get();
    EXPECT_TRUE(IsOpen(number));
  }
  EXPECT_FALSE(IsOpen(number));
}

TEST(FdTest, MovesOwnershipAndClosesWhatItReplaces) {
  Fd a(OpenNull());
  Fd b(OpenNull());
  const int first = a.get(), second = b.get();
  b = std::move(a);
  EXPECT_FALSE(a.valid());
  EXPECT_EQ(b.get(), first);
  EXPECT_FALSE(IsOpen(second));
  Fd& same = b;
  b = std::move(same);
  EXPECT_TRUE(IsOpen(first));
}

TEST(FdTest, ReleaseGivesTheDescriptorAwayOpen) {
  Fd fd(OpenNull());
  const int number = fd.release();
  EXPECT_FALSE(fd.valid());
  EXPECT_TRUE(IsOpen(number));
  close(number);
}

TEST(FdTest, ResetKeepsErrno) {
  Fd bad(1 << 20);
  errno = EAGAIN;
  bad.reset();
  EXPECT_EQ(errno, EAGAIN);
}

// What the log writes while `lines` runs.
template <typename F>
std::string Logged(F lines) {
  testing::internal::CaptureStderr();
  lines();
  return testing::internal::GetCapturedStderr();
}

TEST(LogTest, JournalLinesCarryPriorityAndContext) {
  InitLog(LogLevel::kDebug, true);
  EXPECT_EQ(Logged([] { LogError("no room", {.session = "s1", .command = "c2"}); }),
            "<3>no room session=s1 command=c2\n");
  EXPECT_EQ(Logged([] { LogWarning("slow", {.request_id = "r"}); }), "<4>slow request=r\n");
  EXPECT_EQ(Logged([] { LogInfo("up"); }), "<6>up\n");
  EXPECT_EQ(Logged([] { LogDebug("step"); }), "<7>step\n");
}

TEST(LogTest, LinesBelowTheLeastLevelAreLeftOut) {
  InitLog(LogLevel::kWarning, true);
  EXPECT_EQ(Logged([] {
              LogInfo("quiet");
              LogWarning("heard");
            }),
            "<4>heard\n");
}

TEST(LogTest, PlainLinesStartWithUtcTimeAndLevel) {
  InitLog(LogLevel::kInfo, false);
  const std::string line = Logged([] { LogInfo("up"); });
  ASSERT_EQ(line.size(), std::string("2026-01-01T00:00:00.000Z info up\n").size()) << line;
  EXPECT_TRUE(std::isdigit(static_cast<unsigned char>(line[0])));
  EXPECT_EQ(line.substr(19, 1), ".");
  EXPECT_EQ(line.substr(23), "Z info up\n");
}

TEST(LogTest, TextFromOutsideCannotForgeALine) {
  InitLog(LogLevel::kInfo, true);
  EXPECT_EQ(Logged([] { LogInfo("a\n<3>b\x1b[1m {} %s", {.session = std::string("x\0y\n", 4)}); }),
            "<6>a\\x0a<3>b\\x1b[1m {} %s session=x\\x00y\\x0a\n");
}

TEST(LogTest, ThreadsNeverMixLines) {
  constexpr int kThreads = 4, kLines = 200;
  InitLog(LogLevel::kInfo, true);
  const std::string text = Logged([] {
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([] {
        for (int line = 0; line < kLines; ++line) LogInfo("a line of some length");
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  std::string expected;
  for (int i = 0; i < kThreads * kLines; ++i) expected += "<6>a line of some length\n";
  EXPECT_EQ(text, expected);
}

TEST(CheckDeathTest, FailedCheckNamesTheConditionAndThePlace) {
  EXPECT_DEATH(CHECK(1 + 1 == 3), "values_test.cc:[0-9]+: CHECK failed: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace hermes
