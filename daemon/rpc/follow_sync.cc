#include "daemon/rpc/follow_sync.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "daemon/rpc/encode.h"
#include "daemon/rpc/encode_sync.h"

namespace hermes {
namespace {

constexpr size_t kEntriesBytes = 64 << 10;  // of one message; the last entry may go beyond

class Watcher {
 public:
  explicit Watcher(SyncJob& job) : job_(job) { job_.AddWatcher(); }
  ~Watcher() { job_.RemoveWatcher(); }
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

 private:
  SyncJob& job_;
};

class SyncFollower {
 public:
  SyncFollower(Clock& clock, std::shared_ptr<Call> call, std::shared_ptr<SyncJob> job)
      : clock_(clock), call_(std::move(call)), job_(std::move(job)) {}

  Task<absl::Status> Run() {
    Watcher watcher(*job_);
    call_->OnStop([job = job_] { job->changed().NotifyAll(); });
    Encode(job_->info(), event_.mutable_started());
    bool taken = co_await Send();
    while (taken && !call_->stopped()) {
      if (TakeNext()) {
        taken = co_await Send();
      } else if (job_->ended()) {
        SetLast();
        co_return absl::OkStatus();
      } else {
        co_await WaitForChange();
      }
    }
    co_return call_->stopped() ? call_->StopStatus() : absl::CancelledError("the client is gone");
  }

 private:
  Task<bool> Send() {
    EncodeTime(clock_.NowWall(), event_.mutable_time());
    const bool taken = co_await call_->Write(event_);
    sent_at_ = clock_.Now();
    co_return taken;
  }

  void SetLast() {
    EncodeTime(clock_.NowWall(), event_.mutable_time());
    Encode(job_->info(), event_.mutable_finished());
    call_->SetLast(event_);  // goes out with the final status, in one piece
  }

  // What is to be told now, as event_. Of one that has ended only entries are: `finished` says the
  // rest.
  bool TakeNext() {
    event_.Clear();
    const bool running = !job_->ended();
    if (running && job_->phase() != phase_) {
      phase_ = job_->phase();
      event_.mutable_phase()->set_name(phase_);
    } else if (running && ProgressIsNew() && clock_.Now() >= ProgressDue()) {
      progress_ = job_->info().progress;
      progress_at_ = clock_.Now();
      Encode(progress_, event_.mutable_progress());
    } else if (entries_ < job_->entries().size()) {
      TakeEntries();
    } else if (running && clock_.Now() >= sent_at_ + kSyncBeatInterval) {
      event_.mutable_beat();
    }
    return event_.event_case() != v1::SyncEvent::EVENT_NOT_SET;
  }

  // Many at once: a message each would cost more than most files.
  void TakeEntries() {
    size_t bytes = 0;
    while (entries_ < job_->entries().size() && bytes < kEntriesBytes) {
      v1::SyncEntry& entry = *event_.mutable_entries()->add_entries();
      Encode(job_->entries()[entries_++], &entry);
      bytes += entry.ByteSizeLong();
    }
  }

  bool ProgressIsNew() const { return job_->info().progress != progress_; }
  SteadyTime ProgressDue() const {
    return progress_at_ ? *progress_at_ + kProgressInterval : SteadyTime::min();
  }

  Task<void> WaitForChange() {
    SteadyTime until = sent_at_ + kSyncBeatInterval;
    if (ProgressIsNew()) until = std::min(until, ProgressDue());
    auto alarm = clock_.At(until, [job = job_] { job->changed().NotifyAll(); });
    co_await job_->changed().Wait();
  }

  Clock& clock_;
  const std::shared_ptr<Call> call_;
  const std::shared_ptr<SyncJob> job_;
  v1::SyncEvent event_;
  SteadyTime sent_at_;
  // What was told last.
  size_t entries_ = 0;
  std::string phase_;
  sync::SyncProgress progress_;
  std::optional<SteadyTime> progress_at_;
};

}  // namespace

Task<absl::Status> FollowSync(Clock& clock, std::shared_ptr<Call> call,
                              std::shared_ptr<SyncJob> job) {
  SyncFollower follower(clock, std::move(call), std::move(job));
  co_return co_await follower.Run();
}

}  // namespace hermes
