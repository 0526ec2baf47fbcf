#pragma once

// RecordChecker: reads what hermes-unpack says and believes none of it. The program reads a hostile
// stream; if that took it over, these records are the attacker's words. So every index is one that
// was asked for, comes once, is within its size and has exactly the bytes it announced; everything
// is bounded; after the End nothing follows. One break of the rules is final. Used by one thread at
// a time.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "sync/unpack/wire.h"

namespace hermes::sync {

inline constexpr size_t kMaxKeptOddities = 1000;  // about names nobody asked for; beyond: dropped
inline constexpr size_t kMaxKeptLies = 100;       // beyond: dropped

// Where the accepted bytes go. The checker calls Begin, Append (together exactly `size` bytes), End
// for one file after the other; Copy names a file that has ended. A failed status ends it all.
class BundleSink {
 public:
  virtual ~BundleSink() = default;
  virtual absl::Status Begin(const unpack::File& file) = 0;
  virtual absl::Status Append(std::string_view bytes) = 0;
  virtual absl::Status End() = 0;
  virtual absl::Status Copy(uint32_t index, uint32_t from) = 0;
};

class RecordChecker {
 public:
  // `request` and `sink` outlive this.
  RecordChecker(const unpack::Request& request, BundleSink& sink);

  // Takes the next bytes. The sink's own failure is the result; a break of the rules is OK and
  // broken() says so: nothing more is taken then.
  absl::Status Consume(std::string_view bytes);

  bool broken() const { return broken_; }
  const std::optional<unpack::Hello>& hello() const { return hello_; }
  const std::optional<unpack::End>& end() const { return end_; }
  const std::vector<unpack::Odd>& oddities() const { return oddities_; }
  const std::vector<unpack::Lie>& lies() const { return lies_; }
  // Wanted, and neither taken nor skipped.
  std::vector<uint32_t> Missing() const;
  uint64_t bytes() const { return total_; }
  uint32_t files() const { return files_; }

 private:
  absl::Status Take(const unpack::Hello& hello);
  absl::Status Take(const unpack::File& file);
  absl::Status Take(const unpack::Data& data);
  absl::Status Take(const unpack::Copy& copy);
  absl::Status Take(const unpack::Odd& odd);
  absl::Status Take(const unpack::Lie& lie);
  absl::Status Take(const unpack::End& end);
  absl::Status Broken();
  // Counts a file of `size` bytes at `index`; false: it may not be.
  bool Claim(uint32_t index, uint64_t size);

  enum class Seen : uint8_t { kNot, kOddTaken, kSkipped, kTaken };

  const unpack::Request& request_;
  BundleSink& sink_;
  std::string rest_;  // of a record that is not complete: bounded by the largest one
  std::vector<Seen> seen_;
  std::vector<uint64_t> sizes_;
  uint32_t current_ = unpack::kNoIndex;  // the file whose bytes come
  uint64_t left_ = 0;
  uint64_t total_ = 0;
  uint32_t files_ = 0;
  std::optional<unpack::Hello> hello_;
  std::optional<unpack::End> end_;
  std::vector<unpack::Odd> oddities_;
  std::vector<unpack::Lie> lies_;
  size_t kept_oddities_ = 0;  // those without an index
  bool broken_ = false;
};

}  // namespace hermes::sync
