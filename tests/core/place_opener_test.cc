// Many sessions that are opened at once at one place, where it has to be found out whether a runner
// is there.

#include "daemon/core/place_opener.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "daemon/runtime/event.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "tests/engine/runner_peer.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/go.h"

namespace hermes {
namespace {

constexpr int kSessions = 20;

// The place: a PeerSandbox whose connections wait until the test lets them come.
struct Far {
  explicit Far(Loop& l) : loop(l), peer(l), changed(l) {}
  Loop& loop;
  PeerSandbox peer;
  Event changed;
  int asked = 0;          // for a runner
  std::string said = {};  // by its login shell, which then waits; empty: there is none
  std::optional<absl::Status> verdict = std::nullopt;
};

// Of a login shell that never gets to what it is to run.
class WaitingStream : public Stream {
 public:
  WaitingStream(Loop& loop, std::string said) : changed_(loop), said_(std::move(said)) {}
  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    while (said_.empty() && !over_) co_await changed_.Wait();
    const size_t bytes = said_.copy(into.data(), into.size());
    said_.erase(0, bytes);
    co_return bytes;
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char>) override { co_return 0; }
  Task<absl::Status> Write(std::string_view) override { co_return absl::OkStatus(); }
  void CloseStdin() override {}
  void Abort() override {
    over_ = true;
    changed_.NotifyAll();
  }
  Task<std::optional<End>> WaitEnd() override { co_return std::nullopt; }

 private:
  Event changed_;
  std::string said_;
  bool over_ = false;
};

class FarSandbox : public Sandbox {
 public:
  explicit FarSandbox(std::shared_ptr<Far> far) : far_(std::move(far)) {}
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string, Lane, WishPtr) override {
    if (!far_->said.empty()) {
      co_return std::make_unique<WaitingStream>(far_->loop, far_->said);
    }
    co_return Error(Reason::k_BACKEND_UNREACHABLE, "no streams here");
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr wish) override {
    ++far_->asked;
    const Wish::Ear ear(wish, [this] { far_->changed.NotifyAll(); });
    while (!far_->verdict && !IsWithdrawn(wish)) co_await far_->changed.Wait();
    if (IsWithdrawn(wish)) co_return Error(Reason::k_BACKEND_UNREACHABLE, "given up");
    if (!far_->verdict->ok()) co_return *far_->verdict;
    co_return co_await far_->peer.ConnectRunner(nullptr);
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane, WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "no files here");
  }
  std::string place_key() const override { return "far"; }
  std::string description() const override { return "far away"; }
  std::string handle() const override { return "far"; }
  Task<absl::Status> Close(bool) override { co_return absl::OkStatus(); }

 private:
  std::shared_ptr<Far> far_;
};

class FarBackend : public Backend {
 public:
  explicit FarBackend(std::shared_ptr<Far> far) : far_(std::move(far)) {}
  std::string_view name() const override { return "far"; }
  absl::Status Available() const override { return absl::OkStatus(); }
  Capabilities runner_capabilities() const override { return {}; }
  Capabilities plain_capabilities() const override { return {}; }
  Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Open(SandboxSpec) override {
    co_return std::make_unique<FarSandbox>(far_);
  }
  Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Reattach(SandboxSpec, std::string) override {
    co_return std::make_unique<FarSandbox>(far_);
  }

 private:
  std::shared_ptr<Far> far_;
};

class PlaceOpenerTest : public ::testing::Test {
 protected:
  PlaceOpenerTest() { opener_.Add(std::make_unique<FarBackend>(far_), RunnerPolicy::kAuto); }
  ~PlaceOpenerTest() override {
    opened_.clear();
    auto stopped = Go(Stopped());
    EXPECT_TRUE(stopped->has_value());
  }
  template <typename T>
  Running<T> Go(Task<T> task) {
    return hermes::Go(loop_, std::move(task));
  }
  void Settle() { hermes::Settle(loop_); }
  Task<absl::Status> Stopped() {
    co_await links_.Stop();
    co_return absl::OkStatus();
  }
  void Open(WishPtr wish = nullptr) {
    EngineFactory::Request request;
    request.backend = "far";
    request.session_id = "s" + std::to_string(opened_.size());
    request.wish = std::move(wish);
    opened_.push_back(Go(opener_.Open(std::move(request))));
  }
  void Answer(absl::Status verdict) {
    far_->verdict = std::move(verdict);
    far_->changed.NotifyAll();
    Settle();
  }
  absl::Status Result(const Running<absl::StatusOr<OpenPlace>>& place) {
    return place->has_value() ? (*place)->status() : absl::UnknownError("it has not ended");
  }

  Loop loop_;
  FakeClock clock_{loop_};
  SystemRandom random_;
  std::shared_ptr<Far> far_ = std::make_shared<Far>(loop_);
  RunnerLinks links_{{loop_, clock_, random_, "d"}};
  PlaceOpener opener_{links_, {loop_, clock_, random_}};
  std::vector<Running<absl::StatusOr<OpenPlace>>> opened_;
};

TEST_F(PlaceOpenerTest, OneConnectionServesAllThatComeAtOnceAndTheLinkTakesIt) {
  for (int i = 0; i < kSessions; ++i) Open();
  Answer(absl::OkStatus());
  for (const auto& place : opened_) EXPECT_TRUE(Result(place).ok()) << Result(place);
  Open();
  EXPECT_TRUE(Result(opened_.back()).ok()) << "it is known that a runner is there";
  EXPECT_EQ(far_->asked, 1);
  ASSERT_EQ(far_->peer.peers.size(), 1u);
  auto session = Go((**opened_.back())->engine->Open({.session_id = "s"}));
  EXPECT_EQ(far_->asked, 1) << "the connection that was there is the link's";
  far_->peer.peers.front()->Expect(frames::Type::kHello);
  Open();
  EXPECT_EQ(far_->asked, 1) << "the link is about to be up";
  opened_.clear();
  Settle();
  EXPECT_TRUE(far_->peer.peers.front()->closed());
}

TEST_F(PlaceOpenerTest, AConnectionThatNobodyTakesGoesWithTheSession) {
  Open();
  Answer(absl::OkStatus());
  ASSERT_EQ(far_->peer.peers.size(), 1u);
  EXPECT_FALSE(far_->peer.peers.front()->closed());
  opened_.clear();
  EXPECT_TRUE(far_->peer.peers.front()->closed());
}

TEST_F(PlaceOpenerTest, AFailureIsTheAnswerToAllWhoWaited) {
  for (int i = 0; i < kSessions; ++i) Open();
  Answer(Error(Reason::k_BACKEND_UNREACHABLE, "the host is down"));
  for (const auto& place : opened_) {
    EXPECT_EQ(ReasonOf(Result(place)), Reason::k_BACKEND_UNREACHABLE) << Result(place);
  }
  EXPECT_EQ(far_->asked, 1);
  Open();
  EXPECT_EQ(far_->asked, 2) << "who comes later asks again";
}

// Where the runner failed for the login shell, the other engine fails for the same reason and says
// so: nothing that is worth a retry.
TEST_F(PlaceOpenerTest, ALoginShellThatWaitsIsSaidByTheOtherEngineToo) {
  far_->said = "who are you? ";
  Open();
  Answer(Error(Reason::k_CAPABILITY_MISSING, "the login shell did not run our command"));
  ASSERT_TRUE(Result(opened_.back()).ok());
  auto session = Go((**opened_.back())->engine->Open({.session_id = "s"}));
  clock_.Advance(kPlainOpenLimit - std::chrono::milliseconds(1));
  EXPECT_FALSE(session->has_value());
  clock_.Advance(std::chrono::milliseconds(1));
  ASSERT_TRUE(session->has_value());
  const absl::Status status = (*session)->status();
  EXPECT_EQ(ReasonOf(status), Reason::k_CAPABILITY_MISSING) << status;
  EXPECT_EQ(std::string(status.message()),
            "the place's login shell did not run our command within 30 s: start files that are "
            "slow or wait, or a forced command; it said: who are you? ");
  EXPECT_NE(MetadataOf(status)["next"].find("start files that neither wait nor exit"),
            std::string::npos);
}

TEST_F(PlaceOpenerTest, WhoGivesUpLeavesTheQuestionToTheNext) {
  auto first = std::make_shared<Wish>(), third = std::make_shared<Wish>();
  Open(first);
  Open();
  Open(third);
  Open();
  third->Withdraw();
  Settle();
  EXPECT_FALSE(Result(opened_[2]).ok());
  EXPECT_EQ(far_->asked, 1);
  first->Withdraw();
  Settle();
  EXPECT_EQ(ReasonOf(Result(opened_[0])), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_FALSE(opened_[1]->has_value());
  EXPECT_EQ(far_->asked, 2);
  Answer(absl::OkStatus());
  EXPECT_TRUE(Result(opened_[1]).ok());
  EXPECT_TRUE(Result(opened_[3]).ok());
  EXPECT_EQ(far_->asked, 2);
}

}  // namespace
}  // namespace hermes
