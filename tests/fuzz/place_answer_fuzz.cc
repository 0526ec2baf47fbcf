// What a host says instead of a line of ours, before one and within one: nothing is taken for an
// answer that is not marked, and what is taken is short and clean.

#include <cstddef>
#include <cstdint>
#include <string>

#include "backends/ssh/ssh_place.h"
#include "daemon/runtime/check.h"

namespace hermes::ssh {
namespace {

constexpr std::string_view kNonce = "0123456789ab";
constexpr size_t kMaxField = 256;  // bytes

void ExpectClean(const std::string& field) {
  CHECK(field.size() <= kMaxField);
  for (const char c : field) CHECK(c >= 0x20 && c <= 0x7e);
}

void Look(const std::string& line, bool marked) {
  const std::optional<PlaceAnswer> answer = ParsePlaceAnswer(line, kNonce);
  const std::optional<bool> put = ParsePutAnswer(line, kNonce);
  CHECK(marked || (!answer && !put));
  CHECK(!answer || !put);
  if (!answer) return;
  for (const std::string* field :
       {&answer->arch, &answer->os, &answer->tools, &answer->shell, &answer->text}) {
    ExpectClean(*field);
  }
  // What comes out of an answer makes the same answer again.
  static constexpr const char* kVerdicts[] = {"run", "put", "none"};
  std::string again = "@" + std::string(kNonce) + ":" +
                      kVerdicts[static_cast<size_t>(answer->verdict)] + ":" + answer->arch + ":" +
                      answer->os + ":," + answer->tools + ":" + answer->shell + ":" + answer->text;
  const std::optional<PlaceAnswer> same = ParsePlaceAnswer(again, kNonce);
  CHECK(same && same->verdict == answer->verdict && same->arch == answer->arch &&
        same->os == answer->os && same->shell == answer->shell && same->text == answer->text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::string mark = "@" + std::string(kNonce) + ":";
  Look(text, text.starts_with(mark));
  Look(mark + text, true);
  Look(mark + "put:" + text, true);
  return 0;
}

}  // namespace hermes::ssh
