#include "backends/runner/run_ids.h"

#include <algorithm>

#include "backends/runner/sys.h"

namespace hermes::runner {

bool IsRunId(std::string_view id) {
  if (id.empty() || id.size() > kMaxRunId) return false;
  return std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
  });
}

void RunIds::Remember(std::string_view id) {
  DropOld();
  Key key = Digest(id);
  if (keys_.insert(key).second) order_.push_back({.key = key, .until_us = NowUs() + kRememberUs});
}

bool RunIds::Knows(std::string_view id) {
  DropOld();
  return keys_.count(Digest(id)) != 0;
}

void RunIds::DropOld() {
  while (oldest_ < order_.size() &&
         (order_[oldest_].until_us <= NowUs() || order_.size() - oldest_ >= kMaxRemembered))
    keys_.erase(order_[oldest_++].key);
  if (oldest_ * 2 <= order_.size()) return;
  order_.erase(order_.begin(), order_.begin() + static_cast<ptrdiff_t>(oldest_));
  oldest_ = 0;
}

// 128 bits of a mixing hash: the ids are random ones of our own daemon, so nobody aims at it.
RunIds::Key RunIds::Digest(std::string_view id) {
  uint64_t a = 0x9e3779b97f4a7c15, b = 0xc2b2ae3d27d4eb4f;
  for (char c : id) {
    a = (a ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    b = (b + static_cast<uint8_t>(c)) * 0xff51afd7ed558ccd;
    b ^= b >> 29;
  }
  return {a, b};
}

}  // namespace hermes::runner
