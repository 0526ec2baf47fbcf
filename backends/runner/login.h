#pragma once

// The login environment that sessions start from: one run of a login shell in a clean environment,
// shared by all sessions opened within kSharedUs of it. A shell that fails or takes too long is
// replaced by the clean environment itself.

#include <memory>
#include <vector>

#include "backends/runner/place.h"
#include "backends/runner/shared.h"
#include "backends/runner/supervised.h"

namespace hermes::runner {

class Login {
 public:
  class Waiter {
   public:
    virtual void OnLogin() = 0;  // Get gives the result now

   protected:
    ~Waiter() = default;
  };

  Login(Loop& loop, Supervisors& supervisors, const Place& place, Waiter& waiter);
  ~Login();

  // A fresh enough result, or an empty one: then OnLogin comes once, later.
  Shared<shell::State> Get();

 private:
  class Run;

  void Start();
  void Finish(const Run& run);

  Loop& loop_;
  Supervisors& supervisors_;
  const Place& place_;
  Waiter& waiter_;
  // The one under way, and older ones whose profile left something running.
  std::vector<std::unique_ptr<Run>> runs_;
  bool under_way_ = false;
  int64_t taken_us_ = 0;
  Shared<shell::State> state_;
};

}  // namespace hermes::runner
