#pragma once

// Writes the tar streams of pushes, piece by piece: for each file its header, its bytes (the
// caller's), its padding; one end. Regular files only: no directory record that could change what
// exists, no owners, no times of the host unless given. A name that does not fit the plain form
// gets GNU's long-name record: it takes names as bytes, where readers of pax names want UTF-8.
// Pure.

#include <cstdint>
#include <string>
#include <string_view>

#include "sync/rel_path.h"

namespace hermes::sync {

struct TarEntry {
  RelPath name;
  uint64_t size = 0;     // of the bytes that follow, exactly
  uint32_t mode = 0644;  // permission bits; others are dropped
  uint64_t mtime_s = 0;
};

std::string TarHeader(const TarEntry& entry);
std::string_view TarPadding(uint64_t size);  // goes behind `size` bytes
std::string_view TarEnd();

}  // namespace hermes::sync
