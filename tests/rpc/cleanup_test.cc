// A repeated Cleanup is about the session that the first one closed, whoever has its name by now.

#include <string>

#include <gtest/gtest.h>

#include "tests/rpc/stand.h"

namespace hermes {
namespace {

class CleanupTest : public ::testing::Test {
 protected:
  // The session that it is finished with.
  v1::Session Cleanup(const std::string& request_id) {
    auto stub = v1::SessionService::NewStub(stand_.Connect());
    v1::CleanupRequest request;
    request.set_name("sessions/box");
    request.set_request_id(request_id);
    grpc::ClientContext context;
    auto reader = stub->Cleanup(&context, request);
    v1::CleanupEvent event;
    v1::CleanupEvent last;
    while (reader->Read(&event)) last = event;
    const grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(last.has_finished());
    return last.finished();
  }

  v1::Session Get() {
    auto stub = v1::SessionService::NewStub(stand_.Connect());
    v1::GetSessionRequest request;
    request.set_name("sessions/box");
    grpc::ClientContext context;
    v1::Session session;
    EXPECT_TRUE(stub->GetSession(&context, request, &session).ok());
    return session;
  }

  static std::string Told(const v1::Session& session) {
    return session.name() + " of " + session.create_time().ShortDebugString();
  }

  Stand stand_;
};

constexpr char kFirst[] = "00112233-4455-6677-8899-aabbccddeeff";
constexpr char kSecond[] = "00112233-4455-6677-8899-aabbccddee00";

TEST_F(CleanupTest, ThatIsRepeatedLeavesALaterSessionOfTheNameAlone) {
  stand_.Session("box");
  const v1::Session closed = Cleanup(kFirst);
  EXPECT_EQ(closed.state(), v1::Session::CLOSED);
  EXPECT_EQ(Told(Cleanup(kFirst)), Told(closed));
  stand_.Session("box");
  for (int daemon = 0; daemon < 2; ++daemon) {
    const v1::Session again = Cleanup(kFirst);
    EXPECT_EQ(Told(again), Told(closed));
    EXPECT_EQ(again.state(), v1::Session::CLOSED);
    EXPECT_EQ(Get().state(), v1::Session::READY);
    EXPECT_NE(Told(Get()), Told(closed));
    stand_.Restart();
  }
  EXPECT_NE(Told(Cleanup(kSecond)), Told(closed));
  EXPECT_EQ(Get().state(), v1::Session::CLOSED);
}

}  // namespace
}  // namespace hermes
