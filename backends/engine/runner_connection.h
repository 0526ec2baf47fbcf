#pragma once

// RunnerConnection: one byte stream to a hermes-runner, from the moment it is open until it breaks.
// Reads frames, writes frames from a queue, and says when its peer was last heard (RunnerLink
// notices a dead one). Knows nothing of commands. Shared by its RunnerLink and its tasks; loop
// thread. The peer is hostile: a frame that is too long or malformed breaks the connection.

#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "backends/backend.h"
#include "backends/engine/frames.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// Frames queued but not yet written; callers that can wait do so beyond this.
inline constexpr size_t kMaxQueuedBytes = 1 << 20;
// The longest frame a runner has reason to send (64 KiB of data; a directory name in EXIT).
inline constexpr size_t kMaxIncomingFrame = 256 << 10;
inline constexpr Duration kPingInterval = std::chrono::seconds(5);
inline constexpr Duration kSilenceLimit = std::chrono::seconds(15);  // then the peer is dead

class RunnerConnection : public std::enable_shared_from_this<RunnerConnection> {
 public:
  RunnerConnection(Loop& loop, Clock& clock, std::unique_ptr<Stream> stream);

  // Handles one frame; an error breaks the connection.
  using OnFrame = absl::AnyInvocable<absl::Status(const frames::Frame&)>;

  // Both run until the connection is broken; run each once. ReadLoop returns why.
  static Task<absl::Status> ReadLoop(std::shared_ptr<RunnerConnection> self, OnFrame on_frame);
  static Task<void> WriteLoop(std::shared_ptr<RunnerConnection> self);

  // Whole frames appended here go out after Flush().
  std::string& queue() { return queue_; }
  void Flush() { wake_.NotifyAll(); }
  size_t queued() const { return queue_.size() + writing_.size(); }

  // Returns when at most kMaxQueuedBytes are queued, or the connection is broken.
  static Task<void> Room(std::shared_ptr<RunnerConnection> self);

  // Idempotent; the first reason stays.
  void Break(absl::Status why);
  bool broken() const { return !why_.ok(); }
  const absl::Status& why() const { return why_; }

  // When bytes last came from the peer.
  SteadyTime heard() const { return heard_; }

 private:
  absl::Status TakeFrames(OnFrame& on_frame);

  Clock& clock_;
  std::unique_ptr<Stream> stream_;
  std::string queue_;
  std::string writing_;
  Event wake_;  // frames were queued, or the connection broke
  Event room_;  // frames were written, or the connection broke
  absl::Status why_;
  SteadyTime heard_;
  std::unique_ptr<char[]>
      buffer_;  // read but not taken: [begin_, end_); untouched pages cost nothing
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace hermes
