#pragma once

// Follow: one reader of one command. Turns the log into a stream of events for an EventSink at the
// sink's own pace: at most one event is in flight, so a slow sink costs one message and holds
// nobody. Loop thread only.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/core/command_run.h"
#include "daemon/core/model.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"

namespace hermes {

inline constexpr size_t kEventBytes = 240 << 10;  // most output bytes in one event
inline constexpr size_t kCoalesceBytes =
    32 << 10;  // below this, output waits kCoalesceTime for more ...
inline constexpr Duration kCoalesceTime =
    std::chrono::milliseconds(10);  // ... counted from the last event sent
// A reader that fell behind the kept output is told of the gap this much later, and of each next
// gap twice as late as of the one before, up to the most; at once when the command has ended.
inline constexpr Duration kFirstGapHold = std::chrono::milliseconds(500);
inline constexpr Duration kMostGapHold = std::chrono::minutes(1);
inline constexpr Duration kBeatInterval = std::chrono::seconds(15);
// What a reader waits for is told by a phase when it has lasted this long: a short wait is no news.
inline constexpr Duration kPhaseAfter = std::chrono::milliseconds(500);

struct StartedInfo {
  CommandInfo command;
  bool attached_to_existing = false;
  Cursor start;
};
struct OutputPiece {
  OutputStream stream = OutputStream::kStdout;
  uint64_t offset = 0;
  std::string data;
};
struct GapPiece {
  OutputStream stream = OutputStream::kStdout;
  uint64_t from = 0;
  uint64_t to = 0;
  std::string reason;
};
struct PhaseInfo {
  std::string name;
  std::string detail;
};
struct BeatInfo {
  Cursor produced;
};
struct FinishedInfo {
  CommandInfo command;
};
using CommandEvent =
    std::variant<StartedInfo, OutputPiece, GapPiece, PhaseInfo, BeatInfo, FinishedInfo>;

// Where events go: a gRPC stream, or a recorder in tests.
class EventSink {
 public:
  virtual ~EventSink() = default;
  // Returns when the event was taken and the next may follow; false: the reader is gone.
  virtual Task<bool> Send(CommandEvent event) = 0;
};

class Follower {
 public:
  struct Options {
    Cursor from;
    bool follow = true;  // false: end at what is there now
    bool attached_to_existing = false;
    std::optional<SteadyTime> wait_until;  // ends the stream, not the command
  };

  Follower(Clock& clock, std::shared_ptr<CommandRun> run, Options options);
  ~Follower();

  enum class Result { kFinished, kReaderGone, kWaitOver, kCaughtUp, kDraining };

  // Sends Started, then output and gaps in offset order per stream, beats, and Finished last. A
  // cursor beyond the end is refused before that: OFFSET_BEYOND_END. After a restart it may be
  // waited for, with beats and phases. Result says why it returned. `last_event`: of the sink, if
  // it had some before.
  Task<absl::StatusOr<Result>> Run(EventSink& sink,
                                   std::optional<SteadyTime> last_event = std::nullopt);

  // The reader is gone, or the daemon drains: Run returns soon. Idempotent.
  void Cancel();
  void Drain();

 private:
  Task<bool> SendOne(EventSink& sink, CommandEvent event);
  Task<absl::Status> CheckCursor(EventSink& sink);
  int Beyond() const;
  Task<absl::StatusOr<Result>> Loop(EventSink& sink);
  absl::StatusOr<CommandEvent> NextPiece();
  void UpdateHolds();
  uint64_t Available(int stream) const;
  uint64_t Available() const;
  bool WaitOver() const;
  bool Reached(const Cursor& cursor) const;
  bool WorthSending() const;
  bool AwayIsNews();
  Task<void> WaitForChange(Duration most);

  Clock& clock_;
  std::shared_ptr<CommandRun> run_;
  Options options_;
  Cursor at_;
  struct Hold {
    Duration next = kFirstGapHold;
    std::optional<SteadyTime> until;  // set: the reader is behind what is kept
    bool active = false;
  };
  Hold hold_[kOutputStreams];
  SteadyTime last_sent_;
  bool sent_output_ = false;
  bool away_told_ = false;
  std::string warned_;
  bool cancelled_ = false;
  bool draining_ = false;
  int next_stream_ = 0;
};

}  // namespace hermes
