#pragma once

// Between the daemon's words (backends/backend.h) and the runner's (frames.h). Pure functions. What
// comes from the runner is hostile: numbers are mapped or clamped, text is made fit to be shown.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "backends/engine/frames.h"

namespace hermes {

frames::Start ToWire(const std::string& session, CommandSpec spec);
frames::Cause ToWire(Cause cause);

// Whole milliseconds, rounded up, so that a small duration does not become "none".
uint64_t ToMillis(Duration duration);

TreeReport FromWire(const frames::TreeReport& report);
Outcome FromWire(const frames::Exit& exit);

// The far side is another process than the one that ran the command: nobody knows how it ended.
Outcome RunnerDiedOutcome();

// A kRefused: the catalogue's reason if the runner named one, else BUG.
absl::Status RefusedStatus(std::string_view reason, std::string_view message);
// A kRefused START: it never started, or, when its run id is spent, nobody can tell any more.
Outcome RefusedOutcome(std::string_view reason, std::string_view message);

// At most `most` bytes of printable ASCII; anything else becomes '?'.
std::string Printable(std::string_view text, size_t most);

}  // namespace hermes
