// What a store knows by request ids when the session is gone: the same of the store of the tests
// and of SQLite.

#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "daemon/core/session_store.h"
#include "tests/fakes/memory_store.h"
#include "tests/fakes/temp_dir.h"
#include "tests/runtime/run.h"

namespace hermes {
namespace {

WallTime At(int64_t seconds) { return WallTime(std::chrono::seconds(seconds)); }

class StoreIds : public ::testing::TestWithParam<bool> {
 protected:
  StoreIds() {
    Open();
    EXPECT_TRUE(Do(store_->PutSession(MakeSession())).ok());
  }

  void Open() {
    store_.reset();
    if (GetParam()) {
      store_ = *OpenSqliteStore(loop_, path_);
    } else {
      store_ = std::make_unique<MemoryStore>(loop_, disk_);
    }
    const auto contents = Do(store_->Load(At(0)));
    EXPECT_TRUE(contents.ok()) << contents.status();
    EXPECT_TRUE(contents->live_commands.empty());
  }

  template <typename T>
  T Do(Task<T> task) {
    return RunTask(loop_, std::move(task));
  }

  static SessionInfo MakeSession() {
    SessionInfo session;
    session.id = "s";
    session.cwd = "/first";
    return session;
  }

  static CommandInfo MakeCommand(const std::string& id, const std::string& run_id) {
    CommandInfo command;
    command.session_id = "s";
    command.id = id;
    command.run_id = run_id;
    command.request_digest = "of " + id;
    return command;
  }

  void End(CommandInfo command, int64_t seconds) {
    StoredCommand ended;
    ended.info = std::move(command);
    ended.info.state = CommandState::kExited;
    ended.info.outcome.emplace();
    ended.info.end_time = At(seconds);
    ended.forgotten = true;
    EXPECT_TRUE(Do(store_->PutCommand(std::move(ended))).ok());
  }

  TempDir temp_;
  const std::string path_ = temp_.path() + "/store.db";
  MemoryStore::Disk disk_;
  Loop loop_;
  std::unique_ptr<SessionStore> store_;
};

TEST_P(StoreIds, ARunIdOutlivesItsSessionAndNothingElseOfTheCommandDoes) {
  for (const char* id : {"c1", "c2"}) {
    const CommandInfo command = MakeCommand(id, std::string("run of ") + id);
    ASSERT_TRUE(Do(store_->AcceptCommand(command))->fresh);
    if (id == std::string("c1")) End(command, 100);
  }
  ASSERT_TRUE(Do(store_->DeleteSession("s", At(200))).ok());
  Open();
  ASSERT_TRUE(Do(store_->PutSession(MakeSession())).ok());
  for (const char* id : {"c1", "c2"}) {
    const auto again = Do(store_->AcceptCommand(MakeCommand("c3", std::string("run of ") + id)));
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_FALSE(again->fresh);
    EXPECT_EQ(again->existing.id, id);
    EXPECT_EQ(again->existing.session_id, "s");
    EXPECT_EQ(again->existing.request_digest, std::string("of ") + id);
    EXPECT_FALSE(Do(store_->GetCommand("s", id))->has_value());
  }
  EXPECT_TRUE(Do(store_->ListCommands("s", "", 10))->empty());
  EXPECT_TRUE(Do(store_->ListCommands("", "", 10))->empty());
  EXPECT_TRUE(Do(store_->AcceptCommand(MakeCommand("c1", "run of another")))->fresh)
      << "the command id is free";
}

TEST_P(StoreIds, ACleanupIsKnownByItsIdWhenItsSessionIsGone) {
  const auto accept = [this](const std::string& id, const std::string& cwd) {
    SessionInfo session = MakeSession();
    session.cwd = cwd;
    const auto known = Do(store_->AcceptCleanup(id, session, At(100)));
    EXPECT_TRUE(known.ok()) << known.status();
    return known->has_value() ? (*known)->cwd : "";
  };
  EXPECT_EQ(accept("r-1", "/first"), "");
  EXPECT_EQ(accept("r-1", "/second"), "/first");
  ASSERT_TRUE(Do(store_->DeleteSession("s", At(200))).ok());
  Open();
  EXPECT_EQ(accept("r-1", "/second"), "/first");
  EXPECT_EQ(accept("r-2", "/second"), "");
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreIds, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Sqlite" : "Memory"; });

}  // namespace
}  // namespace hermes
