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
  explicit Far(Loop& loop) : peer(loop), changed(loop) {}
  PeerSandbox peer;
  Event changed;
  int asked = 0;  // for a runner
  std::optional<absl::Status> verdict = std::nullopt;
};

class FarSandbox : public Sandbox {
 public:
  explicit FarSandbox(std::shared_ptr<Far> far) : far_(std::move(far)) {}
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string, Lane, WishPtr) override {
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
  PlaceOpenerTest() { opener_.Add(std::make_unique<FarBackend>(far_)); }
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
  PlaceOpener opener_{links_, {loop_, clock_, random_}, RunnerPolicy::kAuto};
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
