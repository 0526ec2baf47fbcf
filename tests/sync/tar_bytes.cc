#include "tests/sync/tar_bytes.h"

#include <cstdio>

namespace hermes::sync::tar {

std::string Block(const Header& header) {
  std::string block(512, '\0');
  auto put = [&](size_t offset, std::string_view text) {
    block.replace(offset, text.size(), text);
  };
  char number[32];
  put(0, header.name.substr(0, 100));
  put(100, header.mode.substr(0, 8));
  put(108, "0000000");
  put(116, "0000000");
  snprintf(number, sizeof number, "%011llo", static_cast<unsigned long long>(header.size));
  put(124, header.size_field.empty() ? std::string_view(number) : header.size_field.substr(0, 12));
  put(136, "00000000000");
  put(148, "        ");
  block[156] = header.type;
  put(157, header.link.substr(0, 100));
  put(257, header.magic);
  put(345, header.prefix.substr(0, 155));
  unsigned sum = header.wrong_checksum ? 5000 : 0;
  for (char c : block) sum += static_cast<unsigned char>(c);
  snprintf(number, sizeof number, "%06o", sum);
  put(148, std::string_view(number, 7));
  return block;
}

std::string Padded(std::string_view bytes) {
  std::string padded(bytes);
  padded.append((512 - bytes.size() % 512) % 512, '\0');
  return padded;
}

std::string File(Header header, std::string_view content) {
  header.size = content.size();
  return Block(header) + Padded(content);
}

std::string File(std::string_view name, std::string_view content) {
  return File({.name = name}, content);
}

std::string End() { return std::string(1024, '\0'); }

std::string PaxRecord(std::string_view key, std::string_view value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest;
  while (length != rest + std::to_string(length).size()) {
    length = rest + std::to_string(length).size();
  }
  return std::to_string(length) + " " + std::string(key) + "=" + std::string(value) + "\n";
}

std::string Pax(const Pairs& records, char type) {
  std::string body;
  for (const auto& [key, value] : records) body += PaxRecord(key, value);
  return PaxRaw(body, type);
}

std::string PaxRaw(std::string_view body, char type) {
  return File({.name = "PaxHeaders/x", .type = type}, body);
}

std::string Long(std::string_view text, char type) {
  return File({.name = "././@LongLink", .type = type, .magic = kGnu}, std::string(text) + '\0');
}

std::string Repeat(std::string_view bytes, size_t times) {
  std::string all;
  all.reserve(bytes.size() * times);
  for (size_t i = 0; i < times; ++i) all += bytes;
  return all;
}

}  // namespace hermes::sync::tar
