#pragma once

// Keeps the place in a command's output over any number of attachments: every byte is passed on
// once and in order, and what is missing is named. Pure; confined to the reading thread.

#include <cstdint>
#include <optional>
#include <string_view>

#include "hermes/v1/exec.pb.h"

namespace hermes::client {

class OutputTracker {
 public:
  explicit OutputTracker(v1::Cursor start = {}) : next_(std::move(start)) {}

  struct Accepted {
    std::optional<v1::Gap> gap;  // to be told before the data
    std::string_view data;       // part of the event's data; empty when it was all seen before
    uint64_t offset = 0;         // of data
  };

  // A repeated prefix is cut off; a hole the daemon did not name comes back as a gap.
  Accepted Accept(const v1::Output& output);

  // The part of the gap that was not seen yet; nullopt when all of it was.
  std::optional<v1::Gap> Accept(const v1::Gap& gap);

  // Where to attach again: the next offset wanted of each stream.
  const v1::Cursor& next() const { return next_; }

 private:
  uint64_t Next(v1::Channel channel) const;
  void Advance(v1::Channel channel, uint64_t to);

  v1::Cursor next_;
};

}  // namespace hermes::client
