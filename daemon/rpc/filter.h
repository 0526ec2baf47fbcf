#pragma once

// The small filter language of lists: terms key=value joined by " AND ". Pure.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace hermes {

inline constexpr size_t kMaxFilterBytes = 4096;

using FilterTerms = std::vector<std::pair<std::string, std::string>>;

// Empty filter: no terms. A key may stand once. Malformed: BAD_FIELD filter.
absl::StatusOr<FilterTerms> ParseFilter(std::string_view filter);

}  // namespace hermes
