// Mounts end to end: host directories and local sandboxes kept in step by a real hermesd that is
// killed, drained and doubled.

#include <signal.h>

#include <atomic>
#include <thread>

#include "hermes/v1/error.pb.h"
#include "tests/e2e/files_fixture.h"

namespace hermes {
namespace {

// Of a failed call: the catalogue's word in its status.
bool Says(const grpc::Status& status, const std::string& reason) {
  return status.error_details().find(reason) != std::string::npos;
}

TEST_F(FilesTest, ACommandSeesEveryChangeThatWasMadeBeforeIt) {
  Create();
  for (int i = 0; i < 50; ++i) {
    Spit(Host("a"), std::to_string(i));
    ASSERT_EQ(Out("cat " + Far("a")), std::to_string(i));
  }
  fs::remove(Host("a"));
  EXPECT_EQ(Out("ls -A " + dir_ + "/far | grep -v hermesd"), "");
}

TEST_F(FilesTest, APlainEngineSeesThemToo) {
  v1::CreateSessionRequest request = Request("s");
  request.set_runner(v1::RUNNER_NEVER);
  ASSERT_TRUE(Create(daemon_, request).ok());
  for (int i = 0; i < 3; ++i) {
    Spit(Host("d/a"), std::to_string(i));
    ASSERT_EQ(Out("cat " + Far("d/a")), std::to_string(i));
  }
  Out("echo theirs > " + Far("new"));
  EXPECT_TRUE(Pull(daemon_).status.ok());
  EXPECT_EQ(Slurp(Host("new")), "theirs\n");
}

// The predecessor asked for an archive of "." and looked for absolute names in it: nothing matched.
TEST_F(FilesTest, D01WhatTheHostSentComesBackUnderItsName) {
  for (const auto engine : {v1::RUNNER_REQUIRE, v1::RUNNER_NEVER}) {
    const std::string id = engine == v1::RUNNER_NEVER ? "plain" : "runner";
    v1::CreateSessionRequest request = Request(id);
    request.set_runner(engine);
    request.mutable_mounts(0)->set_remote_root(dir_ + "/" + id);
    for (const char* name : {"top", "d/e/deep", "name with spaces"}) Spit(Host(name), "sent");
    ASSERT_TRUE(Create(daemon_, request).ok());
    Out("cd " + dir_ + "/" + id + "; for f in top d/e/deep 'name with spaces'; do echo " + id +
            " > \"$f\"; done",
        id);
    const Synced pulled = Pull(daemon_, id);
    ASSERT_TRUE(pulled.status.ok()) << pulled.status.error_message();
    EXPECT_EQ(pulled.job.applied(), 3u);
    for (const char* name : {"top", "d/e/deep", "name with spaces"})
      EXPECT_EQ(Slurp(Host(name)), id + "\n") << name;
  }
}

// Its archives held the parents, with modes of the host: sshd then refused the account's key.
TEST_F(FilesTest, D13APushLeavesTheModesOfDirectoriesThatExist) {
  const auto mode = [](const std::string& path) {
    return static_cast<unsigned>(fs::status(path).permissions());
  };
  for (const auto engine : {v1::RUNNER_REQUIRE, v1::RUNNER_NEVER}) {
    const std::string id = engine == v1::RUNNER_NEVER ? "plain" : "runner";
    const std::string home = dir_ + "/home-" + id;
    fs::create_directories(home + "/there/kept");
    fs::permissions(home, fs::perms(0700));
    fs::permissions(home + "/there", fs::perms(0751));
    fs::permissions(home + "/there/kept", fs::perms(0710));
    fs::create_directories(Host("kept"));
    for (const std::string& dir : {Host(""), Host("kept")}) fs::permissions(dir, fs::perms(0775));
    Spit(Host("kept/a"), id);
    v1::CreateSessionRequest request = Request(id);
    request.set_runner(engine);
    request.mutable_mounts(0)->set_remote_root(home + "/there");
    ASSERT_TRUE(Create(daemon_, request).ok());
    EXPECT_EQ(Out("cat " + home + "/there/kept/a", id), id);
    EXPECT_EQ(mode(home), 0700u);
    EXPECT_EQ(mode(home + "/there"), 0751u);
    EXPECT_EQ(mode(home + "/there/kept"), 0710u);
  }
}

TEST_F(FilesTest, D07KilledBetweenTwoPushesItSendsNothingAgain) {
  for (int i = 0; i < 100; ++i) Spit(Host("d" + std::to_string(i) + "/f"), std::to_string(i));
  Create();
  Synced first = Push(daemon_);
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  EXPECT_EQ(first.job.applied(), 100u);
  daemon_.Kill(SIGKILL);
  daemon_.Start();
  Synced again = Push(daemon_);
  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  EXPECT_EQ(again.job.state(), v1::SyncJob::DONE);
  EXPECT_EQ(again.job.applied(), 0u);
  EXPECT_EQ(again.entries.size(), 0u);
  Spit(Host("d7/f"), "new");
  EXPECT_EQ(Push(daemon_).job.applied(), 1u);
}

TEST_F(FilesTest, ANewSessionOnTheSameRootsSendsNothingEither) {
  Spit(Host("a"), "1");
  Create();
  ASSERT_EQ(Push(daemon_).job.applied(), 1u);
  ASSERT_TRUE(Cleanup().finished);
  Create();
  EXPECT_EQ(Push(daemon_).job.applied(), 0u);
}

TEST_F(FilesTest, CleanupBringsWorkBackAndUndoTakesItAway) {
  Spit(Host("a"), "old");
  Create();
  Out("echo new > " + Far("a"));
  const Cleaned cleaned = Cleanup();
  ASSERT_TRUE(cleaned.status.ok()) << cleaned.status.error_message();
  EXPECT_TRUE(cleaned.finished);
  EXPECT_EQ(cleaned.phases, (std::vector<std::string>{"syncing", "releasing"}));
  ASSERT_TRUE(cleaned.pull.has_value());
  EXPECT_EQ(cleaned.pull->applied(), 1u);
  EXPECT_EQ(Slurp(Host("a")), "new\n");
  const Synced undo = Undo(daemon_, cleaned.pull->name());
  EXPECT_TRUE(undo.status.ok()) << undo.status.error_message();
  EXPECT_EQ(Slurp(Host("a")), "old");
}

TEST_F(FilesTest, CleanupBringsBackWhatChildrenOfEndedCommandsSaveAsTheyGo) {
  for (const auto engine : {v1::RUNNER_AUTO, v1::RUNNER_NEVER}) {
    v1::CreateSessionRequest request = Request("s");
    request.set_runner(engine);
    ASSERT_TRUE(Create(daemon_, request).ok());
    const std::string name = v1::RunnerPolicy_Name(engine);
    Out("(trap 'echo saved > " + Far(name) + "; exit' TERM; : > " + Far("ready-" + name) +
        "; while :; do sleep 0.05; done) > /dev/null 2>&1 & until [ -e " + Far("ready-" + name) +
        " ]; do sleep 0.02; done");
    const Cleaned cleaned = Cleanup();
    ASSERT_TRUE(cleaned.finished) << cleaned.status.error_message();
    EXPECT_EQ(Slurp(Host(name)), "saved\n") << name;
  }
}

TEST_F(FilesTest, CleanupRefusesToThrowAwayWhatItCouldNotSaveUnlessToldTo) {
  Spit(Host("a"), "1");
  v1::CreateSessionRequest request = Request("s");
  request.mutable_mounts(0)->set_max_file_bytes(1000);
  ASSERT_TRUE(Create(daemon_, request).ok());
  Out("seq 1000 > " + Far("a"));  // longer than the mount lets travel
  const Cleaned refused = Cleanup();
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(Says(refused.status, "PULL_PENDING")) << refused.status.error_message();
  EXPECT_FALSE(refused.finished);
  EXPECT_EQ(daemon_.GetSession("s").state(), v1::Session::READY);
  EXPECT_TRUE(HasCondition("PULL_PENDING"));
  ASSERT_TRUE(refused.pull.has_value());
  EXPECT_EQ(refused.pull->unsaved(), 1u);
  EXPECT_EQ(fs::file_size(Far("a")), 3893u);
  const Cleaned discarded = Cleanup(true);
  EXPECT_TRUE(discarded.status.ok()) << discarded.status.error_message();
  EXPECT_TRUE(discarded.finished);
  EXPECT_EQ(Slurp(Host("a")), "1");
}

// A place may have its own, as a deployed .env: to refuse for those would be to refuse always.
TEST_F(FilesTest, CleanupTellsSecretsOfTheSandboxAndLeavesThem) {
  Spit(Host("a"), "1");
  for (const auto engine : {v1::RUNNER_REQUIRE, v1::RUNNER_NEVER}) {
    SCOPED_TRACE(v1::RunnerPolicy_Name(engine));
    v1::CreateSessionRequest request = Request("s");
    request.set_runner(engine);
    ASSERT_TRUE(Create(daemon_, request).ok());
    Out("cd " + dir_ +
        "/far && mkdir -p d/.aws && echo key > d/.aws/x && echo key > .env && "
        "ln -sf a .npmrc && echo new > new");
    const auto told = [](const auto& entries) {
      std::vector<std::string> names;
      for (const v1::SyncEntry& entry : entries) {
        if (entry.why() != v1::SyncEntry::ODD) continue;
        EXPECT_EQ(entry.note(),
                  "in the sandbox: named like a secret (the mount has no secrets=include)");
        names.push_back(entry.path());
      }
      return names;
    };
    const std::vector<std::string> all = {".env", ".npmrc", "d/.aws"};
    for (const bool again : {false, true}) {
      const Synced pulled = Pull(daemon_);
      ASSERT_TRUE(pulled.status.ok()) << pulled.status.error_message();
      EXPECT_EQ(told(pulled.entries), all) << again;
      EXPECT_EQ(pulled.job.rejected(), 3u);
      EXPECT_EQ(told(Get(pulled.job.name()).entries()), all);
    }
    EXPECT_EQ(Slurp(Host("new")), "new\n");
    const Cleaned cleaned = Cleanup();
    EXPECT_TRUE(cleaned.finished) << cleaned.status.error_message();
    ASSERT_TRUE(cleaned.pull.has_value());
    EXPECT_EQ(cleaned.pull->rejected(), 3u);
    EXPECT_EQ(cleaned.pull->unsaved(), 0u);
    EXPECT_EQ(told(Get(cleaned.pull->name()).entries()), all);
    for (const char* name : {".env", ".npmrc", "d"}) EXPECT_FALSE(fs::exists(Host(name))) << name;
    EXPECT_EQ(Slurp(Far(".env")), "key\n");
    fs::remove_all(dir_ + "/far");
    fs::remove(Host("new"));
  }
}

TEST_F(FilesTest, ATermDuringAPullEndsTheDaemonSoonAndLeavesEachFileOldOrNew) {
  constexpr int kFiles = 40;
  const std::string old(100'000, 'o');
  const std::string fresh(400'000, 'n');
  for (int i = 0; i < kFiles; ++i) Spit(Host(std::to_string(i)), old);
  Create();
  Out("for i in $(seq 0 39); do head -c 400000 /dev/zero | tr '\\0' n > " + dir_ + "/far/$i; done");
  std::atomic<bool> over = false;
  std::thread client([&] {
    Pull(daemon_);
    over = true;
  });
  // Somewhere in its midst: as soon as anything of it is on the host's disk.
  EXPECT_TRUE(Eventually([&] { return over || fs::exists(Host(".hermesd-stage")); }));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(daemon_.Terminate(), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  client.join();
  daemon_.Start();
  for (int i = 0; i < kFiles; ++i) {
    const std::string now = Slurp(Host(std::to_string(i)));
    ASSERT_TRUE(now == old || now == fresh) << i << ": " << now.size();
  }
  const Synced again = Pull(daemon_);
  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  for (int i = 0; i < kFiles; ++i) ASSERT_EQ(Slurp(Host(std::to_string(i))), fresh) << i;
}

TEST_F(FilesTest, TwoSessionsOnOneHostRootExchangeTheirWork) {
  Create();
  v1::CreateSessionRequest other = Request("t");
  other.mutable_mounts(0)->set_remote_root(dir_ + "/far2");
  ASSERT_TRUE(Create(daemon_, other).ok());
  Out("mkdir -p " + Far("") + "; echo work > " + Far("a"));
  ASSERT_TRUE(Pull(daemon_).status.ok());
  EXPECT_EQ(Out("cat " + dir_ + "/far2/a", "t"), "work\n");
}

TEST_F(FilesTest, TwoDaemonsOnOneHostRootExchangeTheirWork) {
  DaemonProcess second;
  second.Start();
  Create();
  v1::CreateSessionRequest other = Request("s");
  other.mutable_mounts(0)->set_remote_root(dir_ + "/far2");
  ASSERT_TRUE(Create(second, other).ok());
  constexpr int kRounds = 10;
  std::atomic<int> failed = 0;
  const auto work = [&](const DaemonProcess& daemon, const std::string& far) {
    for (int i = 0; i < kRounds; ++i) {
      const std::string file = far + "-" + std::to_string(i);
      const Seen seen =
          ExecuteToEnd(daemon, Shell("s", "mkdir -p " + dir_ + "/" + far + "; echo " + file +
                                              " > " + dir_ + "/" + far + "/" + file));
      const Synced pulled = Pull(daemon);
      if (seen.finished != 1 || !pulled.status.ok()) ++failed;
    }
  };
  std::thread one([&] { work(daemon_, "far"); });
  std::thread two([&] { work(second, "far2"); });
  one.join();
  two.join();
  EXPECT_EQ(failed, 0);
  for (const char* far : {"far", "far2"}) {
    for (int i = 0; i < kRounds; ++i) {
      const std::string file = std::string(far) + "-" + std::to_string(i);
      EXPECT_EQ(Slurp(Host(file)), file + "\n");
    }
  }
  EXPECT_EQ(Out("cat " + Far("far2-0")), "far2-0\n");
}

TEST_F(FilesTest, WhatCannotBeSentKeepsACommandFromStartingUnlessItMayRunStale) {
  Spit(dir_ + "/file", "");
  for (const bool stale : {false, true}) {
    v1::CreateSessionRequest request = Request(stale ? "s" : "strict");
    request.mutable_mounts(0)->set_remote_root(dir_ + "/file/below");
    if (stale) request.mutable_sync()->set_on_error(v1::SyncPolicy::RUN_STALE);
    ASSERT_TRUE(Create(daemon_, request).ok());
  }
  Spit(Host("a"), "1");
  const v1::ExecuteRequest command = Shell("strict", "echo ran");
  const Seen refused = ExecuteToEnd(daemon_, command, 1);
  EXPECT_TRUE(Says(refused.status, "SYNC_FAILED")) << refused.status.error_message();
  EXPECT_EQ(Out("echo ran"), "ran\n");
  EXPECT_TRUE(HasCondition("SYNC_STALE"));
  fs::remove(dir_ + "/file");
  const Seen retried = ExecuteToEnd(daemon_, command, 1);
  EXPECT_EQ(retried.out, "ran\n") << retried.status.error_message();
  EXPECT_EQ(Out("cat " + dir_ + "/file/below/a"), "1");
  EXPECT_FALSE(HasCondition("SYNC_STALE"));
}

TEST_F(FilesTest, SkipLeavesOldFilesAndForceSendsWhatIsNew) {
  Spit(Host("a"), "1");
  Create();
  EXPECT_EQ(Out("cat " + Far("a")), "1");
  Spit(Host("a"), "2");
  v1::ExecuteRequest command = Shell("s", "cat " + Far("a"));
  command.set_sync_before(v1::SKIP);
  EXPECT_EQ(ExecuteToEnd(daemon_, command).out, "1");
  command = Shell("s", "cat " + Far("a"));
  command.set_sync_before(v1::FORCE);
  EXPECT_EQ(ExecuteToEnd(daemon_, command).out, "2");
}

TEST_F(FilesTest, AMountOfTheDaemonsOwnDirectoryIsRefusedByName) {
  v1::CreateSessionRequest request = Request("s");
  request.mutable_mounts(0)->set_host_root(daemon_.dir());
  const grpc::Status status = Create(daemon_, request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(Says(status, "mounts[0].host_root")) << status.error_message();
}

}  // namespace
}  // namespace hermes
