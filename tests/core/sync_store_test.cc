// The rows of syncs: what SessionStore promises of them, on SQLite.

#include <gtest/gtest.h>

#include <filesystem>

#include "daemon/core/session_store.h"
#include "daemon/core/sqlite_db.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/temp_dir.h"
#include "tests/runtime/run.h"

namespace hermes {
namespace {

WallTime At(int64_t seconds) { return WallTime(std::chrono::seconds(seconds)); }

SyncInfo MakeSync(const std::string& session, const std::string& id,
                  const std::string& request_id = "") {
  SyncInfo sync;
  sync.session_id = session;
  sync.id = id;
  sync.kind = SyncKind::kPull;
  sync.create_time = At(100);
  sync.request_id = request_id;
  sync.request_digest = "of " + id;
  return sync;
}

SyncInfo Done(SyncInfo sync) {
  sync.state = SyncState::kDone;
  sync.end_time = sync.create_time;
  return sync;
}

using Names = std::vector<std::string>;

class SyncStoreTest : public ::testing::Test {
 protected:
  SyncStoreTest() {
    Open();
    for (const char* id : {"s", "t"}) {
      SessionInfo session;
      session.id = id;
      EXPECT_TRUE(Do(store_->PutSession(session)).ok());
    }
  }

  void Open() {
    store_.reset();
    absl::StatusOr<std::unique_ptr<SessionStore>> store = OpenSqliteStore(loop_, path_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    absl::StatusOr<SessionStore::Contents> contents = Do(store_->Load(At(500)));
    ASSERT_TRUE(contents.ok()) << contents.status();
    contents_ = *std::move(contents);
  }

  template <typename T>
  T Do(Task<T> task) {
    return RunTask(loop_, std::move(task));
  }

  bool Accept(SyncInfo sync) {
    const auto accepted = Do(store_->AcceptSync(std::move(sync)));
    EXPECT_TRUE(accepted.ok()) << accepted.status();
    return accepted->fresh;
  }

  Names List(const std::string& session, const std::string& before = "", size_t limit = 10'000) {
    Names ids;
    const auto syncs = Do(store_->ListSyncs(session, before, limit));
    EXPECT_TRUE(syncs.ok()) << syncs.status();
    for (const SyncInfo& sync : *syncs) ids.push_back(sync.id);
    return ids;
  }

  TempDir temp_;
  const std::string path_ = temp_.path() + "/store.db";
  Loop loop_;
  std::unique_ptr<SessionStore> store_;
  SessionStore::Contents contents_;
};

TEST_F(SyncStoreTest, KnowsARequestIdOncePerSessionAndNoneIsNotOne) {
  EXPECT_TRUE(Accept(MakeSync("s", "y1", "r")));
  const auto again = Do(store_->AcceptSync(MakeSync("s", "y2", "r")));
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->fresh);
  EXPECT_EQ(again->existing.id, "y1");
  EXPECT_EQ(again->existing.request_digest, "of y1");
  EXPECT_TRUE(Accept(MakeSync("t", "y1", "r"))) << "another session";
  EXPECT_TRUE(Accept(MakeSync("s", "y3")));
  EXPECT_TRUE(Accept(MakeSync("s", "y4")));
  EXPECT_EQ(List("s"), Names({"y4", "y3", "y1"}));
}

TEST_F(SyncStoreTest, BringsBackHowASyncWentWithItsEntries) {
  Accept(MakeSync("s", "y1"));
  StoredSync sync{Done(MakeSync("s", "y1")), {}};
  sync.info.report.counts.applied = 3;
  sync.info.report.revertible = true;
  sync.info.expire_time = At(900);
  sync.entries = {{.mount = "m",
                   .path = std::string("a\n\xff", 3),
                   .effect = sync::Effect::kReplace,
                   .fate = sync::Fate::kChanged,
                   .why = sync::Why::kConflict,
                   .size = 9,
                   .host = sync::Content{sync::DigestOf("h"), 1, true},
                   .remote = {},
                   .aside = "b",
                   .note = "n"}};
  ASSERT_TRUE(Do(store_->PutSync(sync)).ok());
  Open();
  const auto stored = Do(store_->GetSync("s", "y1"));
  ASSERT_TRUE(stored.ok() && stored->has_value());
  EXPECT_EQ((*stored)->info.state, SyncState::kDone);
  EXPECT_EQ((*stored)->info.report.counts.applied, 3u);
  EXPECT_TRUE((*stored)->info.report.revertible);
  EXPECT_EQ((*stored)->info.expire_time, At(900));
  ASSERT_EQ((*stored)->entries.size(), 1u);
  const sync::SyncEntry& entry = (*stored)->entries[0];
  EXPECT_EQ(entry.path, std::string("a\n\xff", 3));
  EXPECT_EQ(entry.fate, sync::Fate::kChanged);
  ASSERT_TRUE(entry.host.has_value());
  EXPECT_EQ(*entry.host, (sync::Content{sync::DigestOf("h"), 1, true}));
  EXPECT_EQ(entry.host->size, 1u);
  EXPECT_FALSE(entry.remote.has_value());
  EXPECT_FALSE(Do(store_->GetSync("s", "y2"))->has_value());
}

TEST_F(SyncStoreTest, WhatRanWhenTheDaemonDiedIsInterrupted) {
  Accept(MakeSync("s", "y1", "r"));
  Accept(MakeSync("s", "y2"));
  ASSERT_TRUE(Do(store_->PutSync({Done(MakeSync("s", "y2")), {}})).ok());
  Open();
  const SyncInfo pull = (*Do(store_->GetSync("s", "y1")))->info;
  EXPECT_EQ(pull.state, SyncState::kInterrupted);
  EXPECT_EQ(pull.end_time, At(500));
  EXPECT_TRUE(pull.report.revertible) << "it may have landed";
  EXPECT_EQ((*Do(store_->FindSync("s", "r")))->id, "y1");
  EXPECT_FALSE(Do(store_->FindSync("s", "r2"))->has_value());
  EXPECT_FALSE(Do(store_->FindSync("s", ""))->has_value());
  EXPECT_EQ((*Do(store_->GetSync("s", "y2")))->info.state, SyncState::kDone);
  EXPECT_EQ(Do(store_->AcceptSync(MakeSync("s", "y3", "r")))->existing.state,
            SyncState::kInterrupted);
}

TEST_F(SyncStoreTest, ListsNewestFirstInPages) {
  for (const char* id : {"y1", "y2", "y3", "y4"}) Accept(MakeSync("s", id));
  Accept(MakeSync("t", "y5"));
  EXPECT_EQ(List("s", "", 2), Names({"y4", "y3"}));
  EXPECT_EQ(List("s", "y3", 2), Names({"y2", "y1"}));
  EXPECT_EQ(List("s", "y1", 2), Names());
  EXPECT_EQ(ReasonOf(Do(store_->ListSyncs("s", "y5", 2)).status()), Reason::k_BAD_FIELD);
}

TEST_F(SyncStoreTest, GoesWithItsSessionAndDoesNotComeBackWithoutIt) {
  Accept(MakeSync("s", "y1"));
  Accept(MakeSync("t", "y2"));
  ASSERT_TRUE(Do(store_->DeleteSession("s", WallTime())).ok());
  EXPECT_EQ(List("s"), Names());
  EXPECT_EQ(List("t"), Names({"y2"}));
  EXPECT_TRUE(Do(store_->PutSync({Done(MakeSync("s", "y1")), {}})).ok());
  EXPECT_EQ(List("s"), Names());
  EXPECT_FALSE(Do(store_->AcceptSync(MakeSync("s", "y3"))).ok());
}

TEST_F(SyncStoreTest, ExpiresOldOnesButNotOneThatRuns) {
  Accept(MakeSync("s", "running"));
  ASSERT_TRUE(Do(store_->PutSync({Done(MakeSync("s", "old")), {}})).ok());
  SyncInfo young = Done(MakeSync("s", "young"));
  young.create_time = At(200);
  ASSERT_TRUE(Do(store_->PutSync({young, {}})).ok());
  ASSERT_TRUE(Do(store_->Expire({.syncs = At(100)})).ok());
  EXPECT_EQ(List("s"), Names({"young", "old", "running"})) << "not before its time";
  ASSERT_TRUE(Do(store_->Expire({.syncs = At(101)})).ok());
  EXPECT_EQ(List("s"), Names({"young", "running"}));
}

TEST_F(SyncStoreTest, KeepsTheNewestOfASession) {
  Accept(MakeSync("s", "running"));
  Accept(MakeSync("t", "other"));
  for (size_t i = 0; i <= kStoredSyncs; ++i) {
    ASSERT_TRUE(Do(store_->PutSync({Done(MakeSync("s", "y" + std::to_string(i))), {}})).ok());
  }
  const Names kept = List("s");
  ASSERT_EQ(kept.size(), kStoredSyncs + 1) << "and the one that runs";
  EXPECT_EQ(kept.front(), "y" + std::to_string(kStoredSyncs));
  EXPECT_EQ(kept[kStoredSyncs - 1], "y1");
  EXPECT_EQ(kept.back(), "running");
  EXPECT_EQ(List("t"), Names({"other"}));
}

TEST_F(SyncStoreTest, AStoreFromBeforeSyncsLosesNothing) {
  CommandInfo command;
  command.session_id = "s";
  command.id = "c1";
  command.run_id = "run-1";
  ASSERT_TRUE(Do(store_->AcceptCommand(command)).ok());
  store_.reset();
  {
    auto db = SqliteDb::Open(path_);
    ASSERT_TRUE(db.ok());
    ASSERT_TRUE((*db)->Exec("DROP TABLE syncs; DROP TABLE cleanups; PRAGMA user_version = 1").ok());
  }
  Open();
  EXPECT_EQ(contents_.sessions.size(), 2u);
  ASSERT_EQ(contents_.live_commands.size(), 1u);
  EXPECT_EQ(contents_.live_commands[0].info.run_id, "run-1");
  EXPECT_TRUE(Accept(MakeSync("s", "y1", "r")));
  EXPECT_EQ(List("s"), Names({"y1"}));
}

}  // namespace
}  // namespace hermes
