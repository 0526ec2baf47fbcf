#include "backends/runner/loop.h"

#include <errno.h>
#include <stdlib.h>

#include <utility>

namespace hermes::runner {

void Source::Open(Fd fd, uint32_t interest) {
  Close();
  fd_ = std::move(fd);
  Watch(interest);
}

void Source::Watch(uint32_t interest) {
  if (!open() || (watched_ && interest == interest_)) return;
  epoll_event event{};
  event.events = interest;
  event.data.ptr = this;
  epoll_ctl(loop_.epoll_.get(), watched_ ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd(), &event);
  watched_ = true;
  interest_ = interest;
}

void Source::Pause() {
  if (!watched_) return;
  epoll_ctl(loop_.epoll_.get(), EPOLL_CTL_DEL, fd(), nullptr);
  watched_ = false;
  loop_.Forget(*this);
}

Fd Source::Release() {
  Pause();
  return std::move(fd_);
}

void Source::Close() {
  Pause();
  fd_.Reset();
}

void Timer::ArmAt(int64_t when_us) {
  Cancel();
  when_us_ = when_us;
  loop_.timers_.emplace(when_us, this);
}

void Timer::Cancel() {
  if (when_us_ == 0) return;
  auto [at, end] = loop_.timers_.equal_range(when_us_);
  while (at != end && at->second != this) ++at;
  if (at != end) loop_.timers_.erase(at);
  when_us_ = 0;
}

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_.valid()) Die();
}

void Loop::Run(BatchEnd& batch_end) {
  running_ = true;
  while (running_) {
    int count = epoll_wait(epoll_.get(), events_, kBatch, WaitMs());
    count_ = count < 0 ? 0 : count;
    for (next_ = 0; next_ < count_;) {
      epoll_event event = events_[next_++];
      if (event.data.ptr == nullptr) continue;
      auto* source = static_cast<Source*>(event.data.ptr);
      source->handler_.OnReady(*source, event.events);
    }
    count_ = 0;
    FireTimers();
    batch_end.OnBatchEnd();
  }
}

int Loop::WaitMs() const {
  if (timers_.empty()) return -1;
  int64_t left_us = timers_.begin()->first - NowUs();
  if (left_us <= 0) return 0;
  constexpr int64_t kLongestMs = 3'600'000;
  int64_t left_ms = (left_us + 999) / 1000;
  return static_cast<int>(left_ms < kLongestMs ? left_ms : kLongestMs);
}

void Loop::FireTimers() {
  int64_t now = NowUs();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    Timer* timer = timers_.begin()->second;
    timers_.erase(timers_.begin());
    timer->when_us_ = 0;
    timer->handler_.OnTimer(*timer);
  }
}

void Loop::Forget(const Source& source) {
  for (int i = next_; i < count_; ++i)
    if (events_[i].data.ptr == &source) events_[i].data.ptr = nullptr;
}

}  // namespace hermes::runner
