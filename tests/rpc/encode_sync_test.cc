#include "daemon/rpc/encode_sync.h"

#include <gtest/gtest.h>

#include "daemon/rpc/decode_sync.h"
#include "daemon/rpc/encode.h"
#include "daemon/rpc/fields.h"

namespace hermes {
namespace {

using sync::Effect;
using sync::Fate;
using sync::SyncEntry;
using sync::Why;

v1::SyncEntry Encoded(const SyncEntry& entry) {
  v1::SyncEntry wire;
  Encode(entry, &wire);
  return wire;
}

v1::SyncJob Encoded(const SyncInfo& info) {
  v1::SyncJob wire;
  Encode(info, &wire);
  return wire;
}

TEST(EncodeSyncTest, EveryWordHasItsOwnOnTheWire) {
  const auto effect = [](Effect value) {
    return v1::SyncEntry::Effect_Name(Encoded({.effect = value}).effect());
  };
  EXPECT_EQ(effect(Effect::kNothing), "NOTHING");
  EXPECT_EQ(effect(Effect::kCreate), "CREATE");
  EXPECT_EQ(effect(Effect::kReplace), "REPLACE");
  EXPECT_EQ(effect(Effect::kDelete), "DELETE");
  EXPECT_EQ(effect(Effect::kBeside), "BESIDE");
  EXPECT_EQ(effect(Effect::kKeepCopy), "KEEP_COPY");
  const auto fate = [](Fate value) {
    return v1::SyncEntry::Fate_Name(Encoded({.fate = value}).fate());
  };
  EXPECT_EQ(fate(Fate::kPlanned), "PLANNED");
  EXPECT_EQ(fate(Fate::kDone), "DONE");
  EXPECT_EQ(fate(Fate::kChanged), "CHANGED");
  EXPECT_EQ(fate(Fate::kFailed), "FAILED");
  const auto why = [](Why value) { return v1::SyncEntry::Why_Name(Encoded({.why = value}).why()); };
  EXPECT_EQ(why(Why::kSame), "SAME");
  EXPECT_EQ(why(Why::kRemoteChanged), "REMOTE_CHANGED");
  EXPECT_EQ(why(Why::kHostChanged), "HOST_CHANGED");
  EXPECT_EQ(why(Why::kHostStands), "HOST_STANDS");
  EXPECT_EQ(why(Why::kConflict), "CONFLICT");
  EXPECT_EQ(why(Why::kHeld), "HELD");
  EXPECT_EQ(why(Why::kNotDeleted), "NOT_DELETED");
  EXPECT_EQ(why(Why::kPushOnly), "PUSH_ONLY");
  EXPECT_EQ(why(Why::kOdd), "ODD");
  EXPECT_EQ(why(Why::kTree), "TREE");
  EXPECT_EQ(why(Why::kDenied), "DENIED");
  EXPECT_EQ(why(Why::kLie), "LIE");
  EXPECT_EQ(why(Why::kGone), "GONE");
  const auto kind = [](SyncKind value) {
    return v1::SyncJob::Kind_Name(Encoded(SyncInfo{.kind = value}).kind());
  };
  EXPECT_EQ(kind(SyncKind::kPush), "PUSH");
  EXPECT_EQ(kind(SyncKind::kPull), "PULL");
  EXPECT_EQ(kind(SyncKind::kPlan), "PLAN");
  EXPECT_EQ(kind(SyncKind::kRevert), "REVERT");
  const auto state = [](SyncState value) {
    return v1::SyncJob::State_Name(Encoded(SyncInfo{.state = value}).state());
  };
  EXPECT_EQ(state(SyncState::kRunning), "RUNNING");
  EXPECT_EQ(state(SyncState::kDone), "DONE");
  EXPECT_EQ(state(SyncState::kFailed), "FAILED");
  EXPECT_EQ(state(SyncState::kInterrupted), "INTERRUPTED");
}

TEST(EncodeSyncTest, AnEntryKeepsNamesAsBytesAndDigestsAsTheyAre) {
  SyncEntry entry{.mount = "m", .path = "a\n\xff", .effect = Effect::kBeside, .size = 5};
  entry.host = sync::Content{.digest = sync::DigestOf("x"), .size = 1};
  entry.aside = "a.conflict\x1b";
  entry.note = "n\xff";
  const v1::SyncEntry wire = Encoded(entry);
  EXPECT_EQ(wire.mount(), "m");
  EXPECT_EQ(wire.path(), "a\n\xff");
  EXPECT_EQ(wire.size(), 5u);
  EXPECT_EQ(wire.host_sha256().size(), 32u);
  EXPECT_EQ(wire.remote_sha256(), "");
  EXPECT_EQ(wire.aside(), "a.conflict\x1b");
  EXPECT_TRUE(IsUtf8(wire.note()));
}

TEST(EncodeSyncTest, AJobTellsEverythingButItsEntries) {
  SyncInfo info{.session_id = "box", .id = "s1", .kind = SyncKind::kRevert};
  info.state = SyncState::kFailed;
  info.reason = "SYNC_FAILED";
  info.message = "no\xff";
  info.progress = {1, 2, 3, 4};
  info.report.counts = {.applied = 1, .conflicts = 2, .rejected = 3, .held = 4, .failed = 5};
  info.report.unsaved = 6;
  info.report.suspect = info.report.revertible = true;
  info.of_sync = "s0";
  info.create_time = WallTime(std::chrono::milliseconds(1500));
  info.entries_total = 9;
  info.creator_uid = 10;
  info.request_id = "id";
  const v1::SyncJob wire = Encoded(info);
  EXPECT_EQ(wire.name(), "sessions/box/syncs/s1");
  EXPECT_EQ(wire.reason(), "SYNC_FAILED");
  EXPECT_TRUE(IsUtf8(wire.message()));
  EXPECT_EQ(wire.progress().bytes_total(), 4u);
  EXPECT_EQ(wire.applied(), 1u);
  EXPECT_EQ(wire.conflicts(), 2u);
  EXPECT_EQ(wire.rejected(), 3u);
  EXPECT_EQ(wire.held(), 4u);
  EXPECT_EQ(wire.failed(), 5u);
  EXPECT_EQ(wire.unsaved(), 6u);
  EXPECT_TRUE(wire.suspect() && wire.revertible());
  EXPECT_EQ(wire.of_sync(), "sessions/box/syncs/s0");
  EXPECT_EQ(wire.create_time().nanos(), 500'000'000);
  EXPECT_FALSE(wire.has_end_time() || wire.has_expire_time());
  EXPECT_EQ(wire.entries_total(), 9u);
  EXPECT_EQ(wire.creator_uid(), 10u);
  EXPECT_EQ(wire.request_id(), "id");
  EXPECT_EQ(wire.entries_size(), 0);
}

TEST(EncodeSyncTest, AStoredSyncFitsIntoAMessage) {
  StoredSync sync;
  sync.entries.assign(kStoredSyncEntries, SyncEntry{.path = "short"});
  v1::SyncJob wire;
  Encode(sync, &wire);
  EXPECT_EQ(wire.entries_size(), static_cast<int>(kStoredSyncEntries));
  sync.entries.assign(kStoredSyncEntries,
                      SyncEntry{.path = std::string(4096, 'p'), .aside = std::string(4096, 'a')});
  wire.Clear();
  Encode(sync, &wire);
  EXPECT_GT(wire.entries_size(), 300);
  EXPECT_LT(wire.ByteSizeLong(), size_t{4} << 20);
}

TEST(EncodeSyncTest, ASessionShowsItsMountsAsTheyCanBeAskedFor) {
  v1::CreateSessionRequest request;
  request.set_backend("local");
  v1::Mount& asked = *request.add_mounts();
  asked.set_id("data");
  asked.set_host_root("/srv/\xff");
  asked.set_remote_root("~/x");
  asked.set_policy(v1::Mount::PUSH);
  asked.set_conflict(v1::Mount::ABORT);
  asked.set_deletes(v1::Mount::NEVER);
  asked.set_links(v1::Mount::FOLLOW_HOST);
  asked.add_ignore("*.o");
  asked.set_max_files(1);
  asked.set_max_bytes(2);
  asked.set_max_file_bytes(3);
  asked.set_kind(v1::Mount::DIRECTORY);
  request.mutable_sync()->set_on_error(v1::SyncPolicy::RUN_STALE);
  request.mutable_sync()->mutable_min_interval()->set_seconds(5);
  SessionInfo info;
  v1::Session wire;
  for (const bool secrets : {true, false}) {
    asked.set_include_secrets(secrets);
    const auto create = DecodeCreate(request, {}, 0);
    ASSERT_TRUE(create.ok()) << create.status();
    info.sync = create->sync;
    info.sync.lock_file = "/lock";
    wire.Clear();
    Encode(info, &wire);
    ASSERT_EQ(wire.mounts_size(), 1);
    EXPECT_EQ(wire.mounts(0).SerializeAsString(), asked.SerializeAsString());
  }
  EXPECT_EQ(wire.sync().on_error(), v1::SyncPolicy::RUN_STALE);
  EXPECT_EQ(wire.sync().min_interval().seconds(), 5);
  EXPECT_EQ(wire.sync().lock_file(), "/lock");
  v1::Session without;
  Encode(SessionInfo{}, &without);
  EXPECT_FALSE(without.has_sync());
}

}  // namespace
}  // namespace hermes
