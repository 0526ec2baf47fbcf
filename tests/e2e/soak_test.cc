// Minutes of mixed work by several clients: everything is answered right, and afterwards hermesd
// and its runner hold what they held before.

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/bench/measure.h"
#include "tests/e2e/daemon_process.h"

namespace hermes {
namespace {

constexpr std::chrono::seconds kWarmUp{90};  // what ended is dropped once a minute
constexpr std::chrono::seconds kSoak{150};
constexpr int kClients = 4;
constexpr uint64_t kSlackKb = 8 << 10;  // of resident memory: what an allocator keeps
// The runner remembers the last 100,000 run ids for a day, so that none starts twice.
constexpr uint64_t kBytesPerRunId = 128;

size_t EntriesOf(const std::string& folder) {
  std::error_code error;
  std::filesystem::directory_iterator entries(folder, error);
  size_t count = 0;
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    ++count;
  }
  return count;
}

// What a process must not collect.
struct Holds {
  explicit Holds(pid_t pid)
      : rss_kb(RssKb(pid)),
        files(EntriesOf("/proc/" + std::to_string(pid) + "/fd")),
        threads(EntriesOf("/proc/" + std::to_string(pid) + "/task")) {}

  uint64_t rss_kb;
  size_t files;
  size_t threads;
};

// One client's sessions, one after the other, each with a bit of everything.
class Client {
 public:
  Client(DaemonProcess& daemon, int number)
      : daemon_(daemon), prefix_("c" + std::to_string(number) + "-") {}

  // Returns the number of commands.
  uint64_t WorkUntil(std::chrono::steady_clock::time_point end) {
    auto channel = daemon_.Connect();
    exec_ = v1::ExecService::NewStub(channel);
    sessions_ = v1::SessionService::NewStub(channel);
    while (std::chrono::steady_clock::now() < end && !testing::Test::HasFailure()) OneSession();
    return uint64_t{kCommandsPerSession} * static_cast<uint64_t>(made_);
  }

 private:
  static constexpr int kCommandsPerSession = 7;
  void OneSession() {
    const std::string session = prefix_ + std::to_string(++made_);
    daemon_.CreateSession(session);
    for (int i = 0; i < 3; ++i) {
      const Seen small = ExecuteToEnd(daemon_, Shell(session, "export N=1$N; echo $N; exit 7"));
      EXPECT_EQ(small.out, std::string(static_cast<size_t>(i) + 1, '1') + "\n");
      EXPECT_EQ(small.command.exit().code(), 7);
    }
    const Seen large =
        ExecuteToEnd(daemon_, Shell(session, "yes 0123456789abcde | head -c 800000"));
    EXPECT_EQ(large.out.size(), 800'000u);
    // A reader that leaves in the middle, a tree that is cancelled, a child that nobody ends.
    v1::ExecuteRequest left = Shell(session, "echo x; (sleep 1000 & wait) & wait");
    left.set_on_disconnect(v1::CANCEL);
    Follow(*exec_, left, true);
    grpc::ClientContext start;
    v1::Command command;
    EXPECT_TRUE(exec_->StartCommand(&start, Shell(session, "sleep 1000 & wait"), &command).ok());
    grpc::ClientContext context;
    v1::CancelCommandRequest cancel;
    cancel.set_name(command.name());
    EXPECT_TRUE(exec_->CancelCommand(&context, cancel, &command).ok());
    EXPECT_EQ(command.state(), v1::Command::KILLED);
    EXPECT_EQ(ExecuteToEnd(daemon_, Shell(session, "sleep 1000 & echo x")).out, "x\n");
    CleanUp(session);
  }

  void CleanUp(const std::string& session) {
    grpc::ClientContext context;
    v1::CleanupRequest request;
    request.set_name("sessions/" + session);
    auto stream = sessions_->Cleanup(&context, request);
    v1::CleanupEvent event;
    while (stream->Read(&event)) {
    }
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  DaemonProcess& daemon_;
  const std::string prefix_;
  int made_ = 0;
  std::unique_ptr<v1::ExecService::Stub> exec_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
};

uint64_t Work(DaemonProcess& daemon, int round, std::chrono::seconds length) {
  const auto end = std::chrono::steady_clock::now() + length;
  std::atomic<uint64_t> commands{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i) {
    threads.emplace_back([&daemon, &commands, end, i, round] {
      commands += Client(daemon, round * kClients + i).WorkUntil(end);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return commands;
}

TEST(SoakTest, MinutesOfWorkLeaveNothingBehind) {
  if (std::getenv("HERMES_DEEP") == nullptr) GTEST_SKIP() << "it takes minutes: with --deep";
  DaemonProcess daemon;
  daemon.Configure("[limits]\nresult_retention = \"5s\"\nrequest_id_retention = \"5s\"\n");
  daemon.Start();
  daemon.CreateSession("stays");
  Work(daemon, 0, kWarmUp);
  ASSERT_FALSE(HasFailure());
  const Holds before(daemon.pid()), runner_before(daemon.RunnerPid());
  const uint64_t commands = Work(daemon, 1, kSoak);
  ASSERT_FALSE(HasFailure());
  bool dropped = false;  // which is looked for once a minute
  for (int i = 0; i < 4 && !dropped; ++i) {
    dropped = Eventually([&] { return EntriesOf(daemon.dir() + "/output") == 0; });
  }
  EXPECT_TRUE(dropped) << "output is kept beyond its time";
  const Holds after(daemon.pid()), runner_after(daemon.RunnerPid());
  EXPECT_LE(after.rss_kb, before.rss_kb + kSlackKb);
  EXPECT_LE(after.threads, before.threads + kClients);
  EXPECT_LE(after.files, before.files + 2 * kClients) << "connections that end may still be there";
  EXPECT_LE(runner_after.rss_kb,
            runner_before.rss_kb + kSlackKb / 4 + commands * kBytesPerRunId / 1024);
  RecordProperty("commands", static_cast<int>(commands));
  EXPECT_LE(runner_after.files, runner_before.files + 2);
  EXPECT_EQ(ExecuteToEnd(daemon, Shell("stays", "echo here")).out, "here\n");
}

}  // namespace
}  // namespace hermes
