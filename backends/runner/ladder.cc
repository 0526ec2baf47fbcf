#include "backends/runner/ladder.h"

#include <errno.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "backends/runner/sys.h"
#include "backends/runner/tree.h"

namespace hermes::runner {
namespace {
constexpr int64_t kWalkEveryUs = 10'000;
constexpr int64_t kMostGracePauseUs =
    160'000;                              // walks of the grace start at kWalkEveryUs and double
constexpr int64_t kGiveUpUs = 5'000'000;  // then what is left is reported as survivors
constexpr int kQuietWalks = 2;
constexpr size_t kMaxPids = 16;  // named in a report
}  // namespace

void Ladder::Begin(uint32_t grace_ms, const std::vector<pid_t>& spared) {
  int64_t kill_us = NowUs() + int64_t{grace_ms} * 1000;
  if (active()) {
    if (phase_ == Phase::kGrace) kill_us_ = std::min(kill_us_, kill_us);
    next_us_ = std::min(next_us_, kill_us);
    return;
  }
  Restart();
  if (grace_ms == 0) return BeginKill(spared);
  phase_ = Phase::kGrace;
  kill_us_ = kill_us;
  walk_pause_us_ = kWalkEveryUs;
  Terminate(spared);
}

void Ladder::Step(const std::vector<pid_t>& spared) {
  if (!active() || NowUs() < next_us_) return;
  if (phase_ == Phase::kKill) return KillOnce(spared);
  if (NowUs() >= kill_us_) return BeginKill(spared);
  Terminate(spared);
}

void Ladder::Restart() {
  std::set<pid_t> outlived = std::move(outlived_);
  *this = Ladder(root_);
  outlived_ = std::move(outlived);
}

void Ladder::Gone() {
  if (active()) Finish({});
}

// Once for each process: what a dying tree forked behind our back must not cost the whole grace.
void Ladder::Terminate(const std::vector<pid_t>& spared) {
  std::vector<pid_t> found = Descendants(root_, spared);
  size_t hopeless = 0;
  for (pid_t pid : found) {
    if (signalled_.contains(pid)) continue;
    if (Signal(pid, SIGTERM)) {
      Signal(pid, SIGCONT);  // a stopped one acts on TERM only when it runs
    } else if (outlived_.contains(pid)) {
      ++hopeless;
    }
  }
  if (!found.empty() && hopeless == found.size()) kill_us_ = NowUs();
  next_us_ = std::min(kill_us_, NowUs() + walk_pause_us_);
  walk_pause_us_ = std::min(2 * walk_pause_us_, kMostGracePauseUs);
}

void Ladder::BeginKill(const std::vector<pid_t>& spared) {
  phase_ = Phase::kKill;
  give_up_us_ = NowUs() + kGiveUpUs;
  KillOnce(spared);
}

// Stopping all before killing any: a tree that forks cannot outrun the walk.
void Ladder::KillOnce(const std::vector<pid_t>& spared) {
  std::vector<pid_t> found = Descendants(root_, spared);
  bool any = false;
  for (pid_t pid : found) any |= Signal(pid, SIGSTOP);
  for (pid_t pid : found) Signal(pid, SIGKILL);
  quiet_walks_ = any ? 0 : quiet_walks_ + 1;
  if (quiet_walks_ >= kQuietWalks || NowUs() >= give_up_us_) return Finish(found);
  // The second of two quiet walks need not wait: nothing was signalled that has to die first.
  next_us_ = any ? NowUs() + kWalkEveryUs : NowUs();
}

void Ladder::Finish(const std::vector<pid_t>& left) {
  phase_ = Phase::kDone;
  report_.signalled = static_cast<uint32_t>(signalled_.size());
  report_.survivors = static_cast<uint32_t>(left.size());
  report_.verified = LookUp(root_) ? 1 : 0;  // without /proc no walk proves anything
  outlived_ = {left.begin(), left.end()};
  for (pid_t pid : left)
    if (report_.pids.size() < kMaxPids) report_.pids.push_back(static_cast<uint32_t>(pid));
}

bool Ladder::Signal(pid_t pid, int signal) {
  if (kill(pid, signal) != 0) return false;
  signalled_.insert(pid);
  return true;
}

}  // namespace hermes::runner
