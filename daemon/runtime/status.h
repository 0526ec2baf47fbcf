#pragma once

// Errors as values. Every failure that can reach a caller is an absl::Status made by Error(), so
// that it carries one reason of the catalogue (reasons.inc) and its dynamic parts as metadata.
// Thread-safe: all functions are pure.

#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace hermes {

enum class Reason {
#define X(reason, code, what, next) k_##reason,
#include "daemon/runtime/reasons.inc"
#undef X
};

// Everything the catalogue says about one reason.
struct ReasonInfo {
  Reason reason;
  std::string_view name;  // as on the wire: "BAD_NAME"
  absl::StatusCode code;
  std::string_view what;
  std::string_view next;
};

const std::vector<ReasonInfo>& ReasonCatalogue();
const ReasonInfo& InfoOf(Reason reason);
std::optional<Reason> ReasonNamed(std::string_view name);  // nullopt: the catalogue has none such

using Metadata = std::map<std::string, std::string>;

// An error with a reason. `message` is for people and says what would be right; never put a secret
// into either.
absl::Status Error(Reason reason, std::string_view message, Metadata metadata = {});

// BAD_FIELD naming the field: the usual answer to bad input.
absl::Status BadField(std::string_view field, std::string_view message);

// The same error about a field of `outer`: "field: why" becomes "outer.field: why", and one that
// names no field is about `outer` itself.
absl::Status InField(std::string_view outer, const absl::Status& inner);

// The reason and metadata of a status made by Error(); nullopt for a foreign one (which is a BUG at
// the API border).
std::optional<Reason> ReasonOf(const absl::Status& status);
Metadata MetadataOf(const absl::Status& status);

// An errno as a status without a catalogue reason: "what: strerror(err)".
absl::Status ErrnoStatus(int err, std::string_view what);

}  // namespace hermes

#define HERMES_CONCAT_INNER(a, b) a##b
#define HERMES_CONCAT(a, b) HERMES_CONCAT_INNER(a, b)

// RETURN_IF_ERROR(expr): leaves a plain function with a failed status. CO_ twin for coroutines.
#define RETURN_IF_ERROR(expr)                        \
  do {                                               \
    absl::Status hermes_status_ = (expr);            \
    if (!hermes_status_.ok()) return hermes_status_; \
  } while (false)
#define CO_RETURN_IF_ERROR(expr)                        \
  do {                                                  \
    absl::Status hermes_status_ = (expr);               \
    if (!hermes_status_.ok()) co_return hermes_status_; \
  } while (false)

// ASSIGN_OR_RETURN(auto x, expr): x is the value, or the function returns the status.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(HERMES_CONCAT(so_, __LINE__), lhs, expr, return)
#define CO_ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(HERMES_CONCAT(so_, __LINE__), lhs, expr, co_return)
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration and a keyword take none.
#define ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr, leave) \
  auto tmp = (expr);                                 \
  if (!tmp.ok()) leave std::move(tmp).status();      \
  lhs = *std::move(tmp)
// NOLINTEND(bugprone-macro-parentheses)
