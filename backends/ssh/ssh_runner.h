#pragma once

// Brings a stream that runs PlaceCommand to where a hermes-runner speaks over it: finds our lines
// among the login shell's noise, sends the program if the place asks for it, verified over there by
// its hash. Loop thread.

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/ssh/ssh_place.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"

namespace hermes::ssh {

// Until our line comes: start files may be slow. Beyond, over a connection that lives:
// CAPABILITY_MISSING, for the login shell runs something else.
inline constexpr Duration kPlaceLimit = std::chrono::seconds(30);
// What an upload may take in addition: a link slower than 2 kB/s is of no use.
inline constexpr Duration kPutLimit = std::chrono::seconds(60);
// Bytes that a login shell may say before our line: beyond, CAPABILITY_MISSING.
inline constexpr size_t kMaxNoise = 256 << 10;

struct Programs {
  std::span<const char> x86_64;  // empty: none
  std::span<const char> aarch64;
};

PlaceQuestion QuestionFor(const Programs& programs, std::string directory, std::string nonce);

struct FarRunner {
  std::unique_ptr<Stream> stream;  // the runner's link, or a file service
  PlaceAnswer place;
  bool uploaded = false;
};

struct RunnerWait {
  Programs programs;
  std::string nonce;
  WishPtr wish;  // withdrawn: nobody waits for it any more
  Duration limit = kPlaceLimit;
};

// CAPABILITY_MISSING where no runner can run, with what the login shell said when it was not our
// line.
Task<absl::StatusOr<FarRunner>> AwaitRunner(Clock& clock, std::unique_ptr<Stream> stream,
                                            RunnerWait wait);

}  // namespace hermes::ssh
