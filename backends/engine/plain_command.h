#pragma once

// PlainCommand: one command of the plain engine and the stream it runs over: two pumps that tell
// its bytes from the marked lines, its end, its stdin, its kill. Shared by the engine, the Channel
// handle and its own coroutines, which hold it; so a handle may be destroyed while one waits. Loop
// thread.
//
// Output is taken from the stream only while less than kOutputWindow of it is not acknowledged: so
// a reader that acknowledges nothing more (BLOCK_PROCESS at its limit) holds the command. A kill,
// and a deadline that has passed, read on regardless, to see the end; what comes then while more
// than kMostUnread is not read is lost.
//
// A place may give a stream and start nothing over it, because a start file of the login shell
// hangs. Who ends the command waits for its first word for kAnswerLimit, then breaks the stream:
// the end is unknown.
//
// It asks for its stream itself and may wait for it as long as the place lets it: then nothing was
// started, and whoever ends it ends it here and now and takes the wish for a stream back. One that
// comes all the same is dropped unused.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "backends/backend.h"
#include "backends/engine/plain_place.h"
#include "backends/engine/plain_scanner.h"
#include "daemon/runtime/event.h"

namespace hermes::plain {

inline constexpr uint64_t kOutputWindow = 1 << 20;  // per stream; at the limit the command waits
inline constexpr uint64_t kMostUnread = 4 * kOutputWindow;  // per stream; beyond it bytes are lost
// After the trailers, late output of the same command is awaited until this long passes without
// any, but at most the second.
inline constexpr Duration kQuiet = std::chrono::milliseconds(5);
inline constexpr Duration kSettleLimit = std::chrono::milliseconds(50);
// A deadline and its grace are told by the far side within this, or reading goes on regardless.
inline constexpr Duration kDeadlineSlack = std::chrono::seconds(5);

class PlainCommand : public std::enable_shared_from_this<PlainCommand> {
 public:
  using Ptr = std::shared_ptr<PlainCommand>;
  // The state that came with a natural end: commits it and says so in the outcome.
  using Commit = std::function<void(const std::string& capture, Outcome* outcome)>;

  struct Init {
    std::string run_id;
    std::string cookie;
    std::string start_mark;
    std::string end_mark;
    bool stdin_open = false;
    Duration deadline{0};      // 0: none; else run_timeout and grace
    std::string why_no_state;  // not empty: no state is expected
    Commit commit;
  };
  PlainCommand(std::shared_ptr<Place> place, Init init);

  // Asks for a stream to `boot_line`; when it is there, sends `framed` and begins to read. Once.
  void Begin(std::string boot_line, std::string framed);
  // Returns when the stream is there, or never will be, or at `until`.
  static Task<void> WaitOpen(Ptr self, SteadyTime until);
  // Why the place gave no stream. OK: it did, it may yet, or nobody wants it any more.
  const absl::Status& open_error() const { return open_error_; }

  const std::string& run_id() const { return init_.run_id; }
  bool ended() const { return ended_; }
  bool drained() const { return drained_; }
  int64_t pid() const { return ended_ ? 0 : pid_; }  // 0: unknown, or it may be another's by now

  // As Channel; Attach is what a handle begins with.
  void Attach(const uint64_t (&from)[kOutputStreams]);
  static Task<absl::StatusOr<ChannelEvent>> Read(Ptr self);
  static Task<absl::Status> WriteStdin(Ptr self, uint64_t offset, std::string data, bool eof);
  static Task<absl::StatusOr<TreeReport>> Kill(Ptr self, Duration grace, Cause cause);
  uint64_t stdin_accepted() const { return stdin_end_; }
  absl::Status Signal(int signal, int scope);
  void Ack(uint64_t stdout_offset, uint64_t stderr_offset);
  void Abandon();

  // Ends it as never started if it has no stream yet. False: it has, or had.
  bool Withdraw(Cause cause);

  // What Kill does around the ladder: an end from now on is a kill with this cause, and waits for
  // the report. A ladder that failed takes that back; one that found nothing has ended nothing.
  void ExpectKill(Cause cause);
  void KillDone(const absl::StatusOr<TreeReport>& report);
  // Breaks the stream: what has not ended ends as unknown, or as never started.
  void Break();
  static Task<void> WaitDrained(Ptr self, SteadyTime until);

 private:
  static Task<void> Open(std::weak_ptr<PlainCommand> weak, std::shared_ptr<Place> place,
                         std::string boot_line, WishPtr wish);
  void OnStream(absl::StatusOr<std::unique_ptr<Stream>> stream);
  void Go();
  static Task<void> Feed(Ptr self, std::string framed);
  static Task<void> Pump(Ptr self, OutputStream which);
  static Task<void> Finish(Ptr self);
  static Task<void> Settle(Ptr self);
  static Task<void> GiveStreamBack(Ptr self);
  static Task<bool> AwaitStart(Ptr self);
  static Task<absl::StatusOr<TreeReport>> Climb(Ptr self, Duration grace, Cause cause);
  static Task<void> GiveUpStart(Ptr self);
  static Task<absl::Status> WriteInTurn(Ptr self, uint64_t offset, std::string data, bool eof);

  bool HasRoom(OutputStream which) const;
  void OnStarted(std::string_view line);
  void OnData(OutputStream which, std::string_view data);
  void OnLost(OutputStream which, uint64_t from, uint64_t to);
  void ArmDeadline(Duration slack);
  void OnLine(OutputStream which, std::string_view line);
  void End(Outcome outcome);
  void EndUnstarted(Outcome outcome);
  Outcome Told();
  Outcome Lost(std::optional<Stream::End> transport) const;
  void Push(ChannelEvent event);
  LadderSpec Ladder(Duration grace) const;

  std::shared_ptr<Place> place_;
  const WishPtr wish_ = std::make_shared<Wish>();  // for a stream
  std::unique_ptr<Stream> stream_;  // null: waited for, given back, or the command never got one
  bool had_stream_ = false;
  absl::Status open_error_;
  std::string framed_;  // until it is sent
  Init init_;
  Event changed_;

  std::deque<ChannelEvent> events_;
  uint64_t handle_ = 0;  // counts attached handles: an older one's Read ends
  bool abandoned_ = false;
  uint64_t received_[kOutputStreams] = {0, 0};
  uint64_t read_[kOutputStreams] = {0, 0};
  uint64_t acked_[kOutputStreams] = {0, 0};
  bool at_end_[kOutputStreams] = {false, false};
  SteadyTime last_data_{};

  int64_t pid_ = 0;
  bool said_start_ = false;  // the line after the start mark came
  std::string launch_failure_;
  std::string capture_;
  bool capture_too_large_ = false;
  std::optional<std::string> trailer_[kOutputStreams];
  std::optional<Cause> kill_cause_;
  bool kill_met_ = false;  // somebody: what ends then is killed
  std::optional<TreeReport> tree_;
  int kills_under_way_ = 0;
  bool read_regardless_ = false;
  std::unique_ptr<Clock::Alarm> alarm_;
  bool ended_ = false;
  bool drained_ = false;

  bool script_sent_ = false;
  bool stdin_busy_ = true;  // the script goes first
  bool stdin_closed_ = false;
  uint64_t stdin_end_ = 0;
};

}  // namespace hermes::plain
