#include "backends/ssh/libssh2_wire.h"

#include <openssl/sha.h>

namespace hermes {
namespace {

constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr size_t kMaxTypeName = 64;  // bytes; longer is no key type

std::string Sha256(std::string_view bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

}  // namespace

std::optional<std::string> DecodeBase64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  if (text.size() % 4 == 1) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int count = 0;
  for (char c : text) {
    size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = (bits << 6) | static_cast<uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes.push_back(static_cast<char>(bits >> count & 0xff));
    }
  }
  return bytes;
}

std::string EncodeBase64(std::string_view bytes) {
  std::string text;
  uint32_t bits = 0;
  int count = 0;
  for (char c : bytes) {
    bits = (bits << 8) | static_cast<unsigned char>(c);
    count += 8;
    while (count >= 6) {
      count -= 6;
      text.push_back(kDigits[bits >> count & 0x3f]);
    }
  }
  if (count > 0) text.push_back(kDigits[bits << (6 - count) & 0x3f]);
  return text;
}

bool WireReader::Byte(uint8_t* value) {
  if (rest_.empty()) return false;
  *value = static_cast<uint8_t>(rest_[0]);
  rest_.remove_prefix(1);
  return true;
}

bool WireReader::U32(uint32_t* value) {
  if (rest_.size() < 4) return false;
  *value = 0;
  for (size_t i = 0; i < 4; ++i) *value = *value << 8 | static_cast<unsigned char>(rest_[i]);
  rest_.remove_prefix(4);
  return true;
}

bool WireReader::String(std::string_view* value) {
  uint32_t size = 0;
  if (!U32(&size) || size > rest_.size()) return false;
  *value = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return true;
}

void PutU32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

void PutString(std::string& out, std::string_view value) {
  PutU32(out, static_cast<uint32_t>(value.size()));
  out.append(value);
}

std::string KeyTypeOf(std::string_view blob) {
  std::string_view type;
  if (!WireReader(blob).String(&type) || type.size() > kMaxTypeName) return "";
  return PrintableWords(type);
}

std::string KeyFingerprint(std::string_view blob) { return "SHA256:" + EncodeBase64(Sha256(blob)); }

std::string Sha256Hex(std::string_view bytes) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text;
  for (char c : Sha256(bytes)) {
    text.push_back(kHex[static_cast<unsigned char>(c) >> 4]);
    text.push_back(kHex[static_cast<unsigned char>(c) & 15]);
  }
  return text;
}

std::string PrintableWords(std::string_view text, size_t most) {
  std::string clean;
  for (char c : text.substr(0, most)) clean.push_back(c >= 0x20 && c < 0x7f ? c : ' ');
  return clean;
}

}  // namespace hermes
