#include "daemon/rpc/grep.h"

#include <re2/re2.h>

#include <algorithm>
#include <utility>

#include "daemon/rpc/read_output.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr int64_t kPatternMemory = 1 << 20;  // RE2 refuses patterns that need more
constexpr size_t kLineCost = 16;             // what an empty line counts for, so that answers end

}  // namespace

class Grep::Matcher {
 public:
  explicit Matcher(const std::string& pattern) : re_(pattern, Options()) {}
  const re2::RE2& re() const { return re_; }
  bool Matches(std::string_view line) const {
    return re2::RE2::PartialMatch(re2::StringPiece(line.data(), line.size()), re_);
  }

 private:
  static re2::RE2::Options Options() {
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(kPatternMemory);
    return options;
  }
  re2::RE2 re_;
};

absl::StatusOr<std::shared_ptr<Grep>> Grep::Make(const std::string& pattern, size_t limit) {
  auto matcher = std::make_unique<Matcher>(pattern);
  if (!matcher->re().ok()) return BadField("re2", "is no pattern: " + matcher->re().error());
  return std::shared_ptr<Grep>(new Grep(std::move(matcher), limit));
}

Grep::Grep(std::unique_ptr<Matcher> matcher, size_t limit)
    : matcher_(std::move(matcher)), room_(limit) {}

Grep::~Grep() = default;

void Grep::Feed(uint64_t offset, std::string_view data) {
  while (!data.empty() && !full_) {
    const size_t end = data.find('\n');
    const size_t most = kMaxLineBytes - carry_.size();
    if (carry_.empty()) carry_offset_ = offset;
    if (end == std::string_view::npos && data.size() < most) {
      carry_ += data;
      return;
    }
    const bool whole = end <= most;  // npos is larger than any
    const size_t taken = whole ? end : most;
    const std::string_view head = data.substr(0, taken);
    const size_t used = taken + (whole ? 1 : 0);
    if (carry_.empty()) {
      TakeLine(head, offset, offset + used);
    } else {
      carry_ += head;
      TakeLine(carry_, carry_offset_, offset + used);
      carry_.clear();
    }
    offset += used;
    data.remove_prefix(used);
  }
}

void Grep::Break() {
  if (carry_.empty() || full_) return;
  TakeLine(carry_, carry_offset_, carry_offset_ + carry_.size());
  carry_.clear();
}

void Grep::TakeLine(std::string_view line, uint64_t offset, uint64_t next) {
  if (full_) return;
  if (matcher_->Matches(line)) {
    const size_t cost = std::max(line.size(), kLineCost);
    if (cost > room_ && !matches_.empty()) {
      full_ = true;  // this line opens the next answer
      next_ = offset;
      return;
    }
    matches_.push_back({offset, std::string(line.substr(0, room_))});
    room_ -= std::min(cost, room_);
    full_ = room_ == 0;
  }
  next_ = next;
}

}  // namespace hermes
