#pragma once

// The kill ladder for everything below one process: TERM (and CONT), a grace in which walks give
// the same to whatever is forked meanwhile, then STOP and KILL in repeated walks until two in a row
// find nothing. Who may not be signalled and has outlived one ladder gets no second grace. Driven
// by its owner: call Step at next_us(), and Gone as soon as waitpid proves that nothing is left.
// Owned by a supervisor for its command, or by the runner for the orphans of a supervisor that
// died.

#include <stdint.h>
#include <sys/types.h>

#include <set>
#include <vector>

#include "backends/engine/frames.h"

namespace hermes::runner {

class Ladder {
 public:
  explicit Ladder(pid_t root) : root_(root) {}

  // Starts, or shortens the grace of the one under way. With grace 0 there is no TERM. `spared`:
  // children of the root that are left alone with all that is below them; sorted.
  void Begin(uint32_t grace_ms, const std::vector<pid_t>& spared);
  void Step(const std::vector<pid_t>& spared);
  void Gone();  // nothing is below the root any more, known for sure

  bool active() const { return phase_ == Phase::kGrace || phase_ == Phase::kKill; }
  bool done() const { return phase_ == Phase::kDone; }
  int64_t next_us() const { return next_us_; }  // meaningful while active
  const frames::TreeReport& report() const { return report_; }
  void Restart();  // forgets everything but who outlived the last one

 private:
  enum class Phase { kIdle, kGrace, kKill, kDone };

  void Terminate(const std::vector<pid_t>& spared);
  void BeginKill(const std::vector<pid_t>& spared);
  void KillOnce(const std::vector<pid_t>& spared);
  void Finish(const std::vector<pid_t>& left);
  bool Signal(pid_t pid, int signal);  // false: not ours to signal

  pid_t root_;
  Phase phase_ = Phase::kIdle;
  int64_t next_us_ = 0;
  int64_t kill_us_ = 0;        // end of the grace
  int64_t walk_pause_us_ = 0;  // until the next walk of the grace
  int64_t give_up_us_ = 0;
  int quiet_walks_ = 0;  // in a row that found nothing, or nothing that we may signal
  std::set<pid_t> signalled_;
  std::set<pid_t> outlived_;  // what was left at the end of the last ladder
  frames::TreeReport report_;
};

}  // namespace hermes::runner
