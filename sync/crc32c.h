#pragma once

// CRC-32C (Castagnoli), as iSCSI and ext4 use it. For damage, not for malice. Pure.

#include <cstdint>
#include <string_view>

namespace hermes::sync {

uint32_t Crc32c(std::string_view bytes);

}  // namespace hermes::sync
