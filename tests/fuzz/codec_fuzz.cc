// Blobs of a store: damaged ones are STORE_CORRUPT; what decodes is written and read back the same.
// Each input is taken as a blob and as the body of one whose checksum is right.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/core/codec.h"
#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

template <typename T>
void RoundTrip(std::string_view blob, absl::StatusOr<T> (*decode)(std::string_view),
               std::string (*encode)(const T&)) {
  const absl::StatusOr<T> value = decode(blob);
  if (!value.ok()) {
    CHECK(ReasonOf(value.status()) == Reason::k_STORE_CORRUPT);
    return;
  }
  const std::string written = encode(*value);
  const absl::StatusOr<T> again = decode(written);
  CHECK(again.ok());
  CHECK(encode(*again) == written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string sealed = SealBlob(text);
  CHECK(*UnsealBlob(sealed) == text);
  for (const std::string_view blob : {text, std::string_view(sealed)}) {
    RoundTrip(blob, DecodeSession, EncodeSession);
    RoundTrip(blob, DecodeCommand, EncodeCommand);
  }
  return 0;
}

}  // namespace hermes
