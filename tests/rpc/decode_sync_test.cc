#include "daemon/rpc/decode_sync.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "daemon/runtime/status.h"
#include "sync/ignore.h"

namespace hermes {
namespace {

using namespace std::chrono_literals;
using Request = v1::CreateSessionRequest;
using sync::Mount;

void AddMount(Request& request, const std::string& host, const std::string& remote) {
  v1::Mount* mount = request.add_mounts();
  mount->set_host_root(host);
  mount->set_remote_root(remote);
}

Request Good() {
  Request request;
  request.set_session_id("box");
  request.set_backend("local");
  AddMount(request, "/srv/a", "/a");
  AddMount(request, "/srv/b", "~/b");
  return request;
}

struct BadRow {
  const char* field;
  std::function<void(Request&)> spoil;
  Reason reason = Reason::k_BAD_FIELD;
};

v1::Mount& Second(Request& request) { return *request.mutable_mounts(1); }
v1::HermesProfile& Profile(Request& request) {
  v1::HermesProfile& profile = *request.mutable_profile();
  profile.set_home("/h");
  return profile;
}

const std::string& Nul() {
  static const auto* const text = new std::string("/a\0b", 4);
  return *text;
}

const std::vector<BadRow>& BadMounts() {
  static const auto* const rows = new std::vector<BadRow>{
      {"mounts[1].id", [](Request& r) { Second(r).set_id("A b"); }},
      {"mounts[1].id", [](Request& r) { Second(r).set_id(std::string(64, 'a')); }},
      {"mounts[1].host_root", [](Request& r) { Second(r).clear_host_root(); }},
      {"mounts[1].host_root", [](Request& r) { Second(r).set_host_root("b"); }},
      {"mounts[1].host_root", [](Request& r) { Second(r).set_host_root("/"); }},
      {"mounts[1].host_root", [](Request& r) { Second(r).set_host_root("~/b"); }},
      {"mounts[1].host_root", [](Request& r) { Second(r).set_host_root("/a/../b"); }},
      {"mounts[1].host_root", [](Request& r) { Second(r).set_host_root(Nul()); }},
      {"mounts[1].host_root",
       [](Request& r) { Second(r).set_host_root("/" + std::string(4096, 'a')); }},
      {"mounts[1].host_root", [](Request& r) { Second(r).set_host_root("/srv/a/in"); }},
      {"mounts[1].remote_root", [](Request& r) { Second(r).clear_remote_root(); }},
      {"mounts[1].remote_root", [](Request& r) { Second(r).set_remote_root("b"); }},
      {"mounts[1].remote_root", [](Request& r) { Second(r).set_remote_root("~/"); }},
      {"mounts[1].remote_root", [](Request& r) { Second(r).set_remote_root("~/../b"); }},
      {"mounts[1].remote_root", [](Request& r) { Second(r).set_remote_root(Nul()); }},
      {"mounts[1].remote_root", [](Request& r) { Second(r).set_remote_root("/a/in"); }},
      {"mounts[1].policy", [](Request& r) { Second(r).set_policy(v1::Mount::Policy(9)); }},
      {"mounts[1].conflict", [](Request& r) { Second(r).set_conflict(v1::Mount::Conflict(9)); }},
      {"mounts[1].conflict",
       [](Request& r) {
         Second(r).set_policy(v1::Mount::PUSH);
         Second(r).set_conflict(v1::Mount::KEEP_BOTH);
       }},
      {"mounts[1].deletes", [](Request& r) { Second(r).set_deletes(v1::Mount::Deletes(-1)); }},
      {"mounts[1].links", [](Request& r) { Second(r).set_links(v1::Mount::Links(9)); }},
      {"mounts[1].links", [](Request& r) { Second(r).set_links(v1::Mount::FOLLOW_HOST); }},
      {"mounts[1].kind", [](Request& r) { Second(r).set_kind(v1::Mount::Kind(9)); }},
      {"mounts[1].remote_root",
       [](Request& r) {
         Second(r).set_kind(v1::Mount::FILE);
         Second(r).set_remote_root("/another");
       }},
      {"mounts[1].ignore", [](Request& r) { Second(r).add_ignore("a/../b"); }},
      {"mounts[1].ignore", [](Request& r) { Second(r).add_ignore(""); }},
      {"mounts[1].ignore", [](Request& r) { Second(r).add_ignore(std::string(257, 'a')); }},
      {"mounts[1].ignore",
       [](Request& r) {
         for (int i = 0; i < 257; ++i) Second(r).add_ignore("a");
       }},
      {"mounts[1].max_files", [](Request& r) { Second(r).set_max_files(200'001); }},
      {"mounts[1].max_bytes", [](Request& r) { Second(r).set_max_bytes(~uint64_t{0}); }},
      {"mounts[1].max_file_bytes",
       [](Request& r) { Second(r).set_max_file_bytes((uint64_t{1} << 40) + 1); }},
      {"mounts[1].id",
       [](Request& r) {
         r.mutable_mounts(0)->set_id("twin");
         Second(r).set_id("twin");
       }},
      {"mounts",
       [](Request& r) {
         for (int i = 0; i < 63; ++i) {
           const std::string name = "/m" + std::to_string(i);
           AddMount(r, "/srv" + name, name);
         }
       }},
      {"mounts",
       [](Request& r) {
         for (int i = 0; i < 256; ++i) r.mutable_mounts(0)->add_ignore(std::string(129, 'a'));
         for (int i = 0; i < 256; ++i) Second(r).add_ignore(std::string(129, 'a'));
       }},
  };
  return *rows;
}

const std::vector<BadRow>& BadProfilesAndPolicies() {
  static const auto* const rows = new std::vector<BadRow>{
      {"profile.home", [](Request& r) { r.mutable_profile(); }},
      {"profile.home", [](Request& r) { Profile(r).set_home("h"); }},
      {"profile.home", [](Request& r) { Profile(r).set_home("/"); }},
      {"profile.home", [](Request& r) { Profile(r).set_home(Nul()); }},
      {"profile.remote_home", [](Request& r) { Profile(r).set_remote_home("h"); }},
      {"profile.remote_home", [](Request& r) { Profile(r).set_remote_home("~/"); }},
      {"profile.credentials[1]",
       [](Request& r) {
         Profile(r).add_credentials("ok");
         Profile(r).add_credentials("../shadow");
       },
       Reason::k_PATH_ESCAPES_ROOT},
      {"profile.credentials[0]", [](Request& r) { Profile(r).add_credentials("/etc/shadow"); },
       Reason::k_PATH_ESCAPES_ROOT},
      {"profile.credentials[0]", [](Request& r) { Profile(r).add_credentials(""); },
       Reason::k_PATH_ESCAPES_ROOT},
      {"profile.credentials[0]", [](Request& r) { Profile(r).add_credentials(Nul()); },
       Reason::k_PATH_ESCAPES_ROOT},
      {"profile.credentials[0].path",
       [](Request& r) { Profile(r).add_credentials(std::string(300, 'a')); }},
      {"profile.credentials",
       [](Request& r) {
         for (int i = 0; i < 65; ++i) Profile(r).add_credentials("c" + std::to_string(i));
       }},
      {"mounts",
       [](Request& r) {
         for (int i = 0; i < 61; ++i) Profile(r).add_credentials("c" + std::to_string(i));
       }},
      {"mounts[2].host_root", [](Request& r) { Profile(r).set_home("/srv/a"); }},
      {"sync.on_error",
       [](Request& r) { r.mutable_sync()->set_on_error(v1::SyncPolicy::OnError(7)); }},
      {"sync.lock_file", [](Request& r) { r.mutable_sync()->set_lock_file("/tmp/lock"); }},
      {"sync.min_interval",
       [](Request& r) { r.mutable_sync()->mutable_min_interval()->set_seconds(-1); },
       Reason::k_BAD_TIMEOUT},
      {"sync.min_interval",
       [](Request& r) { r.mutable_sync()->mutable_min_interval()->set_seconds(3601); },
       Reason::k_BAD_TIMEOUT},
  };
  return *rows;
}

void ExpectRefusals(const std::vector<BadRow>& rows) {
  for (const BadRow& row : rows) {
    Request request = Good();
    row.spoil(request);
    const absl::Status status = DecodeCreate(std::move(request), {}, 0).status();
    EXPECT_EQ(ReasonOf(status), row.reason) << row.field << ": " << status;
    EXPECT_EQ(MetadataOf(status)["field"], row.field) << status;
    const std::string_view text(status.message().data(), status.message().size());
    EXPECT_TRUE(text.starts_with(std::string(row.field) + ": ")) << text;
  }
}

TEST(DecodeMountsTest, EveryBadFieldOfAMountIsNamed) { ExpectRefusals(BadMounts()); }

TEST(DecodeMountsTest, EveryBadFieldOfProfileAndPolicyIsNamed) {
  ExpectRefusals(BadProfilesAndPolicies());
}

TEST(DecodeMountsTest, ErrorsHoldNoBytesOfAnybody) {
  Request request = Good();
  Second(request).set_host_root("/srv/a/\x1b[31m\xff");
  const absl::Status status = DecodeCreate(std::move(request), {}, 0).status();
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(IsPrintable(std::string_view(status.message().data(), status.message().size())));
}

TEST(DecodeMountsTest, WithoutMountsThereIsNothing) {
  const auto create = DecodeCreate(
      [] {
        Request request = Good();
        request.clear_mounts();
        return request;
      }(),
      {}, 0);
  ASSERT_TRUE(create.ok()) << create.status();
  EXPECT_EQ(create->sync, SyncSettings{});
}

TEST(DecodeMountsTest, WhatIsNotSaidIsTheDefault) {
  const auto create = DecodeCreate(Good(), {}, 0);
  ASSERT_TRUE(create.ok()) << create.status();
  ASSERT_EQ(create->sync.mounts.size(), 2u);
  Mount expected{.id = "a", .host_root = "/srv/a", .remote_root = "/a"};
  expected.ignore = sync::SecretPatterns();
  EXPECT_EQ(create->sync.mounts[0], expected);
  EXPECT_EQ(create->sync.mounts[1].id, "b");
  EXPECT_EQ(create->sync.lock_file, "");
  EXPECT_EQ(create->sync.on_error, OnSyncError::kFail);
  EXPECT_EQ(create->sync.min_interval, 0s);
}

TEST(DecodeMountsTest, ValuesArriveAsTheyWereSent) {
  Request request = Good();
  request.mutable_mounts()->DeleteSubrange(1, 1);
  v1::Mount& wire = *request.mutable_mounts(0);
  wire.set_id("data");
  wire.set_host_root("/srv/\xff x/");
  wire.set_policy(v1::Mount::PULL);
  wire.set_conflict(v1::Mount::KEEP_BOTH);
  wire.set_deletes(v1::Mount::REPORT);
  wire.set_links(v1::Mount::INSIDE);
  wire.set_kind(v1::Mount::DIRECTORY);
  wire.add_ignore("*.o");
  wire.set_max_files(1);
  wire.set_max_bytes(2);
  wire.set_max_file_bytes(3);
  request.mutable_sync()->set_on_error(v1::SyncPolicy::RUN_STALE);
  request.mutable_sync()->mutable_min_interval()->set_seconds(5);
  const auto create = DecodeCreate(request, {}, 0);
  ASSERT_TRUE(create.ok()) << create.status();
  Mount expected{.id = "data",
                 .host_root = "/srv/\xff x",
                 .remote_root = "/a",
                 .kind = sync::MountKind::kDirectory,
                 .policy = sync::Policy::kPull,
                 .conflict = sync::ConflictPolicy::kBoth,
                 .deletes = sync::DeletePolicy::kReport,
                 .links = sync::LinkPolicy::kInside,
                 .ignore = {"*.o"},
                 .max_files = 1,
                 .max_bytes = 2,
                 .max_file_bytes = 3};
  for (const std::string& pattern : sync::SecretPatterns()) expected.ignore.push_back(pattern);
  EXPECT_EQ(create->sync.mounts, std::vector<Mount>{expected});
  wire.set_include_secrets(true);
  const auto open = DecodeCreate(request, {}, 0);
  ASSERT_TRUE(open.ok()) << open.status();
  EXPECT_EQ(open->sync.mounts[0].ignore, std::vector<std::string>{"*.o"});
  EXPECT_EQ(create->sync.on_error, OnSyncError::kRunStale);
  EXPECT_EQ(create->sync.min_interval, 5s);
}

TEST(DecodeMountsTest, AProfileAddsItsMountsAndItsLock) {
  Request request = Good();
  request.mutable_profile()->set_home("/home/me/.hermes/");
  request.mutable_profile()->set_remote_home("~/.hermes/");
  request.mutable_profile()->add_credentials("auth.json");
  const auto create = DecodeCreate(request, {}, 0);
  ASSERT_TRUE(create.ok()) << create.status();
  ASSERT_EQ(create->sync.mounts.size(), 5u);
  EXPECT_EQ(create->sync.mounts[2].id, "skills");
  EXPECT_EQ(create->sync.mounts[3].host_root, "/home/me/.hermes/cache");
  EXPECT_EQ(create->sync.mounts[4].host_root, "/home/me/.hermes/auth.json");
  EXPECT_EQ(create->sync.mounts[4].remote_root, "~/.hermes/auth.json");
  EXPECT_EQ(create->sync.mounts[4].policy, sync::Policy::kPush);
  EXPECT_EQ(create->sync.lock_file, "/home/me/.hermes/.sync.lock");
}

TEST(DecodeMountsTest, AProfileWithholdsSecretsUnlessItIncludesThem) {
  for (const bool include : {false, true}) {
    Request request = Good();
    request.clear_mounts();
    Profile(request).set_include_secrets(include);
    Profile(request).add_credentials("c.pem");
    const auto create = DecodeCreate(request, {}, 0);
    ASSERT_TRUE(create.ok()) << create.status();
    for (const sync::Mount& mount : create->sync.mounts)
      EXPECT_EQ(WithholdsSecrets(mount), !include && mount.kind != sync::MountKind::kFile);
  }
}

TEST(DecodeMountsTest, AMountMayHaveAsManyFilesAsAFarEndMayList) {
  Request request = Good();
  Second(request).set_max_files(sync::kMostMountFiles);
  const auto create = DecodeCreate(request, {}, 0);
  ASSERT_TRUE(create.ok()) << create.status();
  EXPECT_EQ(create->sync.mounts[1].max_files, 200'000u);
  Second(request).set_max_files(sync::kMostMountFiles + 1);
  const absl::Status refused = DecodeCreate(request, {}, 0).status();
  EXPECT_EQ(ReasonOf(refused), Reason::k_BAD_FIELD);
  EXPECT_NE(refused.message().find("at most 200000"), std::string::npos) << refused;
}

TEST(DecodeMountsTest, TheDigestCoversMountsProfileAndPolicy) {
  const std::string digest = DecodeCreate(Good(), {}, 0)->digest;
  EXPECT_EQ(DecodeCreate(Good(), {}, 0)->digest, digest);
  const std::vector<std::function<void(Request&)>> changes = {
      [](Request& r) { Second(r).set_host_root("/srv/c"); },
      [](Request& r) { Second(r).set_policy(v1::Mount::PUSH); },
      [](Request& r) { Second(r).add_ignore("x"); },
      [](Request& r) { Profile(r); },
      [](Request& r) { r.mutable_sync()->set_on_error(v1::SyncPolicy::RUN_STALE); },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    Request request = Good();
    changes[i](request);
    EXPECT_NE(DecodeCreate(request, {}, 0)->digest, digest) << i;
  }
}

constexpr char kId[] = "00112233-4455-6677-8899-AABBCCDDEEFF";

std::string FieldOf(const absl::Status& status) { return MetadataOf(status)["field"]; }

TEST(DecodeSyncTest, EachRequestBeginsItsKind) {
  v1::SyncRequest push;
  push.set_session("sessions/box");
  push.set_force(true);
  push.set_request_id(kId);
  const auto pushed = DecodeSync(push, 7);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->session_id, "box");
  EXPECT_EQ(pushed->kind, SyncKind::kPush);
  EXPECT_TRUE(pushed->force);
  EXPECT_EQ(pushed->request_id, "00112233-4455-6677-8899-aabbccddeeff");
  EXPECT_EQ(pushed->uid, 7u);

  v1::SyncBackRequest pull;
  pull.set_session("sessions/box");
  EXPECT_EQ(DecodeSyncBack(pull, 0)->kind, SyncKind::kPull);
  pull.set_validate_only(true);
  pull.set_approve_deletes(true);
  pull.set_salvage(true);
  EXPECT_EQ(DecodeSyncBack(pull, 0)->kind, SyncKind::kPlan);
  EXPECT_TRUE(DecodeSyncBack(pull, 0)->approve_deletes);
  EXPECT_TRUE(DecodeSyncBack(pull, 0)->salvage);

  v1::RevertSyncRequest revert;
  revert.set_name("sessions/box/syncs/s1");
  const auto reverted = DecodeRevert(revert, 0);
  ASSERT_TRUE(reverted.ok()) << reverted.status();
  EXPECT_EQ(reverted->kind, SyncKind::kRevert);
  EXPECT_EQ(reverted->session_id, "box");
  EXPECT_EQ(reverted->of_sync, "s1");
}

TEST(DecodeSyncTest, BadFieldsAreNamed) {
  v1::SyncRequest push;
  EXPECT_EQ(FieldOf(DecodeSync(push, 0).status()), "session");
  push.set_session("sessions/box/syncs/x");
  EXPECT_EQ(FieldOf(DecodeSync(push, 0).status()), "session");
  push.set_session("sessions/box");
  push.set_request_id("1");
  EXPECT_EQ(FieldOf(DecodeSync(push, 0).status()), "request_id");
  v1::SyncBackRequest pull;
  pull.set_session("box");
  EXPECT_EQ(FieldOf(DecodeSyncBack(pull, 0).status()), "session");
  v1::RevertSyncRequest revert;
  for (const char* name : {"", "sessions/box", "sessions/box/syncs/", "sessions/box/syncs/A",
                           "sessions/box/commands/c1", "sessions/box/syncs/a/b"}) {
    revert.set_name(name);
    EXPECT_EQ(ReasonOf(DecodeRevert(revert, 0).status()), Reason::k_BAD_NAME) << name;
  }
  v1::ListSyncsRequest list;
  EXPECT_EQ(FieldOf(DecodeListSyncs(list).status()), "parent");
  list.set_parent("sessions/box");
  list.set_page_size(-1);
  EXPECT_EQ(FieldOf(DecodeListSyncs(list).status()), "page_size");
  list.set_page_size(0);
  list.set_page_token(EncodePageToken(SyncListKey("other"), "s1"));
  EXPECT_EQ(FieldOf(DecodeListSyncs(list).status()), "page_token");
  list.set_page_token(EncodePageToken(SyncListKey("box"), "s1"));
  EXPECT_EQ(DecodeListSyncs(list)->before, "s1");
}

TEST(DecodeSyncTest, TheDigestIsOfBodyAndKind) {
  v1::SyncRequest push;
  push.set_session("sessions/box");
  const std::string digest = DecodeSync(push, 0)->digest;
  push.set_request_id(kId);
  EXPECT_EQ(DecodeSync(push, 1)->digest, digest);
  push.set_force(true);
  EXPECT_NE(DecodeSync(push, 0)->digest, digest);
  v1::SyncBackRequest pull;  // the same bytes
  pull.set_session("sessions/box");
  EXPECT_NE(DecodeSyncBack(pull, 0)->digest, digest);
}

}  // namespace
}  // namespace hermes
