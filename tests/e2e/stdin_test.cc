// What a command is given as its whole stdin arrives to the last byte, also when hermesd dies
// before the command has read it.

#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"

namespace hermes {
namespace {

// More than all that waits between a daemon and a command that does not read: pipe and windows.
constexpr size_t kBytes = 900'000;
constexpr size_t kFirst = 100'000;

std::string Input() {
  std::string bytes(kBytes, '\0');
  uint32_t x = 1;
  for (char& c : bytes) c = static_cast<char>((x = x * 1664525 + 1013904223) >> 24);
  return bytes;
}

size_t FilesNamed(const std::string& dir, const std::string& extension) {
  size_t found = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir))
    found += entry.path().extension() == extension;
  return found;
}

class StdinTest : public testing::Test {
 protected:
  StdinTest() {
    daemon_.Start();
    daemon_.CreateSession("s");
    EXPECT_EQ(mkfifo(fifo_.c_str(), 0600), 0);
  }

  // Runs `script`, which waits at the fifo before it reads on; `harm` is done to the daemon when
  // the command has started and written `output` bytes.
  Seen Run(const std::string& script, size_t output,
           const std::function<void(DaemonProcess&)>& harm) {
    v1::ExecuteRequest request = Shell("s", script, NewUuid());
    request.set_stdin(v1::STDIN_DATA);
    request.set_stdin_data(input_);
    request.mutable_run_timeout()->set_seconds(20);
    request.set_on_disconnect(v1::DETACH);
    {
      auto stub = v1::ExecService::NewStub(daemon_.Connect());
      grpc::ClientContext context;
      auto lost = stub->Execute(&context, request);
      v1::CommandEvent event;
      for (bool started = false; !started || output > 0;) {
        if (!lost->Read(&event)) break;
        started = started || event.has_started();
        if (event.has_output()) output -= std::min(output, event.output().data().size());
      }
      harm(daemon_);
      while (lost->Read(&event)) {
      }
      EXPECT_EQ(lost->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
    }
    daemon_.Start();
    std::ofstream(fifo_) << "on\n";
    return ExecuteToEnd(daemon_, request);
  }

  void Check(const Seen& seen) {
    EXPECT_EQ(seen.finished, 1) << seen.status.error_message();
    EXPECT_EQ(seen.command.state(), v1::Command::EXITED) << seen.command.ShortDebugString();
    EXPECT_EQ(seen.command.exit().code(), 0);
    EXPECT_TRUE(seen.out == input_) << seen.out.size() << " bytes for " << input_.size();
    EXPECT_TRUE(Eventually([&] { return FilesNamed(daemon_.dir(), ".in") == 0; }));
  }

  DaemonProcess daemon_;
  const std::string fifo_ = daemon_.dir() + "/go";
  std::string input_ = Input();
};

void KillHard(DaemonProcess& daemon) { daemon.Kill(SIGKILL); }

TEST_F(StdinTest, OfACommandWhoseDaemonIsKilledAtItsStartArrivesWhole) {
  Check(Run("cat " + fifo_ + " >/dev/null; cat", 0, KillHard));
}

TEST_F(StdinTest, OfACommandWhoseDaemonIsKilledWhileItReadsArrivesWhole) {
  Check(Run("head -c " + std::to_string(kFirst) + "; cat " + fifo_ + " >/dev/null; cat", kFirst,
            KillHard));
}

TEST_F(StdinTest, OfACommandThatOutlivesADrainArrivesWhole) {
  Check(Run("cat " + fifo_ + " >/dev/null; cat", 0,
            [](DaemonProcess& daemon) { EXPECT_EQ(daemon.Terminate(), 0); }));
}

TEST_F(StdinTest, WithoutAByteHasItsEndAfterTheDeathOfTheDaemon) {
  input_.clear();
  Check(Run("cat " + fifo_ + " >/dev/null; cat", 0, KillHard));
}

}  // namespace
}  // namespace hermes
