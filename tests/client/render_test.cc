#include "client/render.h"

#include <gtest/gtest.h>

#include "client/json.h"
#include "client/text.h"

namespace hermes::client {
namespace {

constexpr int64_t kNow = 1'800'000'000;

v1::Session BoxSession() {
  v1::Session session;
  session.set_name("sessions/box");
  session.set_backend("local");
  session.set_state(v1::Session::READY);
  (*session.mutable_labels())["team"] = "b";
  (*session.mutable_labels())["app"] = "a";
  session.mutable_create_time()->set_seconds(kNow - 3661);
  session.mutable_expire_time()->set_seconds(kNow + 90);
  session.mutable_idle_ttl()->set_seconds(3600);
  session.set_cwd("/home/me");
  session.set_engine("runner");
  session.set_running_commands(2);
  return session;
}

v1::Command DoneCommand() {
  v1::Command command;
  command.set_name("sessions/box/commands/c1");
  command.set_state(v1::Command::EXITED);
  command.mutable_exit()->set_code(7);
  command.mutable_exit()->set_shell_code(7);
  command.mutable_exit()->set_cause(v1::Exit::NATURAL);
  command.mutable_create_time()->set_seconds(kNow - 100);
  command.mutable_start_time()->set_seconds(kNow - 100);
  command.mutable_end_time()->set_seconds(kNow - 95);
  command.set_pid(4711);
  command.set_summary("echo hi\n\x1b[2Jexit 7");
  return command;
}

TEST(AgeTest, ShowsTwoUnitsAtMost) {
  EXPECT_EQ(Age(-5), "0s");
  EXPECT_EQ(Age(59), "59s");
  EXPECT_EQ(Age(60), "1m");
  EXPECT_EQ(Age(200), "3m20s");
  EXPECT_EQ(Age(7500), "2h5m");
  EXPECT_EQ(Age(4 * 86400 + 59), "4d");
}

TEST(RenderTest, SessionTable) {
  v1::Session other;
  other.set_name("sessions/a-longer-name");
  other.set_backend("local");
  other.set_state(v1::Session::OPENING);
  other.mutable_create_time()->set_seconds(kNow);
  EXPECT_EQ(
      RenderSessions({BoxSession(), other}, View{kNow, false}),
      "NAME           STATE    BACKEND  ENGINE  RUNNING  AGE   LEASE  LABELS        CWD\n"
      "box            READY    local    runner  2        1h1m  1m30s  app=a,team=b  /home/me\n"
      "a-longer-name  OPENING  local    -       0        0s    -      -             -\n");
}

TEST(RenderTest, CommandTableWithoutTerminalInjection) {
  EXPECT_EQ(
      RenderCommands({DoneCommand()}, View{kNow, false}),
      "NAME    STATE   EXIT  CAUSE    PID   AGE    RUNTIME  RESIDUAL  COMMAND\n"
      "box/c1  EXITED  7     NATURAL  4711  1m40s  5s       -         echo hi\\n\\x1b[2Jexit 7\n");
}

TEST(RenderTest, RunningAndUnknownCommandsShowNoExitCode) {
  v1::Command running = DoneCommand();
  running.set_state(v1::Command::RUNNING);
  v1::Command unknown = DoneCommand();
  unknown.set_state(v1::Command::UNKNOWN);
  std::string table = RenderCommands({running, unknown}, View{kNow, false});
  EXPECT_NE(table.find("RUNNING  -     -"), std::string::npos) << table;
  EXPECT_NE(table.find("UNKNOWN  ?     NATURAL"), std::string::npos) << table;
}

TEST(RenderTest, AnEndedCommandWhoseChildrenGoOnSaysSo) {
  v1::Command command = DoneCommand();
  command.set_residual(true);
  const std::string table = RenderCommands({command}, View{kNow, false});
  EXPECT_NE(table.find("5s       yes       echo"), std::string::npos) << table;
}

TEST(RenderTest, ColoursStatesOnlyWhenAsked) {
  std::string plain = RenderSessions({BoxSession()}, View{kNow, false});
  std::string coloured = RenderSessions({BoxSession()}, View{kNow, true});
  EXPECT_EQ(plain.find('\x1b'), std::string::npos);
  EXPECT_NE(coloured.find("\x1b[32mREADY\x1b[0m"), std::string::npos);
}

TEST(RenderTest, OneSessionAsKeysAndValues) {
  v1::Session session = BoxSession();
  v1::Condition& condition = *session.add_conditions();
  condition.set_type("SECRET_NEEDED");
  condition.set_status(true);
  condition.set_reason("FORGOTTEN");
  condition.set_message("give it\nagain");
  std::string text = RenderSession(session, View{kNow, false});
  EXPECT_NE(text.find("name:              box\n"), std::string::npos) << text;
  EXPECT_NE(text.find("idle ttl:          1h\n"), std::string::npos) << text;
  EXPECT_NE(text.find("condition:         SECRET_NEEDED: FORGOTTEN give it\\nagain\n"),
            std::string::npos)
      << text;
}

TEST(RenderSessionTest, ShowsMountsAndHowTheyAreKeptInStep) {
  v1::Session session = BoxSession();
  v1::Mount& mount = *session.add_mounts();
  mount.set_id("data");
  mount.set_host_root("/srv/a\x1b\xff");
  mount.set_remote_root("~/a");
  mount.set_policy(v1::Mount::PUSH);
  mount.set_conflict(v1::Mount::HOST_WINS);
  mount.set_deletes(v1::Mount::NEVER);
  mount.set_links(v1::Mount::FOLLOW_HOST);
  mount.set_kind(v1::Mount::FILE);
  mount.set_max_files(5);
  mount.set_max_bytes(2048);
  mount.set_max_file_bytes(1024);
  mount.add_ignore("*.o");
  mount.add_ignore("/x");
  session.mutable_sync()->set_on_error(v1::SyncPolicy::RUN_STALE);
  session.mutable_sync()->mutable_min_interval()->set_nanos(500'000'000);
  session.mutable_sync()->set_lock_file("/h/.sync.lock");
  const std::string text = RenderSession(session, View{kNow, false});
  EXPECT_NE(text.find(R"(data:        /srv/a\x1b\xff:~/a:push,conflict=host,deletes=never )"
                      "(a file; follows links; at most 5 files, 2.0 KiB, 1.0 KiB each; "
                      "ignores *.o /x)\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("on sync error:     run-stale\n"), std::string::npos) << text;
  EXPECT_NE(text.find("sync interval:     500ms\n"), std::string::npos) << text;
  EXPECT_NE(text.find("sync lock:         /h/.sync.lock\n"), std::string::npos) << text;
}

TEST(RenderTest, WatchLines) {
  v1::SessionEvent event;
  *event.mutable_upsert() = BoxSession();
  EXPECT_EQ(RenderSessionEvent(event), "box READY 2 running\n");
  event.set_removed("sessions/box");
  EXPECT_EQ(RenderSessionEvent(event), "box removed\n");
  event.set_bookmark(true);
  EXPECT_EQ(RenderSessionEvent(event), "");
}

TEST(TextTest, EscapesWhateverCouldMoveACursorOrForgeALine) {
  EXPECT_EQ(ForTerminal("caf\xc3\xa9"), "caf\xc3\xa9");
  EXPECT_EQ(ForTerminal("a\nb\tc\r\x7f"), "a\\nb\\tc\\x0d\\x7f");
  EXPECT_EQ(ForTerminal("\x1b]0;x\x07"), "\\x1b]0;x\\x07");
  EXPECT_EQ(ForTerminal("\xc2\x9b"), "\\u{9b}") << "CSI as one C1 character";
  EXPECT_EQ(ForTerminal("\xe2\x80\xae"), "\\u{202e}") << "right-to-left override";
  EXPECT_EQ(ForTerminal("\xff\xc3"), "\\xff\\xc3");
}

TEST(TextTest, KnowsValidUtf8) {
  EXPECT_TRUE(IsUtf8("\xf0\x9f\x98\x80"));
  EXPECT_FALSE(IsUtf8("\xc0\x80")) << "overlong";
  EXPECT_FALSE(IsUtf8("\xed\xa0\x80")) << "surrogate";
  EXPECT_FALSE(IsUtf8("\xf4\x90\x80\x80")) << "above U+10FFFF";
  EXPECT_FALSE(IsUtf8("\xe2\x82")) << "cut short";
  EXPECT_EQ(ToUtf8("a\xe2\x82z\n"), "a\\xe2\\x82z\n");
}

TEST(TextTest, EncodesBase64WithPadding) {
  EXPECT_EQ(Base64(""), "");
  EXPECT_EQ(Base64("f"), "Zg==");
  EXPECT_EQ(Base64("fo"), "Zm8=");
  EXPECT_EQ(Base64("foo"), "Zm9v");
  EXPECT_EQ(Base64(std::string("\x00\xff\x80", 3)), "AP+A");
}

TEST(JsonTest, CommandAsOneLine) {
  v1::Command command;
  command.set_name("sessions/box/commands/c1");
  command.set_state(v1::Command::EXITED);
  command.mutable_exit()->set_code(0);
  command.mutable_exit()->set_cause(v1::Exit::NATURAL);
  command.mutable_exit()->mutable_user_cpu()->set_nanos(1'500'000);
  command.mutable_produced()->set_stdout_offset(uint64_t{1} << 53);
  command.mutable_end_time()->set_seconds(kNow);
  (*command.mutable_labels())["k"] = "v\"";
  EXPECT_EQ(
      ToJson(command, JsonStyle::kOneLine),
      R"({"name":"sessions/box/commands/c1","state":"EXITED","exit":{"code":0,"cause":"NATURAL",)"
      R"("shell_code":0,"user_cpu":"0.0015s","max_rss_bytes":0},"produced":{"stdout_offset":)"
      R"(9007199254740992,"stderr_offset":0},"end_time":"2027-01-15T08:00:00Z","labels":{"k":)"
      R"("v\""},"request_id":"","incarnation":"","cwd_after":"","shell_generation_after":0,)"
      R"("state_committed":false,"state_reason":"","residual":false,"pid":0,"summary":"",)"
      R"("creator_uid":0})"
      "\n");
}

TEST(JsonTest, BytesThatAreNoTextComeTwice) {
  ExecRecord record;
  record.command.set_name("sessions/box/commands/c1");
  record.stdout_bytes = std::string("a\xff\0", 3);
  record.stderr_bytes = "text\n";
  record.gaps.emplace_back().set_to_offset(5);
  std::string json = ToJson(record, JsonStyle::kIndented);
  EXPECT_NE(json.find(R"("stdout": "a\\xff\u0000")"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("stdout_b64": "Yf8A")"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("stderr": "text\n")"), std::string::npos) << json;
  EXPECT_EQ(json.find("stderr_b64"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("to_offset": 5)"), std::string::npos) << json;
}

TEST(JsonTest, ListsAreArraysOrLines) {
  v1::GetCommandRequest a, b;
  a.set_name("a");
  b.set_name("b");
  EXPECT_EQ(ToJson({&a, &b}, JsonStyle::kOneLine), "{\"name\":\"a\"}\n{\"name\":\"b\"}\n");
  EXPECT_EQ(ToJson(std::vector<const google::protobuf::Message*>{}, JsonStyle::kIndented), "[]\n");
}

TEST(JsonTest, EventLinesNameTheirEvent) {
  v1::Output output;
  output.set_channel(v1::STDERR);
  output.set_offset(4);
  output.set_data("x");
  EXPECT_EQ(EventLine("output", output),
            "{\"event\":\"output\",\"channel\":\"STDERR\",\"offset\":4,\"data\":\"x\"}\n");
}

}  // namespace
}  // namespace hermes::client
