#include "sync/tar_join.h"

#include <algorithm>

namespace hermes::sync {
namespace {

constexpr uint64_t kBlockBytes = 512;
constexpr size_t kSizeOffset = 124;
constexpr size_t kSizeBytes = 12;

// Of a header's size field, rounded up to whole blocks; octal digits or, from 8 GiB on, a binary
// number. Nonsense gives some number or other.
uint64_t BlocksOf(std::string_view header) {
  const std::string_view field = header.substr(kSizeOffset, kSizeBytes);
  uint64_t size = 0;
  if ((field[0] & '\x80') != 0) {
    for (char c : field.substr(4)) size = size << 8 | static_cast<uint8_t>(c);
  } else {
    for (char c : field) {
      if (c >= '0' && c <= '7') size = size << 3 | static_cast<uint64_t>(c - '0');
    }
  }
  return (size / kBlockBytes + (size % kBlockBytes == 0 ? 0 : 1)) * kBlockBytes;
}

bool IsZero(std::string_view bytes) { return bytes.find_first_not_of('\0') == bytes.npos; }

}  // namespace

std::string TarJoin::Feed(std::string_view bytes) {
  std::string out;
  while (!bytes.empty() && !passing_ && !at_end_) {
    if (left_ > 0) {
      const std::string_view part = bytes.substr(0, left_);
      out.append(part);
      left_ -= part.size();
      bytes.remove_prefix(part.size());
      continue;
    }
    const std::string_view part = bytes.substr(0, kBlockBytes - header_.size());
    header_.append(part);
    bytes.remove_prefix(part.size());
    if (header_.size() < kBlockBytes) break;
    at_end_ = IsZero(header_);
    if (at_end_) zeros_ = kBlockBytes;
    if (!at_end_) {
      left_ = BlocksOf(header_);
      out.append(header_);
    }
    header_.clear();
  }
  if (passing_) return out.append(bytes);
  const size_t zeros = std::min(bytes.find_first_not_of('\0'), bytes.size());
  zeros_ += zeros;
  bytes.remove_prefix(zeros);
  if (bytes.empty() && zeros_ <= kMaxJoinedTail) return out;
  // Somebody sends more than one archive, or no end: the reader shall see it.
  passing_ = true;
  const uint64_t enough = 2 * kBlockBytes + zeros_ % kBlockBytes;  // of an end: two blocks
  out.append(zeros_ > kMaxJoinedTail ? zeros_ : std::min(zeros_, enough), '\0');
  return out.append(bytes);
}

bool TarJoin::EndStream() {
  const bool whole = (at_end_ || passing_) && header_.empty();
  at_end_ = false;
  zeros_ = 0;
  return whole;
}

}  // namespace hermes::sync
