#include "tests/fakes/fake_clock.h"

#include <algorithm>

#include "daemon/runtime/check.h"

namespace hermes {
namespace {

// Far from zero, so that nobody takes an unset time for a time.
constexpr SteadyTime kSteadyStart{std::chrono::hours(1000)};
constexpr WallTime kWallStart{std::chrono::hours(24 * 365 * 50)};

}  // namespace

class FakeClock::Handle : public Clock::Alarm {
 public:
  Handle(std::weak_ptr<Alarms> alarms, Key key) : alarms_(std::move(alarms)), key_(key) {}
  ~Handle() override {
    // Out of the map first: what dies with the callback may arm or cancel others.
    std::shared_ptr<Alarms> alarms = alarms_.lock();
    if (alarms != nullptr) static_cast<void>(alarms->extract(key_));
  }

 private:
  std::weak_ptr<Alarms> alarms_;
  Key key_;
};

SteadyTime FakeClock::Now() const { return kSteadyStart + Duration(passed_ns_.load()); }

WallTime FakeClock::NowWall() const { return kWallStart + Duration(passed_ns_.load()); }

std::unique_ptr<Clock::Alarm> FakeClock::At(SteadyTime when, absl::AnyInvocable<void()> due) {
  const Key key{when, armed_++};
  alarms_->emplace(key, std::move(due));
  if (when <= Now()) PostFire(key);
  return std::make_unique<Handle>(alarms_, key);
}

// Looks the alarm up when its turn comes: it may have been cancelled, or run, by then.
void FakeClock::PostFire(Key key) {
  loop_.Post([alarms = std::weak_ptr<Alarms>(alarms_), key] {
    std::shared_ptr<Alarms> live = alarms.lock();
    if (live == nullptr) return;
    auto node = live->extract(key);
    if (!node.empty()) node.mapped()();
  });
}

bool FakeClock::PostNext() {
  if (alarms_->empty()) return false;
  const Key next = alarms_->begin()->first;
  const int64_t at_ns = (next.first - kSteadyStart).count();
  passed_ns_.store(std::max(passed_ns_.load(), at_ns));
  PostFire(next);
  return true;
}

void FakeClock::RunNext() {
  PostNext();
  loop_.RunReady();
}

void FakeClock::Advance(Duration duration) {
  CHECK(duration >= Duration::zero());
  const SteadyTime end = Now() + duration;
  loop_.RunReady();
  while (!alarms_->empty() && alarms_->begin()->first.first <= end) RunNext();
  passed_ns_.store((end - kSteadyStart).count());
}

bool FakeClock::AdvanceToNext() {
  loop_.RunReady();
  if (alarms_->empty()) return false;
  RunNext();
  return true;
}

}  // namespace hermes
