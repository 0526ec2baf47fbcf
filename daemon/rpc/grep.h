#pragma once

// Grep: feeds chunks of a stream to an RE2 line by line. Not thread-safe; used by one thread at a
// time.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace hermes {

class Grep {
 public:
  struct Line {
    uint64_t offset = 0;
    std::string text;  // without its newline
  };

  // BAD_FIELD re2 when the pattern is not one.
  static absl::StatusOr<std::shared_ptr<Grep>> Make(const std::string& pattern, size_t limit);
  ~Grep();

  // The next bytes of the stream, which start at `offset`. After a gap call Break first.
  void Feed(uint64_t offset, std::string_view data);
  // Ends the line under way.
  void Break();

  const std::vector<Line>& matches() const { return matches_; }
  bool full() const { return full_; }  // the limit is reached; nothing more is taken
  // Behind the last line that was looked at.
  uint64_t next_offset() const { return next_; }

 private:
  class Matcher;
  Grep(std::unique_ptr<Matcher> matcher, size_t limit);
  void TakeLine(std::string_view line, uint64_t offset, uint64_t next);

  std::unique_ptr<Matcher> matcher_;
  size_t room_;
  bool full_ = false;
  std::vector<Line> matches_;
  std::string carry_;  // the start of a line whose end was not seen yet
  uint64_t carry_offset_ = 0;
  uint64_t next_ = 0;
};

}  // namespace hermes
