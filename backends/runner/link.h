#pragma once

// One connection to the runner's socket: a daemon's link, or an askpass before it is answered.
// Parses frames, and writes what there is to write, in order: control frames, then output straight
// from the rings. At most kMaxControlBytes of answers wait for a peer that does not read; at that
// limit its frames are not read either. Output never waits in here: it stays in the rings.

#include <stdint.h>
#include <sys/uio.h>

#include <string>
#include <vector>

#include "backends/engine/frames.h"
#include "backends/runner/loop.h"
#include "backends/runner/output.h"

namespace hermes::runner {

class Link final : public OutputSink, Source::Handler {
 public:
  class Owner {
   public:
    virtual void OnFrame(Link& link, const frames::Frame& frame) = 0;
    // The link must not be destroyed before the batch of events is over. Called once.
    virtual void OnLinkClosed(Link& link) = 0;

   protected:
    ~Owner() = default;
  };

  Link(Loop& loop, Owner& owner, Fd socket);
  ~Link();

  // Where answers are appended; they go out at the end of the batch.
  std::string& control() { return control_; }
  void Flush();
  void Close();  // drops what was not read and not written
  bool closed() const { return !source_.open(); }
  int fd() const { return source_.fd(); }
  bool greeted = false;  // HELLO was answered

  void HasBytes(Output& output) override;
  void Detach(Output& output) override;

 private:
  // The frames of one writev.
  struct Burst;

  void OnReady(Source& source, uint32_t events) override;
  void ReadFrames();
  void ParseFrames();
  void Gather(Burst& burst);
  void GatherOutput(Output& output, Burst& burst);
  void Written(Burst& burst, size_t bytes);
  void AdjustInterest();

  Owner& owner_;
  Source source_;
  std::string input_;
  std::string control_;
  std::string leaving_;  // bytes that must go out before anything else
  size_t left_ = 0;      // of leaving_, already gone
  bool stuck_ = false;   // the socket takes no more for now
  std::vector<Output*> ready_;
};

}  // namespace hermes::runner
