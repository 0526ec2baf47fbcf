// A far shell's output: noise, the start line, bytes, marked lines. However a stream is cut, the
// same must come of it, and no byte may get lost or be told twice. The first byte chooses how.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backends/engine/plain_place.h"
#include "backends/engine/plain_scanner.h"
#include "daemon/runtime/check.h"

namespace hermes::plain {
namespace {

constexpr std::string_view kStart = "\x1es";
constexpr std::string_view kEnd = "\x1e\x1e";  // its beginning may begin inside of it

struct Seen {
  std::vector<std::string> events;  // what kind, then the text; data joined
  std::string noise;

  bool operator==(const Seen& other) const {
    return events == other.events && noise == other.noise;
  }
};

void AddData(std::string_view data, Seen& seen) {
  if (seen.events.empty() || seen.events.back()[0] != 'd') seen.events.emplace_back("d");
  seen.events.back().append(data);
}

// Cuts `text` into pieces of sizes that `cut` chooses; 0: one piece.
Seen Scan(std::string_view text, uint8_t cut, bool with_start) {
  Seen seen;
  Scanner scanner(std::string(with_start ? kStart : ""), std::string(kEnd),
                  {.started =
                       [&](std::string_view line) {
                         CHECK(seen.events.empty());
                         seen.events.push_back("s" + std::string(line));
                       },
                   .data =
                       [&](std::string_view data) {
                         CHECK(!data.empty());
                         AddData(data, seen);
                       },
                   .line =
                       [&](std::string_view line) {
                         CHECK(line.size() <= kMaxMarkedLine);
                         CHECK(line.find('\n') == std::string_view::npos);
                         seen.events.push_back("l" + std::string(line));
                         std::string capture;
                         AppendCapture(line, &capture);
                         CHECK(capture.size() <= line.size());
                       }});
  uint32_t state = cut;
  while (!text.empty()) {
    state = state * 1664525 + 1013904223;
    const size_t size = cut == 0 ? text.size() : 1 + (state >> 16) % cut;
    scanner.Feed(text.substr(0, size));
    text.remove_prefix(std::min(size, text.size()));
  }
  scanner.Finish();
  seen.noise = scanner.noise();
  CHECK(seen.noise.size() <= kMaxNoise);
  return seen;
}

// What a stream without a start mark was, put together again.
std::string Whole(const Seen& seen) {
  std::string whole;
  for (const std::string& event : seen.events) {
    if (event[0] == 'l') whole += kEnd;
    whole.append(event, 1);
    if (event[0] == 'l') whole += '\n';
  }
  return whole;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const uint8_t cut = std::max<uint8_t>(data[0], 1);
  for (const bool with_start : {true, false}) {
    const Seen whole = Scan(text, 0, with_start);
    CHECK(Scan(text, cut, with_start) == whole);
    CHECK(Scan(text, 1, with_start) == whole);
    if (!with_start) CHECK(Whole(whole) == text);
  }
  return 0;
}

}  // namespace hermes::plain
