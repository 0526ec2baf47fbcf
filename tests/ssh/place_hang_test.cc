// Accounts whose start files wait for somebody: both engines say so in time, with what was printed
// until then and what to do.

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/engine/plain_engine.h"
#include "daemon/runtime/status.h"
#include "tests/ssh/place_stand.h"

namespace hermes {
namespace {

using contract::RunPtr;
using contract::TestSession;
using testing::HasSubstr;

// Long enough for a shell to start and say a word.
constexpr Duration kLimit = std::chrono::seconds(2);

class PlaceHang : public PlaceStand {
 protected:
  // Of one session with each engine, at the same time.
  void ExpectSaid(const std::string& said) {
    place_limit_ = kLimit;
    SandboxSpec spec{.session_id = "s"};
    contract::World& here = world();
    here.place.where(spec);
    auto one = here.Await(here.backend->Open(spec)), other = here.Await(here.backend->Open(spec));
    ASSERT_TRUE(one.ok() && other.ok());
    auto engine = MakePlainEngine(
        {here.loop, here.clock, here.random, kLimit},
        {std::shared_ptr<Sandbox>(*std::move(one)), here.backend->plain_capabilities(), "test"});
    std::optional<absl::Status> plain;
    asio::co_spawn(here.loop.executor(), engine->Open({.session_id = "s"}),
                   [&](std::exception_ptr, absl::StatusOr<SessionFacts> facts) {
                     plain = facts.status();
                     here.Poke();
                   });
    const absl::Status runner = here.Await((*other)->ConnectRunner(nullptr)).status();
    ASSERT_TRUE(here.Until([&] { return plain.has_value(); }));
    for (const absl::Status& status : {runner, *plain}) {
      EXPECT_EQ(ReasonOf(status), Reason::k_CAPABILITY_MISSING) << status;
      const std::string text(status.message());
      EXPECT_THAT(text, HasSubstr("login shell did not run our command within 2 s: start files"));
      EXPECT_THAT(text, HasSubstr(said));
      EXPECT_THAT(MetadataOf(status)["next"], HasSubstr("start files that neither wait nor exit"));
    }
    account().KillProcesses();
  }
};

TEST_F(PlaceHang, StartFilesThatWaitAreSaid) {
  MakeAccount();
  account().WriteHomeFile(".bashrc", "printf 'Who are you? '\nsleep 1000\n");
  Serve();
  ExpectSaid("it said: Who are you?");
}

// What only a login shell reads is asked for when a session opens: it opens without, and nothing
// goes on waiting over there.
TEST_F(PlaceHang, AProfileThatWaitsIsPassedOverAndEnded) {
  MakeAccount();
  account().WriteHomeFile(".profile", "export FROM_PROFILE=x\nsleep 1000\n");
  Serve();
  contract::World& here = world();
  SandboxSpec spec{.session_id = "s"};
  here.place.where(spec);
  std::unique_ptr<Sandbox> sandbox = *here.Await(here.backend->Open(spec));
  auto engine = MakePlainEngine(
      {here.loop, here.clock, here.random},
      {std::shared_ptr<Sandbox>(std::move(sandbox)), here.backend->plain_capabilities(), "test"});
  std::optional<absl::Status> plain;
  asio::co_spawn(here.loop.executor(), engine->Open({.session_id = "s"}),
                 [&](std::exception_ptr, absl::StatusOr<SessionFacts> facts) {
                   plain = facts.status();
                   here.Poke();
                 });
  TestSession& session = Open("runner");
  const RunPtr run = here.Run(session, std::string("echo in$FROM_PROFILE"));
  EXPECT_EQ(run->out, "in\n");
  ASSERT_TRUE(here.Until([&] { return plain.has_value(); }, kLongPatience));
  EXPECT_TRUE(plain->ok()) << *plain;
  const auto waits = [](pid_t pid) {
    ProcessFacts facts;
    return ReadProcess(pid, &facts) && facts.name == "sleep";
  };
  EXPECT_TRUE(Eventually([&] {
    const std::vector<pid_t> there = account().Processes();
    return std::none_of(there.begin(), there.end(), waits);
  })) << "one waits for ever";
}

TEST_F(PlaceHang, AForcedCommandThatWaitsIsSaid) {
  Serve({"ForceCommand sleep 1000"});
  ExpectSaid("it said nothing");
}

}  // namespace
}  // namespace hermes
