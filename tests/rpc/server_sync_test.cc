// SyncService over a real socket. The place of these sessions has no files, so a sync that begins
// also fails; what moves when one can is e2e's.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "hermes/v1/sync.grpc.pb.h"
#include "tests/rpc/stand.h"

namespace hermes {
namespace {

class SyncServerTest : public ::testing::Test {
 protected:
  struct Told {
    std::vector<v1::SyncEvent> events;
    grpc::Status status;
    bool finished() const { return !events.empty() && events.back().has_finished(); }
    const v1::SyncJob& job() const { return events.back().finished(); }
  };

  v1::Session Create(const std::string& id) {
    v1::CreateSessionRequest request;
    request.set_session_id(id);
    request.set_backend("fake");
    request.set_wait_ready(true);
    v1::Mount& mount = *request.add_mounts();
    mount.set_host_root(host_.path("host"));
    mount.set_remote_root("/far");
    grpc::ClientContext context;
    v1::Session session;
    const grpc::Status status =
        v1::SessionService::NewStub(channel_)->CreateSession(&context, request, &session);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return session;
  }

  Told SyncBack(const v1::SyncBackRequest& request) {
    Told told;
    grpc::ClientContext context;
    auto reader = syncs_->SyncBack(&context, request);
    v1::SyncEvent event;
    while (reader->Read(&event)) told.events.push_back(event);
    told.status = reader->Finish();
    return told;
  }

  static v1::SyncBackRequest Of(const std::string& session) {
    v1::SyncBackRequest request;
    request.set_session("sessions/" + session);
    return request;
  }

  v1::ListSyncsResponse List(int page_size, const std::string& token) {
    v1::ListSyncsRequest request;
    request.set_parent("sessions/m");
    request.set_page_size(page_size);
    request.set_page_token(token);
    grpc::ClientContext context;
    v1::ListSyncsResponse response;
    const grpc::Status status = syncs_->ListSyncs(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  Scratch host_;
  Stand stand_;
  std::shared_ptr<grpc::Channel> channel_ = stand_.Connect();
  std::unique_ptr<v1::SyncService::Stub> syncs_ = v1::SyncService::NewStub(channel_);
};

TEST_F(SyncServerTest, WhatCannotBeginIsAnErrorOfTheCall) {
  stand_.Session("s");
  EXPECT_EQ(ReasonOf(SyncBack(Of("s")).status), "CAPABILITY_MISSING");
  EXPECT_EQ(ReasonOf(SyncBack(Of("nobody")).status), "SESSION_UNKNOWN");
  EXPECT_EQ(ReasonOf(SyncBack({}).status), "BAD_NAME");
  grpc::ClientContext context;
  v1::GetSyncRequest get;
  get.set_name("sessions/s/syncs/nothing");
  v1::SyncJob job;
  EXPECT_EQ(ReasonOf(syncs_->GetSync(&context, get, &job)), "SYNC_UNKNOWN");
}

TEST_F(SyncServerTest, ASyncThatFailsSaysSoInItsLastEvent) {
  std::filesystem::create_directory(host_.path("host"));
  const v1::Session session = Create("m");
  ASSERT_EQ(session.mounts_size(), 1);
  EXPECT_EQ(session.mounts(0).host_root(), host_.path("host"));
  const Told told = SyncBack(Of("m"));
  EXPECT_TRUE(told.status.ok()) << told.status.error_message();
  ASSERT_TRUE(told.finished());
  EXPECT_TRUE(told.events.front().has_started());
  EXPECT_EQ(told.job().state(), v1::SyncJob::FAILED);
  EXPECT_EQ(told.job().reason(), "CAPABILITY_MISSING");
  grpc::ClientContext context;
  v1::GetSyncRequest get;
  get.set_name(told.job().name());
  v1::SyncJob job;
  ASSERT_TRUE(syncs_->GetSync(&context, get, &job).ok());
  EXPECT_EQ(job.state(), v1::SyncJob::FAILED);
}

TEST_F(SyncServerTest, TheSameRequestFollowsTheFirstSync) {
  std::filesystem::create_directory(host_.path("host"));
  Create("m");
  v1::SyncBackRequest request = Of("m");
  request.set_request_id("00112233-4455-6677-8899-aabbccddeeff");
  const Told first = SyncBack(request);
  ASSERT_TRUE(first.finished()) << first.status.error_message();
  const Told again = SyncBack(request);
  ASSERT_TRUE(again.finished()) << again.status.error_message();
  EXPECT_EQ(again.job().name(), first.job().name());
  request.set_salvage(true);
  EXPECT_EQ(ReasonOf(SyncBack(request).status), "REQUEST_ID_REUSED");
}

TEST_F(SyncServerTest, ListsArePagedNewestFirst) {
  std::filesystem::create_directory(host_.path("host"));
  Create("m");
  std::vector<std::string> names;
  for (int i = 0; i < 5; ++i) names.push_back(SyncBack(Of("m")).job().name());
  std::vector<std::string> listed;
  std::string token;
  do {
    const v1::ListSyncsResponse page = List(2, token);
    EXPECT_LE(page.syncs_size(), 2);
    for (const v1::SyncJob& job : page.syncs()) listed.push_back(job.name());
    token = page.next_page_token();
  } while (!token.empty());
  EXPECT_EQ(listed, std::vector<std::string>(names.rbegin(), names.rend()));
}

TEST_F(SyncServerTest, ACleanupTellsHowBringingBackWentAndIsRefused) {
  std::filesystem::create_directory(host_.path("host"));
  Create("m");
  v1::CleanupRequest request;
  request.set_name("sessions/m");
  const auto cleanup = [&](std::vector<v1::CleanupEvent>* events) {
    grpc::ClientContext context;
    auto reader = v1::SessionService::NewStub(channel_)->Cleanup(&context, request);
    v1::CleanupEvent event;
    while (reader->Read(&event)) events->push_back(event);
    return reader->Finish();
  };
  std::vector<v1::CleanupEvent> events;
  EXPECT_EQ(ReasonOf(cleanup(&events)), "PULL_PENDING");
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].phase().name(), "syncing");
  EXPECT_EQ(events[1].sync().kind(), v1::SyncJob::PULL);
  EXPECT_EQ(events[1].sync().state(), v1::SyncJob::FAILED);
  request.set_discard(true);
  events.clear();
  EXPECT_TRUE(cleanup(&events).ok());
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().finished().state(), v1::Session::CLOSED);
}

TEST_F(SyncServerTest, HostRootsThatCannotBeAreRefusedByTheirPlace) {
  v1::CreateSessionRequest request;
  request.set_session_id("m");
  request.set_backend("fake");
  v1::Mount& mount = *request.add_mounts();
  mount.set_host_root(host_.path("no/such"));
  mount.set_remote_root("/far");
  grpc::ClientContext context;
  v1::Session session;
  const grpc::Status status =
      v1::SessionService::NewStub(channel_)->CreateSession(&context, request, &session);
  EXPECT_EQ(ReasonOf(status), "BAD_FIELD");
  EXPECT_EQ(MetadataOf(status, "field"), "mounts[0].host_root");
}

}  // namespace
}  // namespace hermes
