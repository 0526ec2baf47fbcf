// What a peer sends: cutting a stream into frames, and every payload's decoder. What decodes must
// encode to the very same bytes.

#include <cstddef>
#include <cstdint>
#include <string>

#include "backends/engine/frames.h"
#include "daemon/runtime/check.h"

namespace hermes::frames {
namespace {

template <typename T, typename... Head>
void RoundTrip(std::string_view payload, Head... head) {
  std::optional<T> value = Decode<T>(payload);
  if (!value) return;
  std::string bytes;
  Encode(bytes, head..., *value);
  Frame frame{};
  size_t consumed = 0;
  CHECK(ParseFrame(bytes, &frame, &consumed) == Parse::kFrame);
  CHECK(consumed == bytes.size());
  CHECK(frame.payload == payload);
}

void DecodeAll(std::string_view payload) {
  RoundTrip<Open>(payload, 1U);
  RoundTrip<Opened>(payload, 1U);
  RoundTrip<Welcome>(payload);
  RoundTrip<Start>(payload, 1U);
  RoundTrip<Exit>(payload, 1U);
  RoundTrip<Listed>(payload, 1U);
  RoundTrip<TreeReport>(payload, 1U, Type::kKilled);
  Reader reader(payload);
  while (reader.ok() && !reader.done()) reader.StrList();
}

}  // namespace
}  // namespace hermes::frames

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using hermes::frames::Frame;
  std::string_view stream(reinterpret_cast<const char*>(data), size);
  hermes::frames::DecodeAll(stream);
  Frame frame{};
  size_t consumed = 0;
  while (hermes::frames::ParseFrame(stream, &frame, &consumed) == hermes::frames::Parse::kFrame) {
    CHECK(consumed > 0 && consumed <= stream.size());
    hermes::frames::DecodeAll(frame.payload);
    stream.remove_prefix(consumed);
  }
  return 0;
}
