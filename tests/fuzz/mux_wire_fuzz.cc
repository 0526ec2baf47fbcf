// What stands behind a control socket: cut into messages the same way however it arrives.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "backends/ssh/mux_wire.h"
#include "daemon/runtime/check.h"

namespace hermes::mux {
namespace {

struct Decoded {
  std::vector<Message> messages;
  bool broken = false;
  bool operator==(const Decoded&) const = default;
};

Decoded Decode(std::string_view bytes, size_t piece) {
  Decoder decoder;
  Decoded decoded;
  while (!bytes.empty() && !decoded.broken) {
    decoder.Append(bytes.substr(0, piece));
    bytes.remove_prefix(std::min(piece, bytes.size()));
    while (true) {
      auto next = decoder.Next();
      decoded.broken = !next.ok();
      if (decoded.broken || !next->has_value()) break;
      CHECK((*next)->text.size() <= kMaxText);
      decoded.messages.push_back(**next);
    }
  }
  return decoded;
}

}  // namespace
}  // namespace hermes::mux

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto whole = hermes::mux::Decode(bytes, size + 1);
  for (size_t piece : {1, 3, 7}) CHECK(hermes::mux::Decode(bytes, piece) == whole);
  return 0;
}
