#include "client/tracker.h"

#include <algorithm>

namespace hermes::client {

uint64_t OutputTracker::Next(v1::Channel channel) const {
  return channel == v1::STDERR ? next_.stderr_offset() : next_.stdout_offset();
}

void OutputTracker::Advance(v1::Channel channel, uint64_t to) {
  if (channel == v1::STDERR) {
    next_.set_stderr_offset(to);
  } else {
    next_.set_stdout_offset(to);
  }
}

OutputTracker::Accepted OutputTracker::Accept(const v1::Output& output) {
  Accepted accepted;
  uint64_t next = Next(output.channel());
  if (output.offset() > next) {
    v1::Gap& gap = accepted.gap.emplace();
    gap.set_channel(output.channel());
    gap.set_from_offset(next);
    gap.set_to_offset(output.offset());
    gap.set_reason("not sent by the daemon");
    next = output.offset();
  }
  uint64_t seen = std::min<uint64_t>(next - output.offset(), output.data().size());
  accepted.data = std::string_view(output.data()).substr(seen);
  accepted.offset = next;
  Advance(output.channel(), next + accepted.data.size());
  return accepted;
}

std::optional<v1::Gap> OutputTracker::Accept(const v1::Gap& gap) {
  uint64_t next = Next(gap.channel());
  if (gap.to_offset() <= next) return std::nullopt;
  v1::Gap missing = gap;
  missing.set_from_offset(next);
  Advance(gap.channel(), gap.to_offset());
  return missing;
}

}  // namespace hermes::client
