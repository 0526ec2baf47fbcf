#include "daemon/core/session_store.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "daemon/core/sqlite_db.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/temp_dir.h"
#include "tests/runtime/run.h"

namespace hermes {
namespace {

WallTime At(int64_t seconds) { return WallTime(std::chrono::seconds(seconds)); }

SessionInfo MakeSession(const std::string& id) {
  SessionInfo session;
  session.id = id;
  session.backend = "local";
  session.labels = {{"of", id}};
  return session;
}

CommandInfo MakeCommand(const std::string& session, const std::string& id,
                        const std::string& run_id) {
  CommandInfo command;
  command.session_id = session;
  command.id = id;
  command.run_id = run_id;
  command.summary = "echo " + id;
  return command;
}

StoredCommand Ended(CommandInfo command, int64_t end_seconds) {
  StoredCommand stored;
  command.state = CommandState::kExited;
  command.outcome.emplace();
  command.outcome->state = CommandState::kExited;
  command.outcome->value = 7;
  command.end_time = At(end_seconds);
  stored.info = std::move(command);
  stored.output.stream[0] = {5, {}, false, std::string("a\0b\nc", 5)};
  stored.output.stream[1] = {100'000, {{3, 9}}, true, ""};
  stored.forgotten = true;
  return stored;
}

class SessionStoreTest : public ::testing::Test {
 protected:
  SessionStoreTest() { Open(); }

  void Open() {
    store_.reset();
    absl::StatusOr<std::unique_ptr<SessionStore>> store = OpenSqliteStore(loop_, path_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    absl::StatusOr<SessionStore::Contents> contents = Do(store_->Load(WallTime()));
    ASSERT_TRUE(contents.ok()) << contents.status();
    contents_ = *std::move(contents);
  }

  template <typename T>
  T Do(Task<T> task) {
    return RunTask(loop_, std::move(task));
  }

  // Behind the store's back, while it is closed.
  void Sql(const std::string& sql) {
    auto db = SqliteDb::Open(path_);
    ASSERT_TRUE(db.ok());
    ASSERT_TRUE((*db)->Exec(sql).ok());
  }

  void Accept(const CommandInfo& command) {
    const auto accepted = Do(store_->AcceptCommand(command));
    ASSERT_TRUE(accepted.ok()) << accepted.status();
    ASSERT_TRUE(accepted->fresh);
  }

  std::vector<std::string> List(const std::string& session, const std::string& before,
                                size_t limit) {
    std::vector<std::string> names;
    const auto commands = Do(store_->ListCommands(session, before, limit));
    EXPECT_TRUE(commands.ok()) << commands.status();
    for (const CommandInfo& info : *commands) names.push_back(info.session_id + "/" + info.id);
    return names;
  }

  TempDir temp_;
  const std::string path_ = temp_.path() + "/store.db";
  Loop loop_;
  std::unique_ptr<SessionStore> store_;
  SessionStore::Contents contents_;
};

using Names = std::vector<std::string>;

TEST_F(SessionStoreTest, BringsSessionsBackAfterARestart) {
  ASSERT_TRUE(Do(store_->PutSession(MakeSession("b"))).ok());
  ASSERT_TRUE(Do(store_->PutSession(MakeSession("a"))).ok());
  SessionInfo changed = MakeSession("b");
  changed.cwd = "/elsewhere";
  changed.state = SessionState::kReady;
  ASSERT_TRUE(Do(store_->PutSession(changed)).ok());
  Open();
  ASSERT_EQ(contents_.sessions.size(), 2u);
  EXPECT_EQ(contents_.sessions[0].id, "a");
  EXPECT_EQ(contents_.sessions[0].labels, Labels({{"of", "a"}}));
  EXPECT_EQ(contents_.sessions[1].cwd, "/elsewhere");
  EXPECT_EQ(contents_.sessions[1].state, SessionState::kReady);
}

TEST_F(SessionStoreTest, KeepsTheDaemonsIdAndRaisesTheEpochWithEachStart) {
  ASSERT_TRUE(Do(store_->PutSession(MakeSession("a"))).ok());
  const std::string id = contents_.daemon_id;
  EXPECT_EQ(id.size(), 12u);
  Open();
  EXPECT_EQ(contents_.daemon_id, id);
  EXPECT_EQ(contents_.sessions[0].owner, id);
  EXPECT_EQ(contents_.sessions[0].epoch, 2u);
  Open();
  EXPECT_EQ(contents_.sessions[0].epoch, 3u);
}

TEST_F(SessionStoreTest, AcceptsARunIdOnce) {
  Accept(MakeCommand("s", "c1", "run-1"));
  const auto again = Do(store_->AcceptCommand(MakeCommand("s", "c2", "run-1")));
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->fresh);
  EXPECT_EQ(again->existing.id, "c1");
  EXPECT_EQ(again->existing.summary, "echo c1");
  const auto elsewhere = Do(store_->AcceptCommand(MakeCommand("other", "c1", "run-1")));
  ASSERT_TRUE(elsewhere.ok());
  EXPECT_FALSE(elsewhere->fresh);
  EXPECT_EQ(elsewhere->existing.session_id, "s");
  EXPECT_EQ(List("", "", 10), Names({"s/c1"}));
}

TEST_F(SessionStoreTest, AStoreWhereTwoSessionsHadTheSameRunIdLosesNeither) {
  ASSERT_TRUE(Do(store_->PutSession(MakeSession("s"))).ok());
  ASSERT_TRUE(Do(store_->PutSession(MakeSession("other"))).ok());
  Accept(MakeCommand("s", "c1", "run-1"));
  Accept(MakeCommand("other", "c1", "run-2"));
  store_.reset();
  Sql("DROP INDEX commands_by_run; UPDATE commands SET run_id = 'run-1';"
      "CREATE UNIQUE INDEX commands_by_run ON commands(run_id, session_id);"
      "DROP TABLE cleanups; PRAGMA user_version = 2");
  Open();
  EXPECT_EQ(contents_.live_commands.size(), 2u);
  EXPECT_EQ(List("", "", 10), Names({"other/c1", "s/c1"}));
  const auto found = Do(store_->FindRun("run-1"));
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ((*found)->session_id, "s");
}

TEST_F(SessionStoreTest, AcceptsOneOfTwoThatAreQueuedTogether) {
  auto first = store_->AcceptCommand(MakeCommand("s", "c1", "run-1"));
  auto second = store_->AcceptCommand(MakeCommand("s", "c2", "run-1"));
  EXPECT_TRUE(Do(std::move(first))->fresh);
  const auto lost = Do(std::move(second));
  EXPECT_FALSE(lost->fresh);
  EXPECT_EQ(lost->existing.id, "c1");
}

TEST_F(SessionStoreTest, RefusesATakenCommandIdAsABug) {
  Accept(MakeCommand("s", "c1", "run-1"));
  const auto taken = Do(store_->AcceptCommand(MakeCommand("s", "c1", "run-2")));
  EXPECT_EQ(ReasonOf(taken.status()), Reason::k_BUG);
}

TEST_F(SessionStoreTest, FindsARunInAnySessionAndForgetsADeletedCommand) {
  Accept(MakeCommand("s", "c1", "run-1"));
  const auto found = Do(store_->FindRun("run-1"));
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ((*found)->session_id, "s");
  EXPECT_FALSE(Do(store_->FindRun("run-2"))->has_value());
  ASSERT_TRUE(Do(store_->DeleteCommand("s", "c1")).ok());
  EXPECT_FALSE(Do(store_->FindRun("run-1"))->has_value());
  Accept(MakeCommand("s", "c1", "run-1"));
}

TEST_F(SessionStoreTest, BringsACommandBackWithItsOutcomeAndOutput) {
  const CommandInfo info = MakeCommand("s", "c1", "run-1");
  Accept(info);
  ASSERT_TRUE(Do(store_->PutCommand(Ended(info, 50))).ok());
  Open();
  EXPECT_TRUE(contents_.live_commands.empty());
  const auto got = Do(store_->GetCommand("s", "c1"));
  ASSERT_TRUE(got.ok() && got->has_value());
  EXPECT_EQ((*got)->info.outcome->value, 7);
  EXPECT_EQ((*got)->info.end_time, At(50));
  EXPECT_EQ((*got)->output.stream[0].inline_bytes, std::string("a\0b\nc", 5));
  EXPECT_EQ((*got)->output.stream[1].end, 100'000u);
  EXPECT_TRUE((*got)->output.stream[1].in_file);
  EXPECT_EQ((*got)->output.stream[1].holes, std::vector<OutputHole>({{3, 9}}));
  EXPECT_FALSE(Do(store_->GetCommand("s", "c2"))->has_value());
}

TEST_F(SessionStoreTest, HandsOverWhatHasNotEndedOrIsNotForgotten) {
  for (const char* id : {"running", "draining", "done"}) Accept(MakeCommand("s", id, id));
  StoredCommand draining = Ended(MakeCommand("s", "draining", "draining"), 1);
  draining.forgotten = false;
  ASSERT_TRUE(Do(store_->PutCommand(draining)).ok());
  ASSERT_TRUE(Do(store_->PutCommand(Ended(MakeCommand("s", "done", "done"), 1))).ok());
  Open();
  ASSERT_EQ(contents_.live_commands.size(), 2u);
  EXPECT_EQ(contents_.live_commands[0].info.id, "running");
  EXPECT_EQ(contents_.live_commands[1].info.id, "draining");
  EXPECT_EQ(contents_.live_commands[1].output.stream[0].inline_bytes.size(), 5u);
}

TEST_F(SessionStoreTest, DeletesASessionWithItsCommandsAndDoesNotBringThemBack) {
  ASSERT_TRUE(Do(store_->PutSession(MakeSession("s"))).ok());
  Accept(MakeCommand("s", "c1", "run-1"));
  Accept(MakeCommand("t", "c1", "run-2"));
  ASSERT_TRUE(Do(store_->DeleteSession("s", At(1))).ok());
  EXPECT_TRUE(Do(store_->PutCommand(Ended(MakeCommand("s", "c1", "run-1"), 1))).ok());
  Open();
  EXPECT_TRUE(contents_.sessions.empty());
  EXPECT_EQ(List("", "", 10), Names({"t/c1"}));
}

TEST_F(SessionStoreTest, ListsNewestFirstInPages) {
  for (const char* id : {"c1", "c2", "c3", "c4"}) {
    Accept(MakeCommand(id == std::string("c3") ? "t" : "s", id, id));
  }
  EXPECT_EQ(List("s", "", 10), Names({"s/c4", "s/c2", "s/c1"}));
  EXPECT_EQ(List("s", "", 2), Names({"s/c4", "s/c2"}));
  EXPECT_EQ(List("s", "c2", 2), Names({"s/c1"}));
  EXPECT_EQ(List("s", "c1", 2), Names());
  EXPECT_EQ(List("", "", 2), Names({"s/c4", "t/c3"}));
  EXPECT_EQ(List("", "t/c3", 9), Names({"s/c2", "s/c1"}));
  EXPECT_EQ(List("s", "", 0), Names());
  EXPECT_EQ(ReasonOf(Do(store_->ListCommands("s", "gone", 2)).status()), Reason::k_BAD_FIELD);
}

TEST_F(SessionStoreTest, ExpiresOutputFirstAndTheRequestIdLater) {
  for (const char* id : {"old", "new", "live"}) Accept(MakeCommand("s", id, id));
  ASSERT_TRUE(Do(store_->PutCommand(Ended(MakeCommand("s", "old", "old"), 100))).ok());
  ASSERT_TRUE(Do(store_->PutCommand(Ended(MakeCommand("s", "new", "new"), 200))).ok());
  EXPECT_EQ(*Do(store_->Expire({.results = At(100), .requests = At(0)})), Names())
      << "not before its time";
  EXPECT_EQ(*Do(store_->Expire({.results = At(101), .requests = At(0)})), Names({"s/old"}));
  EXPECT_EQ(*Do(store_->Expire({.results = At(101), .requests = At(0)})), Names()) << "told once";

  const auto old = Do(store_->GetCommand("s", "old"));
  ASSERT_TRUE(old->has_value());
  EXPECT_TRUE((*old)->output_expired);
  EXPECT_EQ((*old)->output.stream[0].inline_bytes, "");
  EXPECT_EQ((*old)->info.outcome->value, 7) << "the knowledge stays";
  EXPECT_FALSE((*Do(store_->GetCommand("s", "new")))->output_expired);
  EXPECT_FALSE(Do(store_->AcceptCommand(MakeCommand("s", "x", "old")))->fresh);

  EXPECT_EQ(*Do(store_->Expire({.results = At(101), .requests = At(150)})), Names());
  EXPECT_FALSE(Do(store_->FindRun("old"))->has_value());
  EXPECT_EQ(*Do(store_->Expire({.results = At(101), .requests = At(201)})), Names({"s/new"}))
      << "files of deleted rows";
  EXPECT_EQ(List("s", "", 10), Names({"s/live"}));
}

TEST_F(SessionStoreTest, ForgetsTheRunIdsOfAGoneSessionWhenTheirTimeIsOver) {
  for (const char* id : {"ended", "without end"}) Accept(MakeCommand("s", id, id));
  ASSERT_TRUE(Do(store_->PutCommand(Ended(MakeCommand("s", "ended", "ended"), 100))).ok());
  ASSERT_TRUE(Do(store_->DeleteSession("s", At(200))).ok());
  const auto expire = [this](int64_t before) {
    EXPECT_EQ(*Do(store_->Expire({.results = At(300), .requests = At(before)})), Names())
        << "its files went with the session";
  };
  const auto known = [this](const std::string& run_id) {
    return Do(store_->FindRun(run_id))->has_value();
  };
  expire(100);
  EXPECT_TRUE(known("ended"));
  expire(200);
  EXPECT_FALSE(known("ended"));
  EXPECT_TRUE(known("without end"));
  expire(201);
  EXPECT_FALSE(known("without end"));
}

TEST_F(SessionStoreTest, ForgetsTheIdOfACleanupWhenItsTimeIsOver) {
  const auto known = [this] {
    return Do(store_->AcceptCleanup("r-1", MakeSession("s"), At(100)))->has_value();
  };
  EXPECT_FALSE(known());
  ASSERT_TRUE(Do(store_->Expire({.requests = At(100)})).ok());
  EXPECT_TRUE(known());
  ASSERT_TRUE(Do(store_->Expire({.requests = At(101)})).ok());
  EXPECT_FALSE(known());
}

TEST_F(SessionStoreTest, AStoreFromBeforeCleanupsHadIdsLosesNothing) {
  ASSERT_TRUE(Do(store_->PutSession(MakeSession("s"))).ok());
  Accept(MakeCommand("s", "c1", "run-1"));
  store_.reset();
  Sql("DROP TABLE cleanups; PRAGMA user_version = 3");
  Open();
  EXPECT_EQ(contents_.sessions.size(), 1u);
  EXPECT_EQ(contents_.live_commands.size(), 1u);
  EXPECT_FALSE(Do(store_->AcceptCleanup("r-1", MakeSession("s"), At(100)))->has_value());
  EXPECT_TRUE(Do(store_->AcceptCleanup("r-1", MakeSession("s"), At(100)))->has_value());
}

TEST_F(SessionStoreTest, KeepsWhatIsToBeTakenUpFromExpiry) {
  Accept(MakeCommand("s", "c1", "run-1"));
  StoredCommand draining = Ended(MakeCommand("s", "c1", "run-1"), 100);
  draining.forgotten = false;
  ASSERT_TRUE(Do(store_->PutCommand(draining)).ok());
  EXPECT_EQ(*Do(store_->Expire({.results = At(1000), .requests = At(1000)})), Names());
  EXPECT_EQ((*Do(store_->GetCommand("s", "c1")))->output.stream[0].inline_bytes.size(), 5u);
}

TEST_F(SessionStoreTest, RunsCallsInTheOrderInWhichTheyWereMade) {
  std::vector<Task<absl::Status>> calls;
  for (int i = 0; i < 200; ++i) {
    SessionInfo session = MakeSession("s");
    session.version = i;
    calls.push_back(store_->PutSession(session));
  }
  auto load = store_->Load(WallTime());
  for (auto call = calls.rbegin(); call != calls.rend(); ++call) {
    EXPECT_TRUE(Do(std::move(*call)).ok());
  }
  EXPECT_EQ(Do(std::move(load))->sessions[0].version, 199u);
}

TEST_F(SessionStoreTest, KeepsTheFailureOfOneCallFromTheOthersOfItsTransaction) {
  Accept(MakeCommand("s", "c0", "run-0"));
  std::vector<Task<absl::StatusOr<SessionStore::Accepted>>> calls;
  for (int i = 1; i <= 50; ++i) {
    const std::string id = i == 25 ? "c0" : "c" + std::to_string(i);
    calls.push_back(store_->AcceptCommand(MakeCommand("s", id, "run-" + std::to_string(i))));
  }
  for (int i = 1; i <= 50; ++i) {
    const auto accepted = Do(std::move(calls[i - 1]));
    EXPECT_EQ(accepted.ok() && accepted->fresh, i != 25) << i;
  }
  EXPECT_EQ(List("s", "", 100).size(), 50u);
}

TEST_F(SessionStoreTest, IsPrivateAndRefusesASecondDaemonByNameOfTheLock) {
  ASSERT_TRUE(Do(store_->PutSession(MakeSession("a"))).ok());
  for (const auto& entry : std::filesystem::directory_iterator(temp_.path())) {
    struct stat info;
    ASSERT_EQ(stat(entry.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u) << entry.path();
  }
  const auto second = OpenSqliteStore(loop_, path_);
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.status().message().find(path_ + ".lock"), std::string::npos) << second.status();
  store_.reset();
  EXPECT_TRUE(OpenSqliteStore(loop_, path_).ok());
}

TEST_F(SessionStoreTest, MakesAnExistingFilePrivate) {
  store_.reset();
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  Open();
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(SessionStoreTest, RefusesTheStoreOfANewerProgram) {
  store_.reset();
  Sql("PRAGMA user_version = 99");
  const auto store = OpenSqliteStore(loop_, path_);
  ASSERT_FALSE(store.ok());
  EXPECT_NE(store.status().message().find("newer hermesd"), std::string::npos) << store.status();
}

TEST_F(SessionStoreTest, SaysStoreCorruptForAFileThatIsNoDatabase) {
  store_.reset();
  std::ofstream(path_, std::ios::trunc) << std::string(10'000, 'x');
  EXPECT_EQ(ReasonOf(OpenSqliteStore(loop_, path_).status()), Reason::k_STORE_CORRUPT);
}

TEST_F(SessionStoreTest, SaysStoreCorruptForADamagedRecordAndNamesTheSession) {
  ASSERT_TRUE(Do(store_->PutSession(MakeSession("broken-one"))).ok());
  store_.reset();
  Sql("UPDATE sessions SET data = x'010203'");
  store_ = *OpenSqliteStore(loop_, path_);
  const auto contents = Do(store_->Load(WallTime()));
  EXPECT_EQ(ReasonOf(contents.status()), Reason::k_STORE_CORRUPT);
  EXPECT_NE(contents.status().message().find("broken-one"), std::string::npos);
}

TEST_F(SessionStoreTest, SaysStoreCorruptForDamagedPages) {
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(Do(store_->PutSession(MakeSession("s" + std::to_string(i)))).ok());
  }
  store_.reset();  // moves the WAL into the file
  const uint64_t size = std::filesystem::file_size(path_);
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(4096);
  file << std::string(size - 4096, '\xa5');
  file.close();
  const auto store = OpenSqliteStore(loop_, path_);
  const absl::Status status = store.ok() ? Do((*store)->Load(WallTime())).status() : store.status();
  EXPECT_EQ(ReasonOf(status), Reason::k_STORE_CORRUPT) << status;
}

TEST_F(SessionStoreTest, SaysDiskFullKeepsWhatWasAcceptedAndGoesOnWhenThereIsRoomAgain) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit full = {std::filesystem::file_size(path_ + "-wal") + 500'000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &full);
  int accepted = 0;
  absl::Status status;
  while (status.ok() && accepted < 1000) {
    const std::string id = "c" + std::to_string(accepted);
    CommandInfo command = MakeCommand("s", id, "run-" + id);
    command.summary = std::string(2000, 'x');
    status = Do(store_->AcceptCommand(command)).status();
    accepted += status.ok();
  }
  EXPECT_EQ(ReasonOf(status), Reason::k_DISK_FULL) << status;
  EXPECT_GT(accepted, 5);
  EXPECT_EQ(List("s", "", 1000).size(), static_cast<size_t>(accepted)) << "still readable";
  setrlimit(RLIMIT_FSIZE, &before);
  Accept(MakeCommand("s", "afterwards", "afterwards"));
  Open();
  EXPECT_EQ(contents_.live_commands.size(), static_cast<size_t>(accepted) + 1);
}

// What the child of the crash test has been told is committed.
struct Acknowledged {
  int worker;
  int command;
  int step;  // 1 accepted, 2 ended
};

constexpr int kWorkers = 4;

std::string RunId(int worker, int command) {
  return "run-" + std::to_string(worker) + "-" + std::to_string(command);
}

Task<void> WorkUntilKilled(SessionStore* store, int worker, int report) {
  for (int n = 0;; ++n) {
    const CommandInfo info =
        MakeCommand("w" + std::to_string(worker), "c" + std::to_string(n), RunId(worker, n));
    const auto accepted = co_await store->AcceptCommand(info);
    Acknowledged told = {worker, n, 1};
    if (!accepted.ok() || write(report, &told, sizeof(told)) != sizeof(told)) _exit(1);
    const absl::Status ended = co_await store->PutCommand(Ended(info, n));
    told.step = 2;
    if (!ended.ok() || write(report, &told, sizeof(told)) != sizeof(told)) _exit(1);
  }
}

[[noreturn]] void RunCrashChild(const std::string& path, int report) {
  Loop loop;
  auto store = OpenSqliteStore(loop, path);
  if (!store.ok()) _exit(1);
  for (int worker = 0; worker < kWorkers; ++worker) {
    asio::co_spawn(loop.executor(), WorkUntilKilled(store->get(), worker, report),
                   [](std::exception_ptr) {});
  }
  loop.Run();
  _exit(1);
}

TEST_F(SessionStoreTest, LosesNothingAcknowledgedThroughKillAtAnyMoment) {
  std::mt19937 random(20261120);
  for (int round = 0; round < 60; ++round) {
    store_.reset();
    if (round % 10 == 0) {
      for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + suffix);
    } else {
      Sql("DELETE FROM commands");
    }
    int pipe_fds[2];
    ASSERT_EQ(pipe(pipe_fds), 0);
    const pid_t child = fork();
    if (child == 0) RunCrashChild(path_, pipe_fds[1]);
    close(pipe_fds[1]);
    std::map<std::pair<int, int>, int> acknowledged;
    Acknowledged told;
    const auto next = [&] {
      if (read(pipe_fds[0], &told, sizeof(told)) != sizeof(told)) return false;
      acknowledged[{told.worker, told.command}] = told.step;
      return true;
    };
    for (unsigned wait = random() % 200; wait > 0; --wait) ASSERT_TRUE(next());
    for (volatile unsigned spin = random() % 100'000; spin > 0; spin = spin - 1) continue;
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    while (next()) continue;
    close(pipe_fds[0]);

    Open();
    for (const auto& [command, step] : acknowledged) {
      const auto run = Do(store_->FindRun(RunId(command.first, command.second)));
      ASSERT_TRUE(run.ok() && run->has_value()) << "round " << round;
      const auto got = Do(store_->GetCommand((*run)->session_id, (*run)->id));
      ASSERT_TRUE(got.ok() && got->has_value());
      if (step < 2) continue;
      ASSERT_TRUE((*got)->info.outcome.has_value()) << "round " << round;
      EXPECT_EQ((*got)->output.stream[0].inline_bytes.size(), 5u);
    }
  }
}

}  // namespace
}  // namespace hermes
