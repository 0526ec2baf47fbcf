#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "daemon/rpc/decode.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using namespace std::chrono_literals;
using Request = v1::CreateSessionRequest;

Request Good() {
  Request request;
  request.set_session_id("box");
  request.set_backend("local");
  return request;
}

struct BadRow {
  const char* field;
  Reason reason;
  std::function<void(Request&)> spoil;
};

TEST(DecodeCreateTest, EveryBadFieldIsNamed) {
  const std::string nul("a\0b", 3);
  const std::vector<BadRow> rows = {
      {"request_id", Reason::k_BAD_FIELD, [](Request& r) { r.set_request_id("1"); }},
      {"session_id", Reason::k_BAD_NAME, [](Request& r) { r.set_session_id("A"); }},
      {"session_id", Reason::k_BAD_NAME, [](Request& r) { r.set_session_id("sessions/a"); }},
      {"session_id", Reason::k_BAD_NAME,
       [](Request& r) { r.set_session_id(std::string(64, 'a')); }},
      {"session_id", Reason::k_BAD_NAME, [&](Request& r) { r.set_session_id(nul); }},
      {"backend", Reason::k_BAD_FIELD, [](Request& r) { r.clear_backend(); }},
      {"backend", Reason::k_BAD_FIELD, [](Request& r) { r.set_backend("../x"); }},
      {"cwd", Reason::k_BAD_FIELD, [](Request& r) { r.set_cwd("x"); }},
      {"env[A B]", Reason::k_BAD_FIELD, [](Request& r) { (*r.mutable_env())["A B"] = ""; }},
      {"labels[X]", Reason::k_BAD_FIELD, [](Request& r) { (*r.mutable_labels())["X"] = ""; }},
      {"idle_ttl", Reason::k_BAD_TIMEOUT,
       [](Request& r) { r.mutable_idle_ttl()->set_seconds(-5); }},
      {"idle_ttl", Reason::k_BAD_TIMEOUT,
       [](Request& r) { r.mutable_idle_ttl()->set_seconds(367LL * 86'400); }},
      {"lease", Reason::k_BAD_TIMEOUT, [](Request& r) { r.mutable_lease(); }},
      {"lease", Reason::k_BAD_TIMEOUT, [](Request& r) { r.mutable_lease()->set_nanos(-1); }},
      {"runner", Reason::k_BAD_FIELD, [](Request& r) { r.set_runner(v1::RunnerPolicy(9)); }},
      {"sudo_password", Reason::k_BAD_FIELD, [](Request& r) { r.set_sudo_password("a\nb"); }},
      {"sudo_password", Reason::k_BAD_FIELD, [&](Request& r) { r.set_sudo_password(nul); }},
  };
  for (const BadRow& row : rows) {
    Request request = Good();
    row.spoil(request);
    const absl::Status status = DecodeCreate(std::move(request), {}, 0).status();
    EXPECT_EQ(ReasonOf(status), row.reason) << row.field << ": " << status;
    EXPECT_EQ(MetadataOf(status)["field"], row.field) << status;
  }
}

TEST(DecodeCreateTest, ValuesArriveAsTheyWereSent) {
  Request request = Good();
  request.set_request_id("00112233-4455-6677-8899-AABBCCDDEEFF");
  request.set_cwd("/w");
  (*request.mutable_env())["A"] = "1";
  request.mutable_lease()->set_seconds(60);
  request.mutable_idle_ttl()->set_seconds(5);
  request.set_runner(v1::RUNNER_NEVER);
  request.set_sudo_password("pw");
  request.set_wait_ready(true);
  const auto create = DecodeCreate(request, {}, 12);
  ASSERT_TRUE(create.ok()) << create.status();
  EXPECT_EQ(create->id, "box");
  EXPECT_EQ(create->request_id, "00112233-4455-6677-8899-aabbccddeeff");
  EXPECT_EQ(create->cwd, "/w");
  EXPECT_EQ(create->env, (EnvPairs{{"A", "1"}}));
  EXPECT_EQ(create->lease, 60s);
  EXPECT_EQ(create->idle_ttl, 5s);
  EXPECT_EQ(create->runner, RunnerPolicy::kNever);
  EXPECT_EQ(create->sudo_password, "pw");
  EXPECT_TRUE(create->wait_ready);
  EXPECT_EQ(create->uid, 12u);
}

TEST(DecodeCreateTest, TheDigestLeavesOutIdAndWaiting) {
  Request request = Good();
  const std::string digest = DecodeCreate(request, {}, 0)->digest;
  request.set_request_id("00112233-4455-6677-8899-aabbccddeeff");
  request.set_wait_ready(true);
  EXPECT_EQ(DecodeCreate(request, {}, 0)->digest, digest);
  request.set_cwd("/");
  EXPECT_NE(DecodeCreate(request, {}, 0)->digest, digest);
}

TEST(DecodeUpdateTest, TheMaskSaysWhatChanges) {
  v1::UpdateSessionRequest request;
  request.mutable_session()->set_name("sessions/box");
  request.mutable_session()->mutable_idle_ttl()->set_seconds(5);
  EXPECT_EQ(MetadataOf(DecodeUpdate(request, {}).status())["field"], "update_mask");
  request.mutable_update_mask()->add_paths("labels");
  auto update = DecodeUpdate(request, {});
  ASSERT_TRUE(update.ok());
  EXPECT_EQ(update->labels, Labels());
  EXPECT_FALSE(update->idle_ttl.has_value());
  request.mutable_update_mask()->add_paths("idle_ttl");
  request.mutable_update_mask()->add_paths("sudo_password");
  update = DecodeUpdate(request, {});
  ASSERT_TRUE(update.ok());
  EXPECT_EQ(update->idle_ttl, 5s);
  EXPECT_EQ(update->sudo_password, "");
  for (const char* bad : {"name", "state", "", "labels.x"}) {
    request.mutable_update_mask()->set_paths(0, bad);
    EXPECT_EQ(MetadataOf(DecodeUpdate(request, {}).status())["field"], "update_mask") << bad;
  }
  request.mutable_session()->set_name("box");
  EXPECT_EQ(MetadataOf(DecodeUpdate(request, {}).status())["field"], "session.name");
}

TEST(DecodeSessionTest, SmallRequestsAreChecked) {
  v1::RenewSessionRequest renew;
  renew.set_name("sessions/box");
  EXPECT_EQ(MetadataOf(DecodeRenew(renew, {}).status())["field"], "extend");
  renew.mutable_extend()->set_seconds(10);
  EXPECT_EQ(DecodeRenew(renew, {})->extend, 10s);

  v1::CleanupRequest cleanup;
  cleanup.set_name("sessions/box");
  EXPECT_EQ(DecodeCleanup(cleanup)->grace, 2s);
  cleanup.set_request_id("x");
  EXPECT_EQ(MetadataOf(DecodeCleanup(cleanup).status())["field"], "request_id");
  cleanup.clear_request_id();
  cleanup.mutable_grace()->set_seconds(-1);
  EXPECT_EQ(MetadataOf(DecodeCleanup(cleanup).status())["field"], "grace");

  v1::ListSessionsRequest list;
  list.set_filter("state=READY AND backend=local AND label.a=");
  const auto call = DecodeListSessions(list);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->filter.state, SessionState::kReady);
  EXPECT_EQ(call->filter.backend, "local");
  EXPECT_EQ(call->filter.labels, (Labels{{"a", ""}}));
  EXPECT_EQ(call->page_size, 100u);
  list.set_page_size(1001);
  EXPECT_EQ(MetadataOf(DecodeListSessions(list).status())["field"], "page_size");
  for (const char* bad : {"state=NONE", "name=x", "state=READY AND state=READY"}) {
    EXPECT_EQ(MetadataOf(DecodeSessionFilter(bad).status())["field"], "filter") << bad;
  }
}

}  // namespace
}  // namespace hermes
