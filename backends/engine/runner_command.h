#pragma once

// RunnerCommand: one command of a runner as the daemon knows it: what came and was not read yet,
// how far output and stdin are, what must be said again when the connection was lost. Shared by the
// RunnerLink, which feeds it frames, and by the Channel handle, which core reads. Loop thread.
// Coroutines are static and hold the command, so a handle may be destroyed while one is waiting.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/engine/files_pace.h"
#include "backends/engine/frames.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

// The way to the runner, as a command sees it.
class RunnerPort {
 public:
  virtual ~RunnerPort() = default;
  // Where to append whole frames; null while the connection is down or not attached again yet.
  virtual std::string* out() = 0;
  virtual void Flush() = 0;
  virtual size_t queued() const = 0;
  // Returns when a caller that can wait may append; at once while the connection is down.
  virtual Task<void> Room() = 0;
  // Frames for this command are of no more interest. `forget`: nor is its record over there.
  virtual void Drop(uint32_t number, bool forget) = 0;
};

// Frames queued for the runner beyond which callers that cannot wait (signals, resizes) are
// refused.
inline constexpr size_t kMaxQueuedUrgentBytes = 2 << 20;
// An output byte is acknowledged with the next this many, or when half the window is used, or at
// the end: few frames, and the runner never stalls on us.
inline constexpr uint64_t kAckBytes = 256 << 10;
// Output that was received and not read yet, of one command. A runner that keeps to its window of
// unacknowledged bytes never gets there; beyond it the connection is broken as malformed.
inline constexpr uint64_t kMaxUnreadBytes = 2 * kOutputStreams * frames::kOutputWindow;
inline constexpr size_t kMaxUnreadEvents = 4096;

class RunnerCommand : public std::enable_shared_from_this<RunnerCommand> {
 public:
  struct Offsets {
    uint64_t at[kOutputStreams] = {0, 0};
  };
  using Ptr = std::shared_ptr<RunnerCommand>;

  struct Init {
    uint32_t number = 0;
    std::string run_id;
    std::string session;
    std::string start_frame;               // the START that was sent; empty: adopted
    bool stdin_open = false;               // of a started one
    std::unique_ptr<FilesPace> pace = {};  // of a started file service
    Offsets from;                          // of an adopted one: output before these is safe here
  };
  RunnerCommand(Loop& loop, std::shared_ptr<RunnerPort> port, Init init);

  uint32_t number() const { return number_; }
  const std::string& run_id() const { return run_id_; }
  bool drained() const { return drained_; }  // whoever reads it comes to its end without us
  const std::string& session() const { return session_; }

  // From the link. An error means that the peer does not keep to the protocol.
  absl::Status OnFrame(const frames::Frame& frame);
  // A connection to the same runner is up (again). `listed`: what it knows of this command, null if
  // nothing. Says again what may have been lost.
  void OnAttached(const frames::Listed* listed);
  void OnRunnerGone();
  // The session was closed over there: what the runner had to tell of the command came before.
  void OnSessionClosed();
  // How far an adopted command's stdin is: STDIN_ACK tells, or, when it took none yet, the absence
  // of one until the runner answers a PING sent after the ATTACH.
  bool stdin_known() const { return stdin_known_; }
  void AwaitPong(uint64_t ping) {
    fence_ = ping;
    settled_ = false;
  }
  void OnPong(uint64_t ping);

  // As Channel.
  static Task<absl::StatusOr<ChannelEvent>> Read(Ptr self);
  static Task<absl::Status> WriteStdin(Ptr self, uint64_t offset, std::string data, bool eof);
  static Task<void> StdinTaken(Ptr self);
  static Task<absl::StatusOr<TreeReport>> Kill(Ptr self, Duration grace, Cause cause);
  uint64_t stdin_accepted() const { return stdin_end_; }
  absl::Status Signal(int signal, int scope);
  absl::Status Resize(uint16_t cols, uint16_t rows);
  void Ack(Offsets safe);
  void Abandon();
  // The handle needs it no more. `forget`: nor does the runner its record.
  void Drop(bool forget);

 private:
  absl::Status OnData(OutputStream stream, std::string_view payload);
  absl::Status OnStarted(std::string_view payload);
  absl::Status OnExit(std::string_view payload);
  absl::Status OnDrained();
  absl::Status OnKilled(std::string_view payload);
  absl::Status OnStdinAck(std::string_view payload);
  absl::Status OnRefused(std::string_view payload);
  void OnUnknown();
  void Push(ChannelEvent event);
  void PushData(OutputStream stream, uint64_t offset, std::string_view bytes);
  void NoteLost(OutputStream stream, uint64_t to);
  bool HasAllBefore(const frames::Exit& exit) const;
  void TellEnd();
  void End(Outcome outcome);
  void EndForGood(Outcome outcome);
  void AnswerKill(absl::StatusOr<TreeReport> answer);
  void SendAck();
  void SendKill();
  void SendStdin(uint64_t offset, std::string_view data);
  void SendStdinEof();
  void ResendStdin();
  bool MayWriteStdin(size_t left) const;
  bool stdin_over() const { return stdin_closed_ || stdin_eof_ || ended_ || abandoned_; }
  static Task<absl::Status> WriteStdinInTurn(Ptr self, uint64_t offset, std::string data, bool eof);
  absl::Status ReadyForUrgent() const;

  std::shared_ptr<RunnerPort> port_;
  const uint32_t number_;
  const std::string run_id_;
  const std::string session_;
  const uint64_t stdin_window_;
  const std::unique_ptr<FilesPace> pace_;  // of a file service; else null
  std::string start_frame_;  // with what belongs before it; until the runner is known to have it
  Event changed_;

  std::deque<ChannelEvent> events_;
  uint64_t unread_bytes_ = 0;
  bool started_ = false;
  std::optional<frames::Exit> exit_;  // told before all of its output
  bool ended_ = false;
  bool drained_ = false;
  bool abandoned_ = false;
  bool gone_ = false;  // with its runner, or dropped

  Offsets next_;      // first byte not received yet
  Offsets safe_;      // as told by Ack
  Offsets sent_ack_;  // as told to this connection's peer

  // Stdin bytes [stdin_acked_, stdin_end_) are on their way: kept for saying them again.
  uint64_t stdin_acked_ = 0;
  uint64_t stdin_end_ = 0;
  std::string stdin_unacked_;
  bool stdin_known_ = true;     // false: adopted, the runner has not yet told how far stdin is
  uint64_t stdin_earlier_ = 0;  // an earlier daemon cannot have sent more than this
  // The PONG that proves that the runner has read our ATTACH; until then data that lies ahead is
  // what it had sent to an earlier channel over this connection, and it will come again.
  uint64_t fence_ = UINT64_MAX;
  bool settled_ = true;
  bool stdin_eof_ = false;
  bool stdin_closed_ = false;  // the command reads no more
  bool stdin_busy_ = false;    // one writer at a time

  struct PendingKill {
    uint32_t grace_ms;
    frames::Cause cause;
  };
  std::optional<PendingKill> kill_;
  uint64_t kills_answered_ = 0;
  absl::StatusOr<TreeReport> kill_answer_{TreeReport{}};
};

}  // namespace hermes
