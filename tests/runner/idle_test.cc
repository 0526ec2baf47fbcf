// A runner that nothing needs ends by itself; one that something needs does not.

#include "backends/runner/idle.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

constexpr int64_t kLimitUs = 1000;

TEST(IdleWatchTest, EndsWhenNothingWasNeededForTheWholeLimit) {
  runner::IdleWatch watch(kLimitUs);
  EXPECT_EQ(watch.Observe(false, 10), 10 + kLimitUs);
  EXPECT_EQ(watch.Observe(false, 900), 10 + kLimitUs) << "looking again puts nothing off";
  EXPECT_EQ(watch.Observe(false, 5000), 10 + kLimitUs) << "nor does being late";
}

TEST(IdleWatchTest, NeverEndsWhileItIsNeeded) {
  runner::IdleWatch watch(kLimitUs);
  EXPECT_EQ(watch.Observe(true, 10), 0);
  EXPECT_EQ(watch.Observe(true, 10 + 100 * kLimitUs), 0);
}

TEST(IdleWatchTest, AVisitBeginsTheLimitAnew) {
  runner::IdleWatch watch(kLimitUs);
  EXPECT_EQ(watch.Observe(false, 10), 10 + kLimitUs);
  EXPECT_EQ(watch.Observe(true, 1009), 0);
  EXPECT_EQ(watch.Observe(false, 1500), 1500 + kLimitUs);
}

class IdleTest : public RunnerTest {
 protected:
  std::vector<std::string> ServeWords() const override {
    return {RunnerProgram(), "serve", directory, "--idle-ms", "200"};
  }
  // On a busy machine the limit may pass before anybody has connected: then once more.
  void Begin() override {
    for (const auto until = Clock::now() + kPatience; Clock::now() < until;) {
      ASSERT_EQ(RunProgram(ServeWords(), home), 0);
      client = std::make_unique<Client>(directory);
      if (client->connected() && Greet()) return;
    }
    FAIL() << "the runner never stays";
  }
  bool Serves() const { return std::filesystem::exists(directory + "/s"); }
};

TEST_F(IdleTest, EndsOnceSessionCommandAndLinkAreGone) {
  OpenSession();
  EXPECT_EQ(Run("sleep 0.5; echo on").out, "on\n") << "longer than the limit";
  ASSERT_TRUE(Serves());
  ASSERT_TRUE(client->CloseSession("s", 0));
  EXPECT_TRUE(IsAlive(runner_pid)) << "there is still a link";
  client.reset();
  WaitForEnd(runner_pid);
  EXPECT_FALSE(IsAlive(runner_pid));
  EXPECT_FALSE(Serves());
}

TEST_F(IdleTest, ASessionKeepsItWithoutAnyLink) {
  OpenSession();
  const std::string fifo = directory + "/ended";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const int told = open(fifo.c_str(), O_RDWR | O_CLOEXEC);
  client->Start(Shell("sleep 0.5; echo >" + fifo));
  client->List();  // the command has been taken
  client->Close();
  pollfd ended{.fd = told, .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&ended, 1, 30'000), 1);
  close(told);
  const pid_t before = runner_pid;
  Connect();
  EXPECT_EQ(runner_pid, before);
}

TEST_F(IdleTest, TheNextOneServesTheSameDirectory) {
  const pid_t first = runner_pid;
  client.reset();
  WaitForEnd(first);
  Begin();
  EXPECT_NE(runner_pid, first);
  OpenSession();
  EXPECT_EQ(Run("echo again").out, "again\n");
}

}  // namespace
}  // namespace hermes::test
