#include "daemon/rpc/filter.h"

#include <algorithm>

#include "daemon/rpc/fields.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr std::string_view kAnd = " AND ";

}  // namespace

absl::StatusOr<FilterTerms> ParseFilter(std::string_view filter) {
  FilterTerms terms;
  if (filter.size() > kMaxFilterBytes) return BadField("filter", "is too long");
  while (!filter.empty()) {
    const size_t end = filter.find(kAnd);
    const std::string_view term = filter.substr(0, end);
    const size_t equals = term.find('=');
    if (equals == std::string_view::npos || equals == 0 || term.find(' ') < equals) {
      return BadField("filter",
                      "terms must be KEY=VALUE joined by \" AND \", not \"" + Shown(term) + "\"");
    }
    const std::string_view key = term.substr(0, equals);
    const bool twice = std::any_of(terms.begin(), terms.end(),
                                   [&](const auto& known) { return known.first == key; });
    if (twice) return BadField("filter", "names " + Shown(key) + " twice");
    terms.emplace_back(key, term.substr(equals + 1));
    if (end == std::string_view::npos) break;
    filter.remove_prefix(end + kAnd.size());
    if (filter.empty()) return BadField("filter", "ends in \" AND \"");
  }
  return terms;
}

}  // namespace hermes
