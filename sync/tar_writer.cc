#include "sync/tar_writer.h"

#include <algorithm>
#include <optional>

namespace hermes::sync {
namespace {

constexpr size_t kBlockBytes = 512;
constexpr size_t kNameBytes = 100;
constexpr size_t kPrefixBytes = 155;
constexpr uint64_t kMaxOctalSize = (1ull << 33) - 1;  // 11 digits; beyond: base-256
constexpr char kZeros[2 * kBlockBytes] = {};

// What differs between the headers that are written here.
struct Plain {
  std::string_view name;
  std::string_view prefix;
  char type = '0';
  uint64_t size = 0;
  uint32_t mode = 0;
  uint64_t mtime_s = 0;
};

void PutText(std::string& block, size_t offset, std::string_view text) {
  block.replace(offset, text.size(), text);
}

// `digits` octal digits; the NUL behind them is there already.
void PutOctal(std::string& block, size_t offset, size_t digits, uint64_t value) {
  for (size_t i = digits; i-- > 0; value >>= 3) {
    block[offset + i] = static_cast<char>('0' + (value & 7));
  }
}

void PutSize(std::string& block, size_t offset, uint64_t size) {
  if (size <= kMaxOctalSize) return PutOctal(block, offset, 11, size);
  for (size_t i = 12; i-- > 1; size >>= 8) block[offset + i] = static_cast<char>(size);
  block[offset] = '\x80';
}

std::string HeaderBlock(const Plain& plain) {
  std::string block(kBlockBytes, '\0');
  PutText(block, 0, plain.name);
  PutOctal(block, 100, 7, plain.mode);
  PutOctal(block, 108, 7, 0);  // owner and group: root takes them for its own, nobody else may
  PutOctal(block, 116, 7, 0);
  PutSize(block, 124, plain.size);
  PutOctal(block, 136, 11, std::min(plain.mtime_s, kMaxOctalSize));
  block[156] = plain.type;
  PutText(block, 257, std::string_view("ustar\00000", 8));
  PutText(block, 345, plain.prefix);
  PutText(block, 148, "        ");
  uint64_t sum = 0;
  for (char c : block) sum += static_cast<uint8_t>(c);
  PutOctal(block, 148, 6, sum);
  block[154] = '\0';
  return block;
}

// Where `name` parts into prefix and name so that both fit; 0: it fits as it is.
std::optional<size_t> SplitAt(std::string_view name) {
  if (name.size() <= kNameBytes) return 0;
  const size_t slash = name.find('/', name.size() - kNameBytes - 1);
  if (slash == name.npos || slash > kPrefixBytes) return std::nullopt;
  return slash;
}

std::string LongName(std::string_view name) {
  const uint64_t size = name.size() + 1;
  std::string record = HeaderBlock({.name = "././@LongLink", .type = 'L', .size = size});
  record += name;
  record.push_back('\0');
  record += TarPadding(size);
  return record;
}

}  // namespace

std::string TarHeader(const TarEntry& entry) {
  std::string_view name = entry.name.str();
  Plain plain{.name = name.substr(0, kNameBytes),
              .size = entry.size,
              .mode = entry.mode & 0777,
              .mtime_s = entry.mtime_s};
  std::optional<size_t> split = SplitAt(name);
  if (!split) return LongName(name) + HeaderBlock(plain);
  if (*split > 0) {
    plain.prefix = name.substr(0, *split);
    plain.name = name.substr(*split + 1);
  }
  return HeaderBlock(plain);
}

std::string_view TarPadding(uint64_t size) {
  return {kZeros, (kBlockBytes - size % kBlockBytes) % kBlockBytes};
}

std::string_view TarEnd() { return {kZeros, sizeof kZeros}; }

}  // namespace hermes::sync
