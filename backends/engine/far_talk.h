#pragma once

// FarTalk: one question to the far end of a mount over one stream: what is asked is written, then
// the answer is read. The far end reads all of a question before it says more than its head, so
// neither waits for the other. Owned by the RemoteTree that asks; loop thread.

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"
#include "sync/far_answer.h"

namespace hermes {

// Without a byte in or out for so long a far end is given up: BACKEND_UNREACHABLE. It may have to
// read gigabytes before it says a word.
inline constexpr Duration kMaxFarSilence = std::chrono::seconds(300);
// What is larger takes the lane that keeps out of the way of commands; it may have to log in first.
inline constexpr uint64_t kMaxCommandLaneBytes = 8 << 20;
inline constexpr size_t kMaxCommandLaneFiles = 100;  // of a fetch whose bytes nobody knows
// Files in one far manifest. More: SYNC_FAILED.
inline constexpr size_t kMaxFarFiles = 200'000;

class FarTalk {
 public:
  // `wish`: of who asks. Withdrawn, the stream is given up: CANCELLED.
  FarTalk(Clock& clock, std::unique_ptr<Stream> stream, WishPtr wish)
      : clock_(clock),
        stream_(std::move(stream)),
        wish_(std::move(wish)),
        ear_(wish_, [this] { stream_->Abort(); }) {}

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
  std::string gathered_;
  absl::Status written_;
};

}  // namespace hermes
