// The file service as a command of a session, and commands that follow another one.

#include "tests/runner/files_stand.h"

namespace hermes::test {
namespace {

using frames::Cause;
using frames::LaunchStage;

class FilesCommandTest : public RunnerTest {
 protected:
  void SetUp() override {
    RunnerTest::SetUp();
    OpenSession();
    scope.root = directory + "/root";
  }
  static frames::Start Files() {
    frames::Start start = Shell("");
    start.form = frames::Form::kFiles;
    start.stdin_kind = frames::StdinKind::kOpen;
    return start;
  }
  uint32_t StartAfter(uint32_t first, const frames::Start& start) {
    client->Send(Type::kAfter, client->next_command + 1, [&](frames::Writer& w) { w.U32(first); });
    return client->Start(start);
  }
  // Bytes [from, to) of stdin, within the window.
  void Feed(uint32_t command, std::string_view bytes, size_t from) {
    for (size_t sent = from; sent < bytes.size();) {
      const size_t piece = std::min(bytes.size() - sent, frames::kMaxDataBytes);
      ASSERT_TRUE(client->Until(command, [&](const Result& r) {
        return sent + piece <= r.stdin_accepted + frames::kFilesStdinWindow;
      }));
      client->Stdin(command, sent, bytes.substr(sent, piece));
      sent += piece;
    }
  }
  std::string ApplyOne(const std::string& bytes) { return ApplyRequest(scope, {{"f", "", bytes}}); }
  // The command has ended without ever having started.
  void ExpectNeverStarted(uint32_t command, Cause cause) {
    ASSERT_TRUE(client->UntilDrained(command));
    const Result& result = client->results[command];
    EXPECT_FALSE(result.started);
    EXPECT_EQ(result.exit->stage, LaunchStage::kAfter);
    EXPECT_EQ(result.exit->cause, cause);
    EXPECT_EQ(result.out, "");
  }

  FilesScope scope;
};

TEST_F(FilesCommandTest, TakesItsRequestFromStdin) {
  const std::string bytes(3'900'000, 'q');
  uint32_t apply = client->Start(Files());
  Feed(apply, ApplyOne(bytes), 0);
  ASSERT_TRUE(client->UntilDrained(apply));
  EXPECT_EQ(client->results[apply].exit->value, runner::kFilesDone);
  EXPECT_NE(client->results[apply].out.find("\np 0\n"), std::string::npos);
  EXPECT_EQ(Run("wc -c < " + scope.root + "/f").out, "3900000\n");
}

TEST_F(FilesCommandTest, LeavesNoDescriptorOfTheRunnerOpen) {
  uint32_t look = client->Start(Files());
  ASSERT_TRUE(client->Until(look, [](const Result& r) { return r.started; }));
  const std::string proc = "/proc/" + std::to_string(client->results[look].pid) + "/fd";
  size_t open = 0;
  for (const auto& entry : std::filesystem::directory_iterator(proc)) {
    EXPECT_LE(std::atoi(entry.path().filename().c_str()), 2);
    ++open;
  }
  EXPECT_EQ(open, 3u);
}

TEST_F(FilesCommandTest, GoesOnAfterACutLink) {
  const std::string request = ApplyOne(std::string(100'000, 'q'));
  uint32_t apply = client->Start(Files());
  uint32_t command = StartAfter(apply, Shell("wc -c < " + scope.root + "/f"));
  client->Stdin(apply, 0, std::string_view(request).substr(0, 60'000));
  Run("true");  // behind those bytes
  EXPECT_EQ(client->results[apply].stdin_accepted, 0u) << "nobody waits for room";
  Connect();
  client->Attach(apply, 0, 0);
  client->Attach(command, 0, 0);
  ASSERT_TRUE(client->Until(apply, [](const Result& r) { return r.stdin_accepted == 60'000; }));
  Feed(apply, request, 60'000);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, "100000\n");
}

TEST_F(FilesCommandTest, ACommandStartsWhenTheOneItFollowsHasSucceeded) {
  uint32_t apply = client->Start(Files());
  frames::Start reading = Shell("cat; cat " + scope.root + "/f");
  reading.stdin_kind = frames::StdinKind::kOpen;
  uint32_t command = StartAfter(apply, reading);
  client->Stdin(command, 0, "early ");  // waits with it
  client->StdinEof(command, 6);
  EXPECT_EQ(Run("echo beside").out, "beside\n");
  EXPECT_FALSE(client->results[command].started);
  Feed(apply, ApplyOne("placed"), 0);
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, "early placed");
  EXPECT_EQ(client->results[command].exit->state_committed, 1);
  EXPECT_EQ(client->results[command].stdin_accepted, 6u);
}

TEST_F(FilesCommandTest, AFileServiceThatWaitsTakesItsWholeWindow) {
  frames::Start first = Shell("read -r go");
  first.stdin_kind = frames::StdinKind::kOpen;
  uint32_t gate = client->Start(first);
  uint32_t apply = StartAfter(gate, Files());
  const std::string request = ApplyOne(std::string(3 * frames::kStdinWindow, 'w'));
  ASSERT_LE(request.size(), frames::kFilesStdinWindow);
  Feed(apply, request, 0);
  EXPECT_EQ(Run("echo beside").out, "beside\n");
  EXPECT_EQ(client->results[apply].refused, "");
  EXPECT_FALSE(client->results[apply].started);
  EXPECT_EQ(client->results[apply].stdin_accepted, 0u);
  client->Stdin(gate, 0, "go\n");
  ASSERT_TRUE(client->UntilDrained(apply));
  EXPECT_EQ(client->results[apply].exit->value, runner::kFilesDone);
}

TEST_F(FilesCommandTest, ACommandStartsAtOnceAfterOneThatHasSucceededBefore) {
  uint32_t first = client->Start(Shell("true"));
  ASSERT_TRUE(client->UntilDrained(first));
  uint32_t command = StartAfter(first, Shell("echo after"));
  ASSERT_TRUE(client->UntilDrained(command));
  EXPECT_EQ(client->results[command].out, "after\n");
}

TEST_F(FilesCommandTest, ACommandNeverStartsWhenTheOneItFollowsFailed) {
  uint32_t apply = client->Start(Files());
  uint32_t command = StartAfter(apply, Shell("echo no"));
  uint32_t next = StartAfter(command, Shell("echo nor this"));
  client->Stdin(apply, 0, "\1");
  client->StdinEof(apply, 1);
  ExpectNeverStarted(command, Cause::kLaunchFailed);
  ExpectNeverStarted(next, Cause::kLaunchFailed);
  ASSERT_TRUE(client->UntilDrained(apply));
  EXPECT_EQ(client->results[apply].exit->value, runner::kFilesTrouble);
}

TEST_F(FilesCommandTest, ACommandNeverStartsWhenTheOneItFollowsIsKilledOrUnknown) {
  uint32_t apply = client->Start(Files());
  uint32_t command = StartAfter(apply, Shell("echo no"));
  client->Kill(apply, 0);
  ExpectNeverStarted(command, Cause::kLaunchFailed);
  ExpectNeverStarted(StartAfter(4711, Shell("echo no")), Cause::kLaunchFailed);
  EXPECT_EQ(Run("echo still here").out, "still here\n");
}

TEST_F(FilesCommandTest, ACommandCanBeKilledWhileItWaits) {
  uint32_t apply = client->Start(Files());
  uint32_t command = StartAfter(apply, Shell("echo no"));
  client->Kill(command, 0);
  ExpectNeverStarted(command, Cause::kCancelled);
  EXPECT_EQ(client->results[command].killed->survivors, 0u);
  Feed(apply, ApplyOne("x"), 0);
  ASSERT_TRUE(client->UntilDrained(apply));
  EXPECT_EQ(client->results[apply].exit->value, runner::kFilesDone);
  EXPECT_EQ(client->results[command].out, "");
}

TEST_F(FilesCommandTest, TheDeadlineHoldsWhileACommandWaits) {
  uint32_t apply = client->Start(Files());
  frames::Start start = Shell("echo no");
  start.deadline_ms = 50;
  uint32_t command = StartAfter(apply, start);
  ExpectNeverStarted(command, Cause::kRunTimeout);
}

TEST_F(FilesCommandTest, ClosingTheSessionEndsBoth) {
  uint32_t apply = client->Start(Files());
  uint32_t command = StartAfter(apply, Shell("echo no"));
  ASSERT_TRUE(client->Until(apply, [](const Result& r) { return r.started; }));
  auto report = client->CloseSession("s", 0);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->survivors, 0u);
  EXPECT_EQ(client->results[command].exit->stage, LaunchStage::kAfter);
}

TEST_F(FilesCommandTest, OneStartFollowsOnlyItsOwnAfter) {
  uint32_t apply = client->Start(Files());
  client->Send(Type::kAfter, 4711, [&](frames::Writer& w) { w.U32(apply); });
  EXPECT_EQ(Run("echo not waiting").out, "not waiting\n");
}

}  // namespace
}  // namespace hermes::test
