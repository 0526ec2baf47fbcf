// Tar streams of a hostile place as the daemon itself reads them, which only looks for headers:
// however they are cut, the same goes on, nothing is made up, and little is left out. The first two
// bytes say where the second stream begins and how many zeros follow the first.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/runtime/check.h"
#include "sync/tar_join.h"

namespace hermes::sync {
namespace {

struct Joined {
  std::string bytes;
  bool one = false;  // whole
  bool two = false;
  bool operator==(const Joined&) const = default;
};

void FeedAll(TarJoin* join, std::string_view text, size_t piece, std::string* out) {
  const size_t before = out->size();
  for (std::string_view rest = text; !rest.empty();
       rest.remove_prefix(std::min(piece, rest.size())))
    out->append(join->Feed(rest.substr(0, piece)));
  CHECK(out->size() - before <= text.size() + kMaxJoinedTail);
}

Joined Join(std::string_view one, std::string_view two, size_t piece) {
  TarJoin join;
  Joined joined;
  FeedAll(&join, one, piece, &joined.bytes);
  joined.one = join.EndStream();
  FeedAll(&join, two, piece, &joined.bytes);
  joined.two = join.EndStream();
  // At most a header that was cut and a tail of each are left out.
  CHECK(joined.bytes.size() <= one.size() + two.size());
  CHECK(one.size() + two.size() - joined.bytes.size() <= 2 * (kMaxJoinedTail + 512));
  return joined;
}

}  // namespace
}  // namespace hermes::sync

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using hermes::sync::Join;
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const size_t split = std::min<size_t>(text.size(), size_t{data[0]} * 64);
  // Odd ones: as long as what is left out at most, or about a block more or less.
  const size_t zeros = data[1] % 2 == 0 ? 0 : hermes::sync::kMaxJoinedTail - 512 + data[1] * 4;
  const std::string one = std::string(text.substr(0, split)) + std::string(zeros, '\0');
  const std::string_view two = text.substr(split);
  const hermes::sync::Joined whole = Join(one, two, one.size() + two.size() + 1);
  CHECK(Join(one, two, (zeros == 0 ? 1 : 4096) + size % 700) == whole);
  if (zeros == 0) CHECK(Join(one, two, 1) == whole);
  return 0;
}
