#pragma once

// PlainPlace: the plain engine's way to its sandbox: runs short texts there and brings back what
// they told. Shared by the engine and its commands; loop thread.

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "backends/engine/plain_text.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"

namespace hermes::plain {

// What a short text tells beyond this is not read: the answer is incomplete.
inline constexpr size_t kMaxAnswerBytes = 8 << 20;
// A short text that takes longer (beyond the grace of a kill) is given up: BACKEND_UNREACHABLE.
inline constexpr Duration kAnswerLimit = std::chrono::seconds(30);

struct Place : std::enable_shared_from_this<Place> {
  Place(Loop& l, Clock& c, Random& r, std::shared_ptr<Sandbox> s)
      : loop(l), clock(c), random(r), sandbox(std::move(s)) {}

  std::string NewMark() { return kMarkByte + random.Hex(16); }

  struct Answer {
    std::vector<std::string> lines;  // without the mark
    bool complete = false;           // the last line came
    bool expired = false;            // it did not in time
    std::string noise;               // what the login shell said instead, if nothing else came
  };
  // Runs `text`, whose lines carry `mark`, with a reader of `kind`. The limit counts from when the
  // stream is there; who opens the place waits for that as long as its own wish lasts.
  static Task<absl::StatusOr<Answer>> Ask(std::shared_ptr<Place> self, shell::Kind kind,
                                          std::string text, std::string mark, Duration limit,
                                          WishPtr wish = nullptr);
  // The same in a place that is open: a stream that is not there within the limit is given up, too.
  static Task<absl::StatusOr<Answer>> AskSoon(std::shared_ptr<Place> self, std::string text,
                                              std::string mark, Duration limit = kAnswerLimit);
  static Task<absl::StatusOr<TreeReport>> Kill(std::shared_ptr<Place> self, LadderSpec spec);

  Loop& loop;
  Clock& clock;
  Random& random;
  const std::shared_ptr<Sandbox> sandbox;
  Far far;
};

std::string FromBase64(std::string_view text);
std::string FromHex(std::string_view text);
// A captured state's bytes from its lines; nothing else of `line` is one: false.
bool AppendCapture(std::string_view line, std::string* capture);

}  // namespace hermes::plain
