// Sub-commands that ask and print, as processes against a scripted daemon.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/client/child.h"
#include "tests/client/scripted_daemon.h"

namespace hermes::client {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class TablesTest : public ::testing::Test {
 protected:
  std::vector<std::string> Words(std::vector<std::string> words) {
    words.insert(words.begin(), {"--socket", daemon_.socket()});
    return words;
  }

  std::string Output(std::vector<std::string> words, int code = 0) {
    Child child(Words(std::move(words)));
    EXPECT_EQ(child.Wait(), code);
    err_ = child.err();
    return child.out();
  }

  // 5,000 bytes that tell their own place.
  static std::string Bytes() {
    std::string bytes;
    for (int i = 0; bytes.size() < 5000; ++i) bytes += std::to_string(i) + ",";
    return bytes.substr(0, 5000);
  }

  static v1::Command Command(int number) {
    v1::Command command = Exited(number).finished();
    command.set_name("sessions/box/commands/c" + std::to_string(number));
    return command;
  }

  ScriptedDaemon daemon_;
  std::string err_;
};

TEST_F(TablesTest, LogsPrintsAllOfIt) {
  daemon_.SetLog({.bytes = Bytes()});
  EXPECT_EQ(Output({"logs", "box/c1"}), Bytes());
  EXPECT_EQ(err_, "");
}

TEST_F(TablesTest, LogsPrintsHeadAndTailWithoutDoublingTheMiddle) {
  daemon_.SetLog({.bytes = Bytes()});
  daemon_.SetCommands({Command(1)});
  EXPECT_EQ(Output({"logs", "box/c1", "--head", "1500"}), Bytes().substr(0, 1500));
  EXPECT_EQ(Output({"logs", "box/c1", "--tail", "2k"}), Bytes().substr(5000 - 2048));
  EXPECT_EQ(Output({"logs", "box/c1", "--head", "10", "--tail", "10"}),
            Bytes().substr(0, 10) + Bytes().substr(4990));
  EXPECT_EQ(err_, "hermesctl: bytes 10 to 4990 are not shown\n");
  EXPECT_EQ(Output({"logs", "box/c1", "--head", "3k", "--tail", "3k"}), Bytes());
  EXPECT_EQ(Output({"logs", "box/c1", "--since-offset", "4000"}), Bytes().substr(4000));
}

TEST_F(TablesTest, LogsReportsWhatIsNotKept) {
  daemon_.SetLog({.bytes = Bytes(), .gap_from = 2500, .gap_to = 3500});
  EXPECT_EQ(Output({"logs", "box/c1"}), Bytes().substr(0, 2500) + Bytes().substr(3500));
  EXPECT_EQ(err_, "hermesctl: stdout: bytes 2500 to 3500 are missing (dropped)\n");
}

TEST_F(TablesTest, PsReadsEveryPage) {
  daemon_.SetCommands({Command(1), Command(2), Command(3), Command(4), Command(5)});
  std::string table = Output({"ps"});
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 6);
  EXPECT_THAT(Output({"ps", "box", "--state", "EXITED", "--label", "a=b", "-o", "jsonl"}),
              HasSubstr("sessions/box/commands/c5"));
  EXPECT_EQ(daemon_.calls().back(), "ListCommands sessions/box state=EXITED AND label.a=b");
}

TEST_F(TablesTest, WaitExitsWithTheCommandsCode) {
  daemon_.SetCommands({Command(9)});
  EXPECT_EQ(Output({"wait", "box/c9"}, 9), "");
  EXPECT_EQ(daemon_.calls().size(), 2u);
}

TEST_F(TablesTest, WaitGivesUpAfterItsTimeout) {
  daemon_.SetCommands({Command(9)});
  Output({"wait", "box/c9", "--timeout", "0s"}, 124);
  EXPECT_EQ(err_, "hermesctl: box/c9 still runs\n");
}

TEST_F(TablesTest, SessionCreatePrintsTheName) {
  v1::Session session;
  session.set_name("sessions/box");
  session.set_state(v1::Session::READY);
  daemon_.SetSession(session);
  EXPECT_EQ(Output({"session", "create", "box", "--backend", "local", "--ttl", "1h"}), "box\n");
  EXPECT_THAT(daemon_.calls(), ElementsAre("CreateSession box local 3600"));
}

TEST_F(TablesTest, CleanupGoesOnWithTheSameIdAfterABreak) {
  v1::Session session;
  session.set_name("sessions/box");
  session.set_state(v1::Session::CLOSED);
  daemon_.SetSession(session);
  EXPECT_EQ(Output({"cleanup", "box"}), "");
  std::vector<std::string> calls = daemon_.calls();
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0], calls[1]);
}

TEST_F(TablesTest, SeveralNamesAreOneJsonDocument) {
  v1::Session session;
  session.set_name("sessions/box");
  session.set_state(v1::Session::CLOSED);
  daemon_.SetSession(session);
  for (const char* verb : {"cleanup", "kill"}) {
    const std::string name = std::string(verb) == "kill" ? "box/c1" : "box";
    const std::string both = Output({verb, name, name, "-o", "json"});
    EXPECT_THAT(both, StartsWith("[")) << verb;
    EXPECT_THAT(both, EndsWith("]\n")) << verb;
    EXPECT_THAT(Output({verb, name, "-o", "json"}), StartsWith("{")) << verb;
    const std::string lines = Output({verb, name, name, "-o", "jsonl"});
    EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 2) << verb;
  }
}

TEST_F(TablesTest, CleanupSaysWhatItLeftBehind) {
  v1::Session session;
  session.set_name("sessions/box");
  session.set_state(v1::Session::CLOSED);
  v1::Condition& condition = *session.add_conditions();
  condition.set_type("LEFT_BEHIND");
  condition.set_message("the place could not be reached");
  daemon_.SetSession(session);
  EXPECT_EQ(Output({"cleanup", "box", "--discard"}), "");
  EXPECT_THAT(err_, HasSubstr("hermesctl: box: the place could not be reached\n"));
}

}  // namespace
}  // namespace hermes::client
