#pragma once

// FarTalk: one question to the far end of a mount over one stream: what is asked is written, then
// the answer is read. The far end reads all of a question before it says more than its head, so
// neither waits for the other. Owned by the RemoteTree that asks; loop thread.

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"
#include "sync/far_answer.h"
#include "sync/mount.h"

namespace hermes {

// Without a byte in or out for so long a far end is given up: BACKEND_UNREACHABLE. It may have to
// read a whole mount from a slow disk before it says a word: 2 GiB at 7 MB/s.
inline constexpr Duration kMaxFarSilence = std::chrono::seconds(300);
// And one that is never silent for so long, but lets us wait for more than this until so many bytes
// have gone in or out: 7 kB/s. Without it a byte every five minutes would hold a sync for ever.
inline constexpr Duration kMaxFarWait = std::chrono::seconds(600);
inline constexpr uint64_t kFarStepBytes = 4 << 20;
// What is larger takes the lane that keeps out of the way of commands; it may have to log in first.
inline constexpr uint64_t kMaxCommandLaneBytes = 8 << 20;
inline constexpr size_t kMaxCommandLaneFiles = 100;  // of a fetch whose bytes nobody knows
// Files in one far manifest. More: SYNC_FAILED.
inline constexpr size_t kMaxFarFiles = sync::kMostMountFiles;

// How long a far end has let us wait; one for all the talks of a fetch, so that it does not begin
// anew with each of its parts. What we ourselves take our time for does not count.
class FarPace {
 public:
  Duration left() const { return std::min(kMaxFarSilence, kMaxFarWait - waited_); }
  void Count(Duration waited, uint64_t bytes) {
    waited_ += waited;
    bytes_ += bytes;
    if (bytes_ >= kFarStepBytes) *this = FarPace();
  }

 private:
  Duration waited_{0};
  uint64_t bytes_ = 0;
};

class FarTalk {
 public:
  // `wish`: of who asks. Withdrawn, the stream is given up: CANCELLED.
  FarTalk(Clock& clock, std::unique_ptr<Stream> stream, WishPtr wish)
      : clock_(clock),
        stream_(std::move(stream)),
        wish_(std::move(wish)),
        ear_(wish_, [this] { stream_->Abort(); }) {}

  // Before anything is said; outlives the talk.
  void SharePace(FarPace* pace) { pace_ = pace; }

  // Gathers small pieces. After an error more is dropped; Ask says what it was.
  Task<void> Write(std::string_view bytes);
  bool broken() const { return !written_.ok(); }

  // Ends what is asked and reads the answer to its end; bytes of a fetch go to `take`. What the far
  // end says is worth more than that it took not all it was told. `answer` outlives the call.
  Task<absl::Status> Ask(sync::FarAnswer* answer, sync::RemoteTree::TakeBytes take = {});

 private:
  Task<void> Flush();
  Task<absl::Status> Read(sync::FarAnswer* answer, sync::RemoteTree::TakeBytes take);

  Clock& clock_;
  const std::unique_ptr<Stream> stream_;
  const WishPtr wish_;
  const Wish::Ear ear_;
  FarPace own_pace_;
  FarPace* pace_ = &own_pace_;
  std::string gathered_;
  absl::Status written_;
};

}  // namespace hermes
