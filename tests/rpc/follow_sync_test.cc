// Readers of a sync, on a fake clock: the job is played by the test, the call is a list.

#include "daemon/rpc/follow_sync.h"

#include <chrono>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "daemon/runtime/status.h"
#include "hermes/v1/sync.pb.h"
#include "tests/fakes/fake_clock.h"

namespace hermes {
namespace {

using namespace std::chrono_literals;

class ListCall : public Call {
 public:
  explicit ListCall(Loop& loop) : Call(Method::kSyncBack, Caller{}), changed_(loop) {}

  Task<std::unique_ptr<Incoming>> Read() override { co_return nullptr; }
  Task<bool> Write(const google::protobuf::Message& message) override {
    events.push_back(dynamic_cast<const v1::SyncEvent&>(message));
    while (stuck && !stopped()) co_await changed_.Wait();
    co_return !stopped();
  }
  Task<bool> WriteParts(std::string, std::string) override { co_return false; }
  void SetLast(const google::protobuf::Message& message) override {
    last = dynamic_cast<const v1::SyncEvent&>(message);
  }

  void End(Stop why) {
    StopFor(why);
    changed_.NotifyAll();
  }
  void Release() {
    stuck = false;
    changed_.NotifyAll();
  }

  bool stuck = false;  // the client reads nothing
  std::vector<v1::SyncEvent> events;
  v1::SyncEvent last;

 private:
  Event changed_;
};

class FollowSyncTest : public testing::Test {
 protected:
  struct Reader {
    std::shared_ptr<ListCall> call;
    std::optional<absl::Status> status;
  };

  std::shared_ptr<Reader> Follow(bool stuck = false) {
    auto reader = std::make_shared<Reader>();
    reader->call = std::make_shared<ListCall>(loop_);
    reader->call->stuck = stuck;
    asio::co_spawn(loop_.executor(), FollowSync(clock_, reader->call, job_),
                   [reader](std::exception_ptr escaped, absl::Status status) {
                     EXPECT_EQ(escaped, nullptr);
                     reader->status = std::move(status);
                   });
    Pass(0ms);
    return reader;
  }

  void Pass(Duration time) { clock_.Advance(time); }

  void AddEntries(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      job_->OnEntry({.mount = "m", .path = std::to_string(next_++)});
    }
  }
  void EndJob() {
    SyncInfo info = job_->info();
    info.state = SyncState::kDone;
    job_->End(std::move(info));
    Pass(0ms);
  }
  static size_t Count(const Reader& reader, v1::SyncEvent::EventCase kind) {
    size_t count = 0;
    for (const v1::SyncEvent& event : reader.call->events) count += event.event_case() == kind;
    return count;
  }
  // Every entry so far, in order, and none twice.
  static size_t EntriesInOrder(const Reader& reader) {
    size_t next = 0;
    for (const v1::SyncEvent& event : reader.call->events) {
      EXPECT_LE(event.ByteSizeLong(), 128u << 10);
      for (const v1::SyncEntry& entry : event.entries().entries())
        EXPECT_EQ(entry.path(), std::to_string(next++));
    }
    return next;
  }

  Loop loop_;
  FakeClock clock_{loop_};
  std::shared_ptr<SyncJob> job_ =
      std::make_shared<SyncJob>(loop_, SyncInfo{.session_id = "box", .id = "s1"});
  size_t next_ = 0;
};

TEST_F(FollowSyncTest, TellsTheStartThenWhatHappensAndTheEndLast) {
  auto reader = Follow();
  job_->OnPhase("comparing");
  Pass(0ms);
  AddEntries(3);
  Pass(0ms);
  job_->OnPhase("landing");
  Pass(0ms);
  EXPECT_FALSE(reader->status.has_value());
  EndJob();
  ASSERT_TRUE(reader->status.has_value());
  EXPECT_TRUE(reader->status->ok());
  const auto& events = reader->call->events;
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].started().name(), "sessions/box/syncs/s1");
  EXPECT_EQ(events[0].started().state(), v1::SyncJob::RUNNING);
  EXPECT_EQ(events[1].phase().name(), "comparing");
  EXPECT_EQ(EntriesInOrder(*reader), 3u);
  EXPECT_EQ(events[3].phase().name(), "landing");
  EXPECT_EQ(reader->call->last.finished().state(), v1::SyncJob::DONE);
  EXPECT_EQ(reader->call->last.finished().entries_total(), 3u);
}

TEST_F(FollowSyncTest, AReaderThatComesAfterTheEndGetsEverything) {
  AddEntries(5);
  EndJob();
  auto reader = Follow();
  ASSERT_TRUE(reader->status.has_value());
  EXPECT_TRUE(reader->status->ok());
  EXPECT_EQ(EntriesInOrder(*reader), 5u);
  EXPECT_TRUE(reader->call->last.has_finished());
}

TEST_F(FollowSyncTest, LongEntriesAreToldInSeveralMessages) {
  constexpr int kLong = 100;
  for (int i = 0; i < kLong; ++i)
    job_->OnEntry({.mount = "m", .path = std::string(4000, 'x'), .note = std::to_string(i)});
  EndJob();
  auto reader = Follow();
  int next = 0;
  for (const v1::SyncEvent& event : reader->call->events) {
    EXPECT_LE(event.ByteSizeLong(), 128u << 10);
    for (const v1::SyncEntry& entry : event.entries().entries())
      EXPECT_EQ(entry.note(), std::to_string(next++));
  }
  EXPECT_EQ(next, kLong);
  EXPECT_LE(Count(*reader, v1::SyncEvent::kEntries), 8u);
}

TEST_F(FollowSyncTest, ProgressIsToldTenTimesASecondAtMostAndTheNewestIsNotForgotten) {
  auto reader = Follow();
  for (uint64_t i = 1; i <= 100; ++i) {
    job_->OnProgress({.files_done = i, .files_total = 100});
    Pass(10ms);
  }
  Pass(100ms);
  const size_t told = Count(*reader, v1::SyncEvent::kProgress);
  EXPECT_GE(told, 10u);
  EXPECT_LE(told, 12u);
  EXPECT_EQ(reader->call->events.back().progress().files_done(), 100u);
  Pass(5s);
  EXPECT_EQ(Count(*reader, v1::SyncEvent::kProgress), told) << "nothing new to tell";
  EndJob();
}

TEST_F(FollowSyncTest, ASlowReaderCostsOneMessageAndMissesNoEntry) {
  auto slow = Follow(true);
  auto quick = Follow();
  for (int i = 0; i < 100; ++i) {
    AddEntries(10);
    job_->OnProgress({.files_done = next_});
    job_->OnPhase("phase " + std::to_string(i));
    Pass(100ms);
  }
  EXPECT_EQ(EntriesInOrder(*quick), 1000u);
  EXPECT_EQ(slow->call->events.size(), 1u);
  slow->call->Release();
  Pass(0ms);
  EXPECT_EQ(EntriesInOrder(*slow), 1000u);
  EXPECT_EQ(Count(*slow, v1::SyncEvent::kProgress), 1u);
  EXPECT_EQ(Count(*slow, v1::SyncEvent::kPhase), 1u);
  EndJob();
  EXPECT_TRUE(slow->status->ok() && quick->status->ok());
}

TEST_F(FollowSyncTest, BeatsWhileNothingHappens) {
  auto reader = Follow();
  Pass(kSyncBeatInterval - 1ms);
  EXPECT_EQ(Count(*reader, v1::SyncEvent::kBeat), 0u);
  Pass(1ms);
  EXPECT_EQ(Count(*reader, v1::SyncEvent::kBeat), 1u);
  AddEntries(1);
  Pass(kSyncBeatInterval - 1ms);
  EXPECT_EQ(Count(*reader, v1::SyncEvent::kBeat), 1u) << "an entry is a sign of life, too";
  Pass(1ms);
  EXPECT_EQ(Count(*reader, v1::SyncEvent::kBeat), 2u);
  EndJob();
}

TEST_F(FollowSyncTest, EntriesBeyondTheLimitAreOnlyCounted) {
  AddEntries(kMaxSyncEntries + 5);
  EndJob();
  auto reader = Follow();
  EXPECT_EQ(EntriesInOrder(*reader), kMaxSyncEntries);
  EXPECT_EQ(reader->call->last.finished().entries_total(), kMaxSyncEntries + 5);
}

TEST_F(FollowSyncTest, TheLastClientThatGoesWithdrawsTheSync) {
  auto one = Follow();
  auto two = Follow(true);
  one->call->End(Call::Stop::kGone);
  Pass(0ms);
  ASSERT_TRUE(one->status.has_value());
  EXPECT_TRUE(absl::IsCancelled(*one->status));
  EXPECT_FALSE(job_->wish()->withdrawn());
  two->call->End(Call::Stop::kGone);  // in the midst of a message
  Pass(0ms);
  EXPECT_TRUE(absl::IsCancelled(*two->status));
  EXPECT_TRUE(job_->wish()->withdrawn());
}

TEST_F(FollowSyncTest, AClientThatIsGoneBeforeTheFirstMessageWithdrawsTheSync) {
  auto call = std::make_shared<ListCall>(loop_);
  call->End(Call::Stop::kGone);
  std::optional<absl::Status> status;
  asio::co_spawn(loop_.executor(), FollowSync(clock_, call, job_),
                 [&](std::exception_ptr, absl::Status s) { status = std::move(s); });
  Pass(0ms);
  ASSERT_TRUE(status.has_value());
  EXPECT_TRUE(absl::IsCancelled(*status));
  EXPECT_TRUE(job_->wish()->withdrawn());
}

TEST_F(FollowSyncTest, ADrainEndsTheStreamAndSaysSo) {
  auto reader = Follow();
  reader->call->End(Call::Stop::kDraining);
  Pass(0ms);
  ASSERT_TRUE(reader->status.has_value());
  EXPECT_EQ(ReasonOf(*reader->status), Reason::k_DRAINING);
  EXPECT_FALSE(reader->call->last.has_finished());
}

}  // namespace
}  // namespace hermes
