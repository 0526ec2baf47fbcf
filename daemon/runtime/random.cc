#include "daemon/runtime/random.h"

#include <sys/random.h>

#include <cerrno>

#include "daemon/runtime/check.h"

namespace hermes {

std::string Random::Hex(size_t bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * bytes);
  uint64_t bits = 0;
  for (size_t i = 0; i < bytes; ++i, bits >>= 8) {
    if (i % sizeof(bits) == 0) bits = Next();
    hex.push_back(kDigits[bits >> 4 & 0xf]);
    hex.push_back(kDigits[bits & 0xf]);
  }
  return hex;
}

std::string Random::Uuid() {
  std::string uuid = Hex(16);
  uuid[12] = '4';
  uuid[16] = "89ab"[Below(4)];
  for (size_t dash : {8, 13, 18, 23}) uuid.insert(dash, 1, '-');
  return uuid;
}

uint64_t SystemRandom::Next() {
  uint64_t bits = 0;
  ssize_t got = 0;
  do {
    got = getrandom(&bits, sizeof(bits), 0);
  } while (got < 0 && errno == EINTR);
  CHECK(got == static_cast<ssize_t>(sizeof(bits)));
  return bits;
}

}  // namespace hermes
