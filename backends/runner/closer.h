#pragma once

// CLOSE of sessions under way: a session is closed when every command of it answered the kill and
// has drained, or a moment after the last answer.

#include <stdint.h>

#include <map>
#include <memory>
#include <set>
#include <string>

#include "backends/engine/frames.h"
#include "backends/runner/loop.h"

namespace hermes::runner {

class Closer {
 public:
  class Owner {
   public:
    // May destroy the session's commands only after the batch.
    virtual void OnClosed(const std::string& session, uint32_t tag, uint64_t link_epoch,
                          const frames::TreeReport& report) = 0;

   protected:
    ~Owner() = default;
  };

  Closer(Loop& loop, Owner& owner);
  ~Closer();

  struct Request {
    std::string session;
    uint32_t tag = 0;
    uint64_t link_epoch = 0;
    std::set<std::string> runs;  // by run id: a command's number may change
  };
  void Begin(Request request);
  // Whether this session is being closed; a second CLOSE takes over the answer.
  bool Retag(const std::string& session, uint32_t tag, uint64_t link_epoch);
  void OnKilled(const std::string& session, const std::string& run_id,
                const frames::TreeReport& report);
  void OnDrained(const std::string& session, const std::string& run_id);
  void OnBatchEnd();  // reports what is done
  bool idle() const { return table_.empty(); }

 private:
  struct Closing;
  Loop& loop_;
  Owner& owner_;
  std::map<std::string, std::unique_ptr<Closing>> table_;
};

}  // namespace hermes::runner
