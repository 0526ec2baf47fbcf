// SIGTERM with everything that could hold it: a reader that does not read, a command that runs.

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"

namespace hermes {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

TEST(DrainTest, AStuckReaderHoldsNoExitAndTheCommandIsTakenUpByTheNextDaemon) {
  DaemonProcess daemon;
  daemon.Start();
  daemon.CreateSession("s");
  const std::string fifo = daemon.dir() + "/go";
  v1::ExecuteRequest request =
      Shell("s", "head -c 20000000 /dev/zero; mkfifo " + fifo + "; cat " + fifo + "; exit 9");
  auto stub = v1::ExecService::NewStub(daemon.Connect());
  grpc::ClientContext context;
  auto stuck = stub->Execute(&context, request);
  v1::CommandEvent event;
  ASSERT_TRUE(stuck->Read(&event));  // and nothing more until the daemon is gone
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(fifo); }));
  const auto begin = steady_clock::now();
  EXPECT_EQ(daemon.Terminate(), 0);
  EXPECT_LT(steady_clock::now() - begin, seconds(10));
  while (stuck->Read(&event)) {
  }
  EXPECT_EQ(stuck->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  daemon.Start();
  Seen seen;
  std::thread client([&] { seen = ExecuteToEnd(daemon, request); });
  std::ofstream(fifo) << "on\n";
  client.join();
  EXPECT_EQ(seen.out.size(), 20'000'003u);
  EXPECT_EQ(seen.command.exit().code(), 9);
  EXPECT_FALSE(seen.gap);
}

TEST(DrainTest, AnIdleDaemonEndsAtOnceEveryTime) {
  DaemonProcess daemon;
  for (int i = 0; i < 5; ++i) {
    daemon.Start();
    if (i == 0) daemon.CreateSession("s");
    EXPECT_EQ(ExecuteToEnd(daemon, Shell("s", "seq 100000")).finished, 1);
    const auto begin = steady_clock::now();
    EXPECT_EQ(daemon.Terminate(), 0);
    // It takes some 20 ms; anything that waits for a timer of gRPC's takes seconds.
    EXPECT_LT(steady_clock::now() - begin, seconds(5));
  }
}

}  // namespace
}  // namespace hermes
