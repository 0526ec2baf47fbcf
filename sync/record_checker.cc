#include "sync/record_checker.h"

#include <utility>
#include <variant>

namespace hermes::sync {

using unpack::kNoIndex;

RecordChecker::RecordChecker(const unpack::Request& request, BundleSink& sink)
    : request_(request),
      sink_(sink),
      seen_(request.wanted.size(), Seen::kNot),
      sizes_(request.wanted.size(), 0) {}

absl::Status RecordChecker::Consume(std::string_view bytes) {
  if (broken_) return absl::OkStatus();
  rest_ += bytes;
  std::string_view unread = rest_;
  for (;;) {
    unpack::Record record;
    size_t consumed = 0;
    unpack::Parse parsed = unpack::ParseRecord(unread, &record, &consumed);
    if (parsed == unpack::Parse::kMore) break;
    const bool first = std::holds_alternative<unpack::Hello>(record);
    if (parsed == unpack::Parse::kBad || end_ || first == hello_.has_value()) return Broken();
    absl::Status taken = std::visit([this](const auto& said) { return Take(said); }, record);
    if (!taken.ok() || broken_) return taken;
    unread.remove_prefix(consumed);
  }
  rest_.erase(0, rest_.size() - unread.size());
  // Behind the End not even the beginning of a record may stand.
  return end_ && !rest_.empty() ? Broken() : absl::OkStatus();
}

std::vector<uint32_t> RecordChecker::Missing() const {
  std::vector<uint32_t> missing;
  for (uint32_t i = 0; i < seen_.size(); ++i) {
    if (seen_[i] == Seen::kNot || seen_[i] == Seen::kOddTaken) missing.push_back(i);
  }
  return missing;
}

absl::Status RecordChecker::Take(const unpack::Hello& hello) {
  hello_ = hello;
  return absl::OkStatus();
}

absl::Status RecordChecker::Take(const unpack::File& file) {
  if (current_ != kNoIndex || !Claim(file.index, file.size)) return Broken();
  absl::Status begun = sink_.Begin(file);
  if (!begun.ok() || file.size == 0) return begun.ok() ? sink_.End() : begun;
  current_ = file.index;
  left_ = file.size;
  return absl::OkStatus();
}

absl::Status RecordChecker::Take(const unpack::Data& data) {
  if (current_ == kNoIndex || data.bytes.size() > left_) return Broken();
  left_ -= data.bytes.size();
  absl::Status appended = sink_.Append(data.bytes);
  if (!appended.ok() || left_ > 0) return appended;
  current_ = kNoIndex;
  return sink_.End();
}

absl::Status RecordChecker::Take(const unpack::Copy& copy) {
  const bool known = copy.from < seen_.size() && seen_[copy.from] == Seen::kTaken;
  if (current_ != kNoIndex || !known) return Broken();
  if (!Claim(copy.index, sizes_[copy.from])) return Broken();
  return sink_.Copy(copy.index, copy.from);
}

absl::Status RecordChecker::Take(const unpack::Odd& odd) {
  if (current_ != kNoIndex) return Broken();
  if (odd.index == kNoIndex) {
    if (kept_oddities_ == kMaxKeptOddities) return absl::OkStatus();
    ++kept_oddities_;
    oddities_.push_back(odd);
    return absl::OkStatus();
  }
  if (odd.index >= seen_.size() || seen_[odd.index] != Seen::kNot) return Broken();
  // Dropped bits are the one oddity of a file that is taken all the same: it comes next.
  const bool skipped = odd.why != unpack::Oddity::kSpecialBits;
  seen_[odd.index] = skipped ? Seen::kSkipped : Seen::kOddTaken;
  oddities_.push_back({odd.index, odd.why, {}});  // the caller knows the name
  return absl::OkStatus();
}

// In the middle of a file, too: that is where the stream's structure may break.
absl::Status RecordChecker::Take(const unpack::Lie& lie) {
  if (lies_.size() < kMaxKeptLies) lies_.push_back(lie);
  return absl::OkStatus();
}

absl::Status RecordChecker::Take(const unpack::End& end) {
  const bool whole = end.how == unpack::End::How::kComplete;
  if (whole && lies_.empty() && current_ != kNoIndex) return Broken();
  end_ = end;
  return absl::OkStatus();
}

absl::Status RecordChecker::Broken() {
  broken_ = true;
  rest_.clear();
  return absl::OkStatus();
}

bool RecordChecker::Claim(uint32_t index, uint64_t size) {
  if (index >= seen_.size()) return false;
  if (seen_[index] != Seen::kNot && seen_[index] != Seen::kOddTaken) return false;
  if (size > request_.wanted[index].max_bytes || size > request_.max_total_bytes - total_) {
    return false;
  }
  seen_[index] = Seen::kTaken;
  sizes_[index] = size;
  total_ += size;
  ++files_;
  return true;
}

}  // namespace hermes::sync
