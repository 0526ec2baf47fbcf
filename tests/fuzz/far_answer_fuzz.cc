// What the far end of a mount answers: however it is cut, the same comes of it, nothing is told of
// what was not asked for, and a manifest that is taken is one. The first byte chooses the question.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/runtime/check.h"
#include "sync/far_answer.h"

namespace hermes::sync {
namespace {

constexpr size_t kChanges = 4;

struct Seen {
  std::string status;
  std::string stream;
  bool done = false;
  std::string look;
  std::vector<Placed> placed;
  bool operator==(const Seen&) const = default;
};

std::string Described(const RemoteLook& look) {
  std::string text = look.epoch + (look.exists ? "1" : "0") + CanonicalText(look.manifest.files);
  for (const auto& [name, oddity] : look.manifest.oddities) {
    CHECK(!name.empty() && CheckPath(name) != PathFault::kEscapes);
    text += name + std::string(OddityName(oddity));
  }
  return text;
}

Seen Read(FarVerb verb, std::string_view text, size_t piece) {
  FarAnswer answer({.verb = verb, .mark = "@m", .changes = kChanges, .max_files = 5});
  Seen seen;
  absl::Status status;
  while (status.ok() && !text.empty() && !answer.done()) {
    const std::string_view part = text.substr(0, piece);
    std::string_view stream;
    status = answer.Feed(part, &stream);
    seen.stream.append(stream);
    text.remove_prefix(part.size());
  }
  if (status.ok()) status = answer.Finish();
  seen.status = std::string(status.message());
  seen.done = answer.done();
  if (!status.ok()) return seen;
  CHECK(answer.done() != (verb == FarVerb::kFetch));
  if (verb == FarVerb::kApply) {
    seen.placed = answer.TakeApplied().placed;
    CHECK(seen.placed.size() == kChanges);
  }
  if (verb != FarVerb::kLook) return seen;
  const absl::StatusOr<RemoteLook> look = answer.TakeLook(std::nullopt);
  if (look.ok()) seen.look = Described(*look);
  if (look.ok()) CHECK(look->manifest.files.size() <= 5);
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const FarVerb verb = data[0] % 3 == 0   ? FarVerb::kLook
                       : data[0] % 3 == 1 ? FarVerb::kApply
                                          : FarVerb::kFetch;
  const Seen whole = Read(verb, text, std::max<size_t>(1, text.size()));
  CHECK(Read(verb, text, 1) == whole);
  CHECK(Read(verb, text, 1 + data[0]) == whole);
  return 0;
}

}  // namespace hermes::sync
