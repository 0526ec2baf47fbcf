#pragma once

// One output stream of a command: from its pipe (or terminal) into the ring, and, while no daemon
// is there and the ring is full, on into a spool file; from the ring to the link. Bytes stay until
// the daemon acknowledged them, at most frames::kOutputWindow of them in the ring: at that limit
// the pipe is not read, so the command blocks. What is left in the pipe when nobody can write any
// more is taken beyond the limit: a daemon that acknowledges nothing must hear of the end, too.
// Owned by its Command.

#include <stdint.h>

#include "backends/engine/frames.h"
#include "backends/runner/loop.h"
#include "backends/runner/ring.h"
#include "backends/runner/spool.h"

namespace hermes::runner {

class Output;

// What carries an Output's bytes away: the link.
class OutputSink {
 public:
  virtual void HasBytes(Output& output) = 0;
  virtual void Detach(Output& output) = 0;

 protected:
  ~OutputSink() = default;
};

class Output : Source::Handler {
 public:
  class Owner {
   public:
    virtual void OnOutput(Output& output) = 0;  // bytes came, or the end of file
    virtual void OnSent(Output& output) = 0;    // bytes were handed to the link

   protected:
    ~Owner() = default;
  };

  Output(Loop& loop, Owner& owner, uint32_t command, frames::Type type);
  ~Output();

  void Open(Fd fd);  // starts reading
  void Read();       // takes what is there now
  size_t Pending();  // bytes that wait in the pipe
  void TakeRest();   // nobody writes any more

  // `sink` null: no daemon is there, so a full ring goes on into a spool in `spool_directory`.
  void SetSink(OutputSink* sink, const std::string* spool_directory);
  void SendFrom(uint64_t offset);  // from now on bytes from here go to the sink
  void Ack(uint64_t offset);
  void Renumber(uint32_t command) { command_ = command; }
  int fd() const { return source_.fd(); }

  uint32_t command() const { return command_; }
  frames::Type type() const { return type_; }
  const Ring& ring() const { return ring_; }
  uint64_t first() const { return ring_.first(); }
  uint64_t end() const { return ring_.end() + spool_.size(); }  // bytes produced
  uint64_t sent() const { return sent_; }
  bool eof() const { return eof_; }
  bool blocked() const;  // there may be bytes in the pipe that there is no room for

  // For the link: what may go now, and that it went.
  size_t Sendable() const;
  void Sent(size_t bytes);
  bool queued = false;  // the sink's own mark

 private:
  void OnReady(Source& source, uint32_t events) override;
  bool ReadIntoRing();
  bool ReadIntoSpool();
  void Refill();
  void AdjustInterest();
  void AtEof();

  Owner& owner_;
  uint32_t command_;
  frames::Type type_;
  Source source_;
  Ring ring_;
  Spool spool_;
  OutputSink* sink_ = nullptr;
  const std::string* spool_directory_ = nullptr;
  bool sending_ = false;
  bool eof_ = true;
  bool busy_ = false;  // its pipe was made larger
  bool rest_ = false;  // TakeRest was called
  uint64_t sent_ = 0;
};

}  // namespace hermes::runner
