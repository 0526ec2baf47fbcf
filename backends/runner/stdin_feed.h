#pragma once

// A command's stdin: bytes by absolute offset from the link, written as the command reads them. At
// most `window` bytes wait here; a daemon that sends more is refused. Owned by its Command.

#include <stdint.h>

#include <string>
#include <string_view>

#include "backends/engine/frames.h"
#include "backends/runner/loop.h"

namespace hermes::runner {

class StdinFeed : Source::Handler {
 public:
  class Owner {
   public:
    virtual void OnStdin() = 0;  // accepted() or closed() moved

   protected:
    ~Owner() = default;
  };

  StdinFeed(Loop& loop, Owner& owner) : owner_(owner), source_(loop, *this) {}

  uint64_t window = frames::kStdinWindow;

  void Expect() { closed_ = false; }  // Open will come: bytes wait until then
  // For a terminal, `eof_byte` is written where a pipe would be closed; -1: a pipe.
  void Open(Fd fd, int eof_byte);
  bool Add(uint64_t offset, std::string_view bytes);  // false: a gap, or more than the window
  // False: not where the bytes end. Said again, it is the same end.
  bool SetEnd(uint64_t offset);
  void Close();

  uint64_t accepted() const { return accepted_; }
  uint64_t expected() const { return accepted_ + waiting(); }
  bool closed() const { return closed_; }

 private:
  void OnReady(Source& source, uint32_t events) override;
  size_t waiting() const { return queue_.size() - head_; }
  void Write();
  void AtEnd();

  Owner& owner_;
  Source source_;
  std::string queue_;
  size_t head_ = 0;
  uint64_t accepted_ = 0;
  uint64_t end_ = UINT64_MAX;  // the last that was set
  int eof_byte_ = -1;
  bool ends_ = false;
  bool closed_ = true;
};

}  // namespace hermes::runner
