#pragma once

// Run ids that must never start anything again: finished and forgotten ones, and ones the daemon
// gave up before they arrived. Remembered for kRememberUs; at kMaxRemembered the oldest is dropped.

#include <stdint.h>

#include <set>
#include <string_view>
#include <utility>
#include <vector>

namespace hermes::runner {

inline constexpr size_t kMaxRunId = 64;
bool IsRunId(std::string_view id);

class RunIds {
 public:
  void Remember(std::string_view id);
  bool Knows(std::string_view id);

 private:
  static constexpr size_t kMaxRemembered = 100'000;
  static constexpr int64_t kRememberUs = int64_t{24} * 3600 * 1'000'000;

  using Key = std::pair<uint64_t, uint64_t>;
  static Key Digest(std::string_view id);
  void DropOld();

  struct Entry {
    Key key;
    int64_t until_us;
  };
  std::vector<Entry> order_;
  size_t oldest_ = 0;  // before it is what was dropped
  std::set<Key> keys_;
};

}  // namespace hermes::runner
