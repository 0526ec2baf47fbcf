#pragma once

// Tar streams byte by byte, with every field free to lie. Pure.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hermes::sync::tar {

inline constexpr std::string_view kPosix("ustar\00000", 8);
inline constexpr std::string_view kGnu("ustar  \0", 8);

struct Header {
  std::string_view name;
  uint64_t size = 0;
  char type = '0';
  std::string_view link = {};
  std::string_view prefix = {};
  std::string_view magic = kPosix;
  std::string_view mode = "0000644";
  std::string_view size_field = {};  // not empty: these bytes instead of `size`
  bool wrong_checksum = false;
};

std::string Block(const Header& header);
std::string Padded(std::string_view bytes);  // up to whole blocks
// A member with its content; header.size is the content's.
std::string File(Header header, std::string_view content);
std::string File(std::string_view name, std::string_view content);
std::string End();

using Pairs = std::vector<std::pair<std::string, std::string>>;
std::string PaxRecord(std::string_view key, std::string_view value);
std::string Pax(const Pairs& records, char type = 'x');
std::string PaxRaw(std::string_view body, char type = 'x');
std::string Long(std::string_view text, char type = 'L');  // with the NUL behind it
std::string Repeat(std::string_view bytes, size_t times);

}  // namespace hermes::sync::tar
