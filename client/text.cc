#include "client/text.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <set>

namespace hermes::client {
namespace {

constexpr char kHex[] = "0123456789abcdef";

struct CodePoint {
  uint32_t value = 0;
  size_t length = 0;  // 0: the first byte does not start valid UTF-8
};

// Strict: no overlong forms, no surrogates, nothing above U+10FFFF.
CodePoint Decode(std::string_view s) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || s.size() < length) return {};
  uint32_t value = first & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    value = (value << 6) | (byte(i) & 0x3fu);
  }
  static constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kLeast[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {};
  return {value, length};
}

void AppendByte(std::string& out, unsigned char byte) {
  out += "\\x";
  out += kHex[byte >> 4];
  out += kHex[byte & 15];
}

bool IsControl(uint32_t c) {
  bool c0_c1 = c < 0x20 || (c >= 0x7f && c <= 0x9f);
  bool separators = c == 0x2028 || c == 0x2029;
  bool directions = c == 0x200e || c == 0x200f || c == 0x61c || (c >= 0x202a && c <= 0x202e) ||
                    (c >= 0x2066 && c <= 0x2069);
  return c0_c1 || separators || directions;
}

void AppendControl(std::string& out, uint32_t c) {
  if (c == '\n') {
    out += "\\n";
  } else if (c == '\t') {
    out += "\\t";
  } else if (c < 0x80) {
    AppendByte(out, static_cast<unsigned char>(c));
  } else {
    char text[16];
    snprintf(text, sizeof text, "\\u{%x}", c);
    out += text;
  }
}

template <class OnCodePoint>
std::string Map(std::string_view s, OnCodePoint on_code_point) {
  std::string out;
  out.reserve(s.size());
  while (!s.empty()) {
    CodePoint c = Decode(s);
    if (c.length == 0) {
      AppendByte(out, static_cast<unsigned char>(s[0]));
      s.remove_prefix(1);
      continue;
    }
    on_code_point(out, c.value, s.substr(0, c.length));
    s.remove_prefix(c.length);
  }
  return out;
}

size_t Width(std::string_view utf8) {
  return static_cast<size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string_view ColourOf(std::string_view cell) {
  static const std::set<std::string_view> kGood = {"READY", "RUNNING"};
  static const std::set<std::string_view> kBusy = {"OPENING", "CLOSING", "DEGRADED", "QUEUED",
                                                   "LAUNCHING"};
  static const std::set<std::string_view> kBad = {"FAILED", "LOST", "KILLED", "NEVER_STARTED",
                                                  "UNKNOWN"};
  if (kGood.contains(cell)) return "\x1b[32m";
  if (kBusy.contains(cell)) return "\x1b[33m";
  if (kBad.contains(cell)) return "\x1b[31m";
  return {};
}

}  // namespace

bool IsUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    size_t length = Decode(bytes).length;
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

std::string ToUtf8(std::string_view bytes) {
  return Map(bytes, [](std::string& out, uint32_t, std::string_view raw) { out += raw; });
}

std::string ForTerminal(std::string_view bytes) {
  return Map(bytes, [](std::string& out, uint32_t value, std::string_view raw) {
    if (IsControl(value)) {
      AppendControl(out, value);
    } else {
      out += raw;
    }
  });
}

std::string Base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    size_t have = std::min<size_t>(3, bytes.size() - i);
    for (size_t k = 0; k < 3; ++k) {
      group = (group << 8) | (k < have ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) out += k <= have ? kDigits[(group >> (18 - 6 * k)) & 63] : '=';
  }
  return out;
}

std::string Table::Render(bool colour) const {
  std::vector<size_t> widths(rows_.front().size());
  std::vector<std::vector<std::string>> safe;
  for (const auto& row : rows_) {
    auto& cells = safe.emplace_back();
    for (size_t i = 0; i < row.size(); ++i) {
      cells.push_back(ForTerminal(row[i]));
      widths[i] = std::max(widths[i], Width(cells.back()));
    }
  }
  std::string out;
  for (const auto& cells : safe) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
      std::string_view paint = colour ? ColourOf(cells[i]) : std::string_view();
      line += paint;
      line += cells[i];
      if (!paint.empty()) line += "\x1b[0m";
      if (i + 1 < cells.size()) line.append(widths[i] - Width(cells[i]) + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace hermes::client
