#pragma once

// ByteWriter, ByteReader: the little-endian fields of a record on disk. The reader never leaves its
// bytes: after a field that is not there, ok() is false and everything reads as zero or empty.
// Pure.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace hermes::sync {

class ByteWriter {
 public:
  void U8(uint8_t value) { Number(value, 1); }
  void U32(uint32_t value) { Number(value, 4); }
  void U64(uint64_t value) { Number(value, 8); }
  void Raw(std::string_view bytes) { bytes_.append(bytes); }
  void Text(std::string_view text) {
    U32(static_cast<uint32_t>(text.size()));
    Raw(text);
  }
  const std::string& bytes() const { return bytes_; }
  std::string Take() && { return std::move(bytes_); }

 private:
  void Number(uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i)));
  }
  std::string bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}
  uint8_t U8() { return static_cast<uint8_t>(Number(1)); }
  uint32_t U32() { return static_cast<uint32_t>(Number(4)); }
  uint64_t U64() { return Number(8); }
  std::string_view Text() { return Raw(U32()); }
  std::string_view Raw(uint64_t size) {
    if (!ok_ || size > rest_.size()) {
      ok_ = false;
      return {};
    }
    std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  void Fail() { ok_ = false; }
  bool ok() const { return ok_; }
  bool done() const { return rest_.empty(); }

 private:
  uint64_t Number(int size) {
    uint64_t value = 0;
    int shift = 0;
    for (char byte : Raw(static_cast<uint64_t>(size))) {
      value |= static_cast<uint64_t>(static_cast<uint8_t>(byte)) << shift;
      shift += 8;
    }
    return value;
  }
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace hermes::sync
