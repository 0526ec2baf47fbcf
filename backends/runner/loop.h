#pragma once

// The runner's one event loop: descriptors by epoll, timers by a sorted map. Single-threaded;
// everything in the runner is called from here. Sources and timers may be made and destroyed inside
// any callback.

#include <stdint.h>
#include <sys/epoll.h>

#include <map>

#include "backends/runner/sys.h"

namespace hermes::runner {

class Loop;

// One descriptor that the loop watches, owned. With `interest` 0 it stays known to the kernel only
// for errors and hang-ups; Pause takes it out altogether.
class Source {
 public:
  class Handler {
   public:
    virtual void OnReady(Source& source, uint32_t events) = 0;

   protected:
    ~Handler() = default;
  };

  Source(Loop& loop, Handler& handler) : loop_(loop), handler_(handler) {}
  ~Source() { Close(); }
  Source(const Source&) = delete;

  void Open(Fd fd, uint32_t interest);
  void Watch(uint32_t interest);
  void Pause();
  void Close();
  Fd Release();
  int fd() const { return fd_.get(); }
  bool open() const { return fd_.valid(); }

 private:
  friend class Loop;
  Loop& loop_;
  Handler& handler_;
  Fd fd_;
  bool watched_ = false;
  uint32_t interest_ = 0;
};

class Timer {
 public:
  class Handler {
   public:
    virtual void OnTimer(Timer& timer) = 0;

   protected:
    ~Handler() = default;
  };

  Timer(Loop& loop, Handler& handler) : loop_(loop), handler_(handler) {}
  ~Timer() { Cancel(); }
  Timer(const Timer&) = delete;

  void ArmAt(int64_t when_us);  // replaces an earlier setting
  void ArmIn(int64_t us) { ArmAt(NowUs() + us); }
  void Cancel();
  bool armed() const { return when_us_ != 0; }

 private:
  friend class Loop;
  Loop& loop_;
  Handler& handler_;
  int64_t when_us_ = 0;
};

class Loop {
 public:
  // Called once after every batch of events: the place to write what the batch produced.
  class BatchEnd {
   public:
    virtual void OnBatchEnd() = 0;

   protected:
    ~BatchEnd() = default;
  };

  Loop();
  void Run(BatchEnd& batch_end);  // until Stop
  void Stop() { running_ = false; }

 private:
  friend class Source;
  friend class Timer;
  static constexpr int kBatch = 128;

  int WaitMs() const;
  void FireTimers();
  void Forget(const Source& source);  // pending events of a source that is going away

  Fd epoll_;
  bool running_ = false;
  epoll_event events_[kBatch];
  int next_ = 0;
  int count_ = 0;
  std::multimap<int64_t, Timer*> timers_;
};

}  // namespace hermes::runner
