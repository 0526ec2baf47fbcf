#pragma once

// What the runner and one supervisor say to each other over their socket pair: one plain struct per
// message. Both are the same program image, so there is nothing to version.

#include <stdint.h>

#include "backends/engine/frames.h"

namespace hermes::runner {

struct Order {  // runner -> supervisor
  enum Kind : uint8_t {
    kKill,
    kSignal,
    kBegin,  // the shell that was started ahead has got its command
  } kind;
  uint8_t signal;
  frames::Scope scope;
  frames::Cause cause;
  uint32_t grace_ms;
  uint64_t deadline_ms;  // of kBegin
};

struct Tree {
  uint32_t signalled;
  uint32_t survivors;
  uint8_t verified;
  uint8_t pid_count;
  uint32_t pids[16];
};

struct Notice {  // supervisor -> runner
  enum Kind : uint8_t {
    kLaunched,  // exec succeeded; `pid`
    kFailed,    // it did not; `stage` and `error`; the supervisor is gone after this
    kEnded,     // the leader is gone; `status`, usage, `cause`, and `tree` if it was killed
    kKilled,    // a kill order is done; `tree`
    kEmpty,     // no descendant is left; the supervisor is gone after this
  } kind;
  uint8_t has_tree;
  uint8_t empty;  // with kEnded: no descendant is left; kEmpty follows
  frames::LaunchStage stage;
  frames::Cause cause;
  int32_t error;
  int32_t pid;
  int32_t status;
  uint64_t user_us;
  uint64_t system_us;
  uint64_t max_rss_kb;
  Tree tree;
};

frames::TreeReport NothingLeft();  // verified: there was nothing to kill
Tree Pack(const frames::TreeReport& report);
frames::TreeReport Unpack(const Tree& tree);

}  // namespace hermes::runner
