#pragma once

// CommandRun: one command, from acceptance to the day its record is dropped. Pumps Channel ->
// OutputLog, owns the overflow policy and kills, ends with exactly one outcome, which is in the
// store before anybody hears of it. Shared by its Session and by whoever reads it or waits for it
// (rpc); loop thread only.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backends/backend.h"
#include "daemon/core/model.h"
#include "daemon/core/output_log.h"
#include "daemon/core/session_store.h"
#include "daemon/core/stats.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"

namespace hermes {

class CommandRun : public std::enable_shared_from_this<CommandRun> {
 public:
  struct Deps {
    Loop& loop;
    Clock& clock;
    SessionStore& store;
    Stats& stats;
  };

  CommandRun(Deps deps, CommandInfo info, std::unique_ptr<OutputLog> log);
  ~CommandRun();

  const CommandInfo& info() const { return info_; }
  OutputLog& log() { return *log_; }
  Cursor produced() const {  // so far
    return {{log_->end(OutputStream::kStdout), log_->end(OutputStream::kStderr)}};
  }
  bool ended() const { return info_.outcome.has_value(); }
  bool drained() const { return log_->finished(); }

  // Taken up after a restart, while it had not ended: the log may still be behind what clients saw.
  bool restored() const { return restored_; }
  void set_restored() { restored_ = true; }

  // Since when the place cannot be reached: the command goes on there, and nothing is heard of it.
  std::optional<SteadyTime> away_since() const { return ended() ? std::nullopt : away_since_; }
  void set_away(bool away);

  // Woken when state, pid, outcome or residual change; for output see log().changed(), which is
  // woken then, too.
  Event& changed() { return log_->changed(); }

  // Pumps until the channel is drained or abandoned; spawned by the Session once. `after_end` is
  // called once, right after the outcome was committed.
  Task<void> Pump(std::unique_ptr<Channel> channel);

  // What is done for it before it is handed over; empty: nothing any more. A kill before that, or
  // a drain, withdraws `wish`.
  void Prepare(std::string_view phase, WishPtr wish);
  std::string_view phase() const { return phase_; }
  const WishPtr& preparation() const { return preparation_; }

  // What everybody who reads it ought to know about its files; empty: nothing.
  void set_warning(std::string warning) {
    warning_ = std::move(warning);
    changed().NotifyAll();
  }
  const std::string& warning() const { return warning_; }

  // Before Pump, of a command that follows another (CommandSpec::after). Called once if that has
  // not succeeded: gives the channel of another start, or why there is none. Then it has come to
  // nothing: no end is stored, and whoever pumps takes its row back and calls FailStart.
  using StartAgain = std::function<Task<absl::StatusOr<std::unique_ptr<Channel>>>()>;
  void set_start_again(StartAgain start_again) { start_again_ = std::move(start_again); }
  const absl::Status& came_to_nothing() const { return came_to_nothing_; }

  // From now on the place knows it by this name, or is this one; stored when it returns true.
  Task<bool> SetFarId(std::string far_id);
  Task<bool> SetIncarnation(std::string incarnation);

  // It was certainly not started and leaves no record: whoever attached meanwhile is told `why`.
  void FailStart(absl::Status why);
  const absl::Status& start_error() const {
    return start_error_;
  }  // OK unless FailStart was called

  // Returns once the command runs, has ended, or failed to start.
  Task<void> WaitStarted();

  // Records an outcome that no channel will tell (never started, unknown). Returns when it is
  // committed.
  Task<void> EndWith(Outcome outcome);

  // False until Pump runs; then stdin, signals and resize go to the channel. Errors:
  // FAILED_PRECONDITION once ended.
  Task<absl::Status> WriteStdin(uint64_t offset, std::string data, bool eof);
  uint64_t stdin_accepted() const;
  Task<void> StdinTaken();  // as Channel's
  absl::Status Signal(int signal, int scope);
  absl::Status Resize(uint16_t cols, uint16_t rows);

  // The kill ladder; returns when the outcome is committed (or, for residual children, when they
  // are gone). Calling it again joins the kill under way.
  Task<absl::StatusOr<TreeReport>> Kill(Duration grace, Cause cause);

  // Returns when ended or at `deadline`.
  Task<void> WaitEnded(SteadyTime deadline);

  // Stops pumping without touching the command: for drain. Whoever waits in here returns soon.
  void Abandon();

  // Readers hold the session alive and count for on_disconnect.
  int readers() const { return readers_; }
  void AddReader() { ++readers_; }
  void RemoveReader();

  // A reader has taken all before `offset`.
  void NoteRead(OutputStream stream, uint64_t offset);

 private:
  Task<void> TakeData(DataEvent data);
  Task<void> WaitForReader(OutputStream stream, uint64_t bytes);
  void TakeOrDrop(OutputStream stream, uint64_t offset, std::string_view data);
  void TakeWithinLimit(OutputStream stream, uint64_t offset, std::string_view data);
  bool TakeWhatFits(OutputStream stream, uint64_t offset, std::string_view data);
  void RefuseTo(OutputStream stream, uint64_t to);
  bool Refused() const;
  Task<void> KillAtLimit();
  void RetryHeld();
  void RefuseHeld();
  void Ack();
  void CountDropped();
  Task<void> SaveDropped();
  Task<void> TakeEnd(Outcome outcome);
  Task<void> TakeDrained();
  CommandInfo Ended(Outcome outcome) const;
  Task<bool> Stored(StoredCommand row);
  Task<bool> Commit(CommandInfo shown);
  bool OnDisk() const;

  Deps deps_;
  CommandInfo info_;
  std::unique_ptr<OutputLog> log_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<Channel>
      next_channel_;  // of the start that replaces the one that came to nothing
  std::unique_ptr<Channel> former_channel_;  // somebody may still be inside a call of it
  absl::Status start_error_;
  std::string_view phase_;
  std::string warning_;
  WishPtr preparation_;
  StartAgain start_again_;
  absl::Status came_to_nothing_;
  uint64_t dropped_counted_ = 0;  // of the log's, those that are in the stats
  bool dropped_ = false;  // something of this log that the far side does not know is safe to drop
  bool restored_ = false;
  bool abandoned_ = false;
  std::optional<SteadyTime> away_since_;
  uint64_t refused_to_[kOutputStreams] = {0, 0};  // end of what did not fit, shown as a gap
  bool given_up_ = false;  // somebody wants it killed: nothing is held for room any more
  bool over_ = false;      // it has ended over there
  // Came while the disk was full, under BLOCK_PROCESS. Not acknowledged, so at most the far side's
  // windows: then the command waits.
  struct Held {
    OutputStream stream = OutputStream::kStdout;
    uint64_t offset = 0;
    std::string data;
  };
  std::deque<Held> held_;
  std::unique_ptr<Clock::Alarm> retry_;
  int readers_ = 0;

  // How far a stream's output is ahead of the reader that has most of it, see WaitForReader.
  struct Lead {
    uint64_t read_to = 0;
    uint64_t turn_begin = 0;  // read_to when this turn began
    uint64_t taken = 0;       // bytes since then
    Duration left{0};         // that this turn may still wait
    bool keeps_up = true;     // until a turn shows that no reader does
  };
  Event read_;  // woken by NoteRead
  Lead lead_[kOutputStreams];
};

}  // namespace hermes
