#include "daemon/runtime/backoff.h"

#include <algorithm>

#include "daemon/runtime/check.h"

namespace hermes {

Duration Backoff::Next() {
  CHECK(options_.first > Duration::zero());
  Duration ceiling = std::min(options_.first, options_.most);
  for (int i = 0; i < attempts_ && ceiling < options_.most; ++i) {
    ceiling = ceiling > options_.most / 2 ? options_.most : ceiling * 2;
  }
  ++attempts_;
  const auto jitter = static_cast<uint64_t>((ceiling - ceiling / 2).count());
  return ceiling - Duration(random_.Below(jitter));
}

}  // namespace hermes
