#pragma once

// The runner's end of one supervisor, and the table of all of them. A supervisor is gone when it
// said so (kFailed, kEmpty) or was reaped without a word; its owner hears of either exactly once.

#include <sys/types.h>

#include <map>
#include <vector>

#include "backends/runner/launch.h"
#include "backends/runner/loop.h"
#include "backends/runner/notice.h"

namespace hermes::runner {

class Supervised;

class Supervisors {
 public:
  // Reaps every ended child of the runner. True if a supervisor had died without a word: its
  // orphans are now children of the runner.
  bool Reap();

  std::vector<pid_t> Pids() const;  // sorted

 private:
  friend class Supervised;
  std::map<pid_t, Supervised*> table_;
};

class Supervised final : Source::Handler {
 public:
  class Owner {
   public:
    virtual void OnNotice(const Notice& notice) = 0;
    virtual void OnSupervisorDied() = 0;  // not called after kFailed or kEmpty

   protected:
    ~Owner() = default;
  };

  Supervised(Loop& loop, Supervisors& table, Owner& owner)
      : table_(table), owner_(&owner), socket_(loop, *this) {}
  ~Supervised();  // a supervisor that is still there then ends its tree

  // Forks. False: errno says why, and nothing runs.
  bool Start(const Launch& launch);
  bool alive() const { return pid_ != 0 && !finished_; }
  pid_t pid() const { return pid_; }
  void Send(const Order& order);
  void ReadNotices();  // those that are there already
  void SetOwner(Owner& owner) { owner_ = &owner; }

 private:
  friend class Supervisors;
  void OnReady(Source& source, uint32_t events) override;
  bool OnReaped();  // true if it died without a word

  Supervisors& table_;
  Owner* owner_;
  Source socket_;
  pid_t pid_ = 0;
  bool finished_ = false;
};

}  // namespace hermes::runner
