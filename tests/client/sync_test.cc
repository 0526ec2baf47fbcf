// hermesctl's sync sub-commands as processes against a scripted daemon.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "tests/client/child.h"
#include "tests/client/scripted_daemon.h"

namespace hermes::client {
namespace {

using End = ScriptedDaemon::End;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

v1::SyncEvent Began(v1::SyncJob::Kind kind = v1::SyncJob::PULL) {
  v1::SyncEvent event;
  event.mutable_started()->set_name("sessions/box/syncs/s1");
  event.mutable_started()->set_kind(kind);
  event.mutable_started()->set_state(v1::SyncJob::RUNNING);
  return event;
}

v1::SyncEvent Phase(const std::string& name) {
  v1::SyncEvent event;
  event.mutable_phase()->set_name(name);
  return event;
}

v1::SyncEvent Progress(uint64_t files, uint64_t all_files) {
  v1::SyncEvent event;
  event.mutable_progress()->set_files_done(files);
  event.mutable_progress()->set_files_total(all_files);
  return event;
}

v1::SyncEvent Files(const std::vector<std::string>& paths) {
  v1::SyncEvent event;
  for (const std::string& path : paths) {
    v1::SyncEntry& entry = *event.mutable_entries()->add_entries();
    entry.set_mount("src");
    entry.set_path(path);
    entry.set_effect(v1::SyncEntry::CREATE);
    entry.set_fate(v1::SyncEntry::DONE);
    entry.set_why(v1::SyncEntry::REMOTE_CHANGED);
    entry.set_size(5);
  }
  return event;
}

v1::SyncEvent File(const std::string& path) { return Files({path}); }

v1::SyncEvent Over(v1::SyncJob::State state = v1::SyncJob::DONE, uint32_t applied = 1) {
  v1::SyncEvent event;
  v1::SyncJob& job = *event.mutable_finished();
  job = Began().started();
  job.set_state(state);
  job.set_applied(applied);
  return event;
}

class SyncCommandTest : public ::testing::Test {
 protected:
  std::vector<std::string> Words(std::vector<std::string> words) {
    words.insert(words.begin(), {"--socket", daemon_.socket()});
    return words;
  }

  std::string Output(std::vector<std::string> words, int code = 0,
                     std::vector<std::string> environment = {}) {
    Child child(Words(std::move(words)), Child::Streams::kPipes, std::move(environment));
    EXPECT_EQ(child.Wait(), code);
    err_ = child.err();
    return child.out();
  }

  // The calls without their request ids.
  std::vector<std::string> Calls() {
    std::vector<std::string> calls = daemon_.calls();
    for (std::string& call : calls) {
      const size_t id = call.find(' ') + 1;
      if (call.size() > id + 37 && call[id + 8] == '-') call.erase(id, 37);
    }
    return calls;
  }

  ScriptedDaemon daemon_;
  std::string err_;
};

TEST_F(SyncCommandTest, EveryFlagArrives) {
  daemon_.ScriptSyncs({{{Began(), Over()}},
                       {{Began(), Over()}},
                       {{Began(), Over()}},
                       {{Began(), Over()}},
                       {{Began(), Over()}},
                       {{Began(), Over()}}});
  Output({"sync", "box"});
  Output({"sync", "box", "--force"});
  Output({"sync-back", "box"});
  Output({"sync-back", "box", "--dry-run"});
  Output({"sync-back", "box", "--approve-deletes", "--salvage"});
  Output({"undo", "box/s1"});
  EXPECT_THAT(Calls(),
              ElementsAre("Sync sessions/box", "Sync sessions/box force", "SyncBack sessions/box",
                          "SyncBack sessions/box dry-run", "SyncBack sessions/box approve salvage",
                          "RevertSync sessions/box/syncs/s1"));
}

TEST_F(SyncCommandTest, EntriesAreATableOnStdoutAndTheSummaryIsOnStderr) {
  daemon_.ScriptSyncs({{{Began(), Phase("comparing"), File("a"), Progress(1, 1), File("b\n"),
                         Over(v1::SyncJob::DONE, 2)}}});
  EXPECT_EQ(Output({"sync-back", "box"}),
            "MOUNT  EFFECT  FATE  SIZE  WHY             PATH\n"
            "src    CREATE  DONE  5 B   REMOTE_CHANGED  a\n"
            "src    CREATE  DONE  5 B   REMOTE_CHANGED  b\\n\n");
  EXPECT_EQ(err_, "hermesctl: box/s1: brought back 2 files\n");
}

TEST_F(SyncCommandTest, JsonIsOneDocumentAndNothingElse) {
  daemon_.ScriptSyncs({{{Began(), Phase("x"), File("a\xff"), Over()}}});
  const std::string out = Output({"sync-back", "box", "-o", "json"});
  EXPECT_THAT(out, StartsWith("{\n  \"name\": \"sessions/box/syncs/s1\""));
  EXPECT_THAT(out, HasSubstr(R"("path": "a\\xff")"));
  EXPECT_THAT(out, HasSubstr(R"("path_b64": "Yf8=")"));
  EXPECT_EQ(err_, "");
}

TEST_F(SyncCommandTest, JsonLinesAreTheEvents) {
  daemon_.ScriptSyncs({{{Began(), Phase("landing"), Progress(1, 2), File("a"), Over()}}});
  const std::string out = Output({"sync-back", "box", "-o", "jsonl"});
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 5);
  EXPECT_THAT(out, HasSubstr(R"({"event":"phase","name":"landing"})"));
  EXPECT_THAT(out, HasSubstr(R"({"event":"entry","mount":"src","path":"a")"));
  EXPECT_THAT(out, HasSubstr(R"({"event":"finished","name":"sessions/box/syncs/s1")"));
}

TEST_F(SyncCommandTest, ABreakIsFollowedWithTheSameIdAndNoEntryTwice) {
  daemon_.ScriptSyncs({{{Began(), File("a"), File("b")}, End::kTorn},
                       {{Began(), File("a"), Files({"b", "c"}), Over()}}});
  const std::string out = Output({"sync-back", "box", "-o", "jsonl"});
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 5);
  EXPECT_THAT(out, HasSubstr(R"("path":"c")"));
  const std::vector<std::string> calls = daemon_.calls();
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0], calls[1]);
}

TEST_F(SyncCommandTest, AStreamWithoutAnEndIsNoSuccess) {
  daemon_.ScriptSyncs({{{Began(), File("a")}}});
  Output({"--patience", "100ms", "sync-back", "box"}, 125);
  EXPECT_THAT(err_, HasSubstr("hermesctl: "));
}

TEST_F(SyncCommandTest, ExitCodesTellWhatIsLeft) {
  v1::SyncEvent partly = Over();
  partly.mutable_finished()->set_unsaved(2);
  v1::SyncEvent failed = Over(v1::SyncJob::FAILED, 0);
  failed.mutable_finished()->set_reason("SYNC_HELD");
  failed.mutable_finished()->set_message("somebody syncs");
  daemon_.ScriptSyncs(
      {{{Began(), partly}}, {{Began(), failed}}, {{Began(), failed}}, {{}, End::kRefused}});
  Output({"sync-back", "box"}, 1);
  EXPECT_THAT(err_, HasSubstr("2 files of the sandbox are not on the host"));
  Output({"sync-back", "box"}, 125);
  EXPECT_EQ(err_, "hermesctl: box/s1: somebody syncs [SYNC_HELD]\n");
  EXPECT_THAT(Output({"sync-back", "box", "-o", "json"}, 125), HasSubstr("\"SYNC_HELD\""));
  EXPECT_EQ(err_, "hermesctl: box/s1: somebody syncs [SYNC_HELD]\n");
  Output({"sync", "box"}, 125);
  EXPECT_THAT(err_, HasSubstr("[CAPABILITY_MISSING]"));
}

TEST_F(SyncCommandTest, InterruptCancelsTheCallAndSaysThatNothingIsHalfDone) {
  daemon_.ScriptSyncs({{{Began(), Phase("fetching"), File("a")}, End::kHang}});
  Child child(Words({"sync-back", "box", "-o", "jsonl"}));
  ASSERT_TRUE(child.WaitForStdout("\"path\":\"a\""));
  child.Signal(SIGINT);
  EXPECT_EQ(child.Wait(), 130);
  EXPECT_TRUE(daemon_.WaitForCall("Cancelled"));
  EXPECT_THAT(child.err(), HasSubstr("no file is half done"));
  EXPECT_THAT(child.err(), HasSubstr("hermesctl syncs box"));
}

TEST_F(SyncCommandTest, ClosedOutputCancelsTheCall) {
  std::vector<v1::SyncEvent> events = {Began()};
  for (int i = 0; i < 20'000; ++i) events.push_back(File("file " + std::to_string(i)));
  daemon_.ScriptSyncs({{events, End::kHang}});
  Child child(Words({"sync-back", "box", "-o", "jsonl"}));
  ASSERT_TRUE(child.WaitForStdout("started"));
  child.CloseStdout();
  EXPECT_EQ(child.Wait(), 141);
  EXPECT_TRUE(daemon_.WaitForCall("Cancelled"));
}

class ProgressBarTest : public SyncCommandTest {
 protected:
  // All that the terminal was sent until the bar showed `text` and the sync was interrupted.
  std::string Drawn(std::vector<std::string> words, const std::string& until,
                    std::vector<std::string> environment = {"TERM=xterm", "NO_COLOR="}) {
    Child child(Words(std::move(words)), Child::Streams::kAllTerminal, std::move(environment));
    EXPECT_TRUE(child.WaitForStdout(until)) << child.out();
    child.Signal(SIGINT);
    EXPECT_EQ(child.Wait(), 130);
    return child.out();
  }
};

TEST_F(ProgressBarTest, IsDrawnOnATerminalAndClearedAtTheEnd) {
  daemon_.ScriptSyncs({{{Began(), Phase("fetching"), Progress(5, 10)}, End::kHang}});
  const std::string drawn = Drawn({"sync-back", "box"}, "5/10 files");
  EXPECT_THAT(drawn, HasSubstr("\rfetching  [======"));
  EXPECT_THAT(drawn, HasSubstr("50%"));
  EXPECT_THAT(drawn, HasSubstr("\r\x1b[Khermesctl: interrupted"));
}

TEST_F(ProgressBarTest, IsDrawnTenTimesASecondAtMost) {
  std::vector<v1::SyncEvent> events = {Began(), Phase("fetching")};
  for (uint64_t i = 0; i <= 5000; ++i) events.push_back(Progress(i, 5000));
  daemon_.ScriptSyncs({{events, End::kHang}});
  const auto start = std::chrono::steady_clock::now();
  const std::string drawn = Drawn({"sync-back", "box"}, "5000/5000 files");
  const auto tenths = (std::chrono::steady_clock::now() - start) / std::chrono::milliseconds(100);
  EXPECT_LE(std::count(drawn.begin(), drawn.end(), '%'), tenths + 2);
}

TEST_F(ProgressBarTest, IsGoneBeforeTheTable) {
  daemon_.ScriptSyncs({{{Began(), Phase("fetching"), Progress(1, 1), File("a"), Over()}}});
  Child child(Words({"sync-back", "box"}), Child::Streams::kAllTerminal, {"TERM=xterm"});
  EXPECT_EQ(child.Wait(), 0);
  const std::string& out = child.out();
  const size_t table = out.find("MOUNT");
  ASSERT_NE(table, std::string::npos);
  EXPECT_EQ(out.find("\x1b[K", table), std::string::npos);
  EXPECT_THAT(out, HasSubstr("brought back 1 file"));
}

TEST_F(ProgressBarTest, ThereIsNoneWhereItWouldBeInTheWay) {
  const std::vector<v1::SyncEvent> events = {Began(), Phase("fetching"), Progress(5, 10), Over()};
  const std::vector<std::string> smart = {"TERM=xterm"};
  daemon_.ScriptSyncs({{events}, {events}, {events}, {events}});
  for (const auto& [words, environment] :
       std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>>{
           {{"sync-back", "box"}, {"TERM=dumb"}},
           {{"sync-back", "box"}, {"TERM=xterm", "NO_COLOR=1"}},
           {{"sync-back", "box", "-o", "json"}, {"TERM=xterm"}}}) {
    Child child(Words(words), Child::Streams::kAllTerminal, environment);
    EXPECT_EQ(child.Wait(), 0);
    EXPECT_THAT(child.out(), Not(HasSubstr("\x1b"))) << environment[0];
  }
  Output({"sync-back", "box"}, 0, {"TERM=xterm"});
  EXPECT_THAT(err_, Not(HasSubstr("\x1b")));
}

TEST_F(SyncCommandTest, SyncsListsAllPagesOrShowsOne) {
  std::vector<v1::SyncJob> jobs;
  for (int i = 1; i <= 5; ++i) {
    v1::SyncJob& job = jobs.emplace_back(Over().finished());
    job.set_name("sessions/box/syncs/s" + std::to_string(i));
  }
  *jobs[0].add_entries() = File("a").entries().entries(0);
  daemon_.SetSyncs(jobs);
  std::string out = Output({"syncs", "box"});
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 6);
  EXPECT_THAT(Output({"syncs", "box", "-o", "json"}), StartsWith("[\n"));
  out = Output({"syncs", "box/s1"});
  EXPECT_THAT(out, HasSubstr("REMOTE_CHANGED  a\n"));
  EXPECT_EQ(daemon_.calls().back(), "GetSync sessions/box/syncs/s1");
}

TEST_F(SyncCommandTest, MalformedNamesAreRefusedBeforeAnythingIsSent) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"sync", "Box"},
                                             {"sync"},
                                             {"sync", "box/s1"},
                                             {"sync", "box", "--dry-run"},
                                             {"sync-back", "box/s1"},
                                             {"sync-back", "box", "--force"},
                                             {"undo", "box"},
                                             {"undo", "box/S 1"},
                                             {"undo"},
                                             {"syncs"},
                                             {"syncs", "box/s1/x"}}) {
    Output(words, 125);
    EXPECT_THAT(err_, StartsWith("hermesctl: ")) << words[0];
  }
  EXPECT_THAT(daemon_.calls(), ElementsAre());
}

TEST_F(SyncCommandTest, ARefusedCleanupSaysWhatCanBeDone) {
  v1::SyncJob job = Over().finished();
  job.set_unsaved(2);
  daemon_.RefuseCleanup(job);
  Output({"cleanup", "box"}, 125);
  EXPECT_THAT(err_, HasSubstr("box/s1: brought back 1 file\n"));
  EXPECT_THAT(err_, HasSubstr("2 files are not on the host [PULL_PENDING]"));
  EXPECT_THAT(err_, HasSubstr("hermesctl sync-back box --dry-run"));
  EXPECT_THAT(err_, HasSubstr("hermesctl cleanup box --discard"));
}

TEST_F(SyncCommandTest, ACleanupNamesWhatStaysInTheSandbox) {
  v1::SyncJob job = Over().finished();
  job.set_rejected(1);
  daemon_.RefuseCleanup(job);
  v1::SyncEntry& entry = *job.add_entries();
  entry.set_path("d/.env\x1b");
  entry.set_effect(v1::SyncEntry::NOTHING);
  entry.set_why(v1::SyncEntry::ODD);
  entry.set_note("in the sandbox: named like a secret");
  daemon_.SetSyncs({job});
  Output({"cleanup", "box"}, 125);
  EXPECT_THAT(err_, HasSubstr("box/s1: brought back 1 file, 1 rejected\n"));
  EXPECT_THAT(err_, HasSubstr(R"(ODD: in the sandbox: named like a secret  d/.env\x1b)"));
  EXPECT_EQ(daemon_.calls().back(), "GetSync sessions/box/syncs/s1");
}

TEST_F(SyncCommandTest, TheEnvironmentCanForceSyncs) {
  const std::vector<std::string> force = {"HERMES_FORCE_FILE_SYNC=1"};
  Output({"start", "box", "--", "x"}, 0, force);
  Output({"exec", "-d", "box", "--", "x"}, 0, {"HERMES_FORCE_FILE_SYNC="});
  Output({"start", "box", "--no-sync", "--", "x"}, 0, force);
  EXPECT_THAT(daemon_.calls(), ElementsAre("Start x FORCE", "Start x", "Start x SKIP"));
}

TEST_F(SyncCommandTest, CreateSendsMountsAsTheyAreSeenFromHere) {
  v1::Session session;
  session.set_name("sessions/box");
  daemon_.SetSession(session);
  const std::string cwd = std::filesystem::current_path();
  Output({"session", "create", "box", "--mount", "src:~/src:push", "--mount", "~/out:/out",
          "--mount-profile", "hermes", "--hermes-home", "~/.hermes", "--credential", "auth.json",
          "--credential", "b.json", "--on-sync-error", "run-stale", "--sync-interval", "5s"},
         0, {"HOME=/home/me"});
  EXPECT_THAT(daemon_.calls().back(), HasSubstr(" mount " + cwd + "/src:~/src:1"));
  EXPECT_THAT(daemon_.calls().back(), HasSubstr(" mount /home/me/out:/out:0"));
  EXPECT_THAT(daemon_.calls().back(), HasSubstr(" home /home/me/.hermes auth.json b.json"));
  EXPECT_THAT(daemon_.calls().back(), HasSubstr(" on_error 2 every 5s"));
  Output({"session", "create", "box", "--mount-profile", "hermes,secrets=include", "--hermes-home",
          "/h"});
  EXPECT_THAT(daemon_.calls().back(), HasSubstr(" home /h with secrets"));
}

TEST_F(SyncCommandTest, CreateRefusesWhatItDoesNotUnderstand) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"--mount", "/a"},
           {"--mount", "/a:/b:sideways"},
           {"--mount-profile", "other", "--hermes-home", "/h"},
           {"--mount-profile", "hermes"},
           {"--mount-profile", "hermes,secrets", "--hermes-home", "/h"},
           {"--hermes-home", "/h"},
           {"--credential", "x"},
           {"--mount-profile", "hermes", "--hermes-home", "/h", "--credential", "/x"},
           {"--on-sync-error", "panic"},
           {"--sync-interval", "5"}}) {
    std::vector<std::string> all = {"session", "create", "box"};
    all.insert(all.end(), words.begin(), words.end());
    Output(all, 125);
    EXPECT_THAT(err_, StartsWith("hermesctl: ")) << words[0];
  }
  EXPECT_THAT(daemon_.calls(), ElementsAre());
}

}  // namespace
}  // namespace hermes::client
