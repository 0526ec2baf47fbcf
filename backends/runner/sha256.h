#pragma once

// SHA-256 as bytes pass, with the processor's own instructions where it has them.

#include <stddef.h>
#include <stdint.h>

#include <string>
#include <string_view>

namespace hermes::runner {

class Sha256 {
 public:
  void Update(std::string_view bytes);
  std::string Finish();  // 32 bytes; once

 private:
  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint64_t bytes_ = 0;
  size_t held_ = 0;  // of block_
  uint8_t block_[64];
};

std::string Hex(std::string_view bytes);  // lower case

}  // namespace hermes::runner
