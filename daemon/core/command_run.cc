#include "daemon/core/command_run.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include "daemon/runtime/check.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// While the store or the disk refuses, nothing can be acknowledged; try again at this pace.
constexpr Duration kRetryPause = std::chrono::seconds(1);

// Taking output in needs no answer from anybody, so a flood would run ahead of a reader that could
// keep up until the reader's place is trimmed. So the flood waits for a reader that is more than
// kMostLead behind, in all up to kTurn for each kTurnBytes taken, as long as the reader takes half
// as many meanwhile. Only readers of 250 MB/s and more can thus hold a command, to 500 MB/s at
// worst; others cost it one such wait.
constexpr uint64_t kMostLead = 2 << 20;
constexpr uint64_t kTurnBytes = 2 << 20;
constexpr Duration kTurn = std::chrono::milliseconds(4);

LogContext ContextOf(const CommandInfo& info) { return {info.session_id, info.id, info.run_id}; }

std::string Told(const Outcome& outcome) {
  if (outcome.state == CommandState::kUnknown) return "unknown";
  if (outcome.state == CommandState::kNeverStarted) return "never started";
  const std::string how = outcome.state == CommandState::kKilled ? "killed" : "exited";
  return how + (outcome.signalled ? " by signal " : " with ") + std::to_string(outcome.value);
}

}  // namespace

CommandRun::CommandRun(Deps deps, CommandInfo info, std::unique_ptr<OutputLog> log)
    : deps_(deps),
      info_(std::move(info)),
      log_(std::move(log)),
      dropped_counted_(log_->dropped_bytes()),
      read_(deps.loop) {}

CommandRun::~CommandRun() = default;

Task<void> CommandRun::Pump(std::unique_ptr<Channel> channel) {
  std::shared_ptr<CommandRun> self = shared_from_this();
  // Kept until this object dies: stdin writers and kills may still be inside a call of it.
  channel_ = std::move(channel);
  set_away(false);
  if (info_.state == CommandState::kQueued) info_.state = CommandState::kLaunching;
  changed().NotifyAll();
  while (!drained() && !abandoned_) {
    absl::StatusOr<ChannelEvent> event = co_await channel_->Read();
    if (!event.ok()) co_return;  // abandoned: the command goes on without us
    if (auto* started = std::get_if<StartedEvent>(&*event)) {
      info_.pid = started->pid;
      info_.state = CommandState::kRunning;
      // Of one that an earlier hermesd started only the acceptance was stored: that is near enough.
      if (!info_.start_time)
        info_.start_time = restored_ ? info_.create_time : deps_.clock.NowWall();
      start_again_ = nullptr;
      LogDebug("command started", ContextOf(info_));
      changed().NotifyAll();
    } else if (auto* data = std::get_if<DataEvent>(&*event)) {
      co_await TakeData(std::move(*data));
    } else if (auto* lost = std::get_if<LostEvent>(&*event)) {
      log_->Skip(lost->stream, lost->to);
    } else if (std::holds_alternative<OverEvent>(*event)) {
      over_ = true;
      Ack();
    } else if (auto* end = std::get_if<EndedEvent>(&*event)) {
      co_await TakeEnd(std::move(end->outcome));
    } else {
      co_await TakeDrained();
    }
    CountDropped();
  }
}

void CommandRun::CountDropped() {
  const uint64_t dropped = log_->dropped_bytes();
  deps_.stats.output_bytes_dropped += dropped - std::exchange(dropped_counted_, dropped);
}

void CommandRun::set_away(bool away) {
  if (away == away_since_.has_value()) return;
  away_since_.reset();
  if (away) away_since_ = deps_.clock.Now();
  changed().NotifyAll();
}

Task<void> CommandRun::TakeData(DataEvent data) {
  deps_.stats.output_bytes += data.data.size();
  std::string_view rest = data.data;
  while (!rest.empty()) {
    std::string_view piece = rest.substr(0, kMaxAppend);
    if (info_.output.overflow != Overflow::kDropMiddle) {
      TakeWithinLimit(data.stream, data.offset, piece);
    } else {
      TakeOrDrop(data.stream, data.offset, piece);
      co_await WaitForReader(data.stream, piece.size());
    }
    rest.remove_prefix(piece.size());
    data.offset += piece.size();
  }
  if (std::exchange(dropped_, false) && !OnDisk()) co_await SaveDropped();
  if (info_.output.overflow == Overflow::kKill && Refused()) co_await KillAtLimit();
  Ack();
}

// What was refused is acknowledged only of a command that is to end or has ended: it need not wait
// any more, and neither need its end wait for room over there.
void CommandRun::Ack() {
  uint64_t safe[kOutputStreams];
  for (size_t i = 0; i < kOutputStreams; ++i) {
    const OutputStream stream = static_cast<OutputStream>(i);
    safe[i] = log_->on_disk(stream);
    if ((given_up_ || over_) && safe[i] == log_->end(stream))
      safe[i] = std::max(safe[i], refused_to_[i]);
  }
  channel_->Ack(safe[0], safe[1]);
}

Task<void> CommandRun::WaitForReader(OutputStream stream, uint64_t bytes) {
  const size_t i = static_cast<size_t>(stream);
  Lead& lead = lead_[i];
  const auto far_ahead = [this, stream, &lead] {
    return readers_ > 0 && !abandoned_ && log_->end(stream) - lead.read_to > kMostLead;
  };
  lead.taken += bytes;
  if (lead.taken >= kTurnBytes) {
    lead.keeps_up = !far_ahead() || lead.read_to - lead.turn_begin >= kTurnBytes / 2;
    lead.turn_begin = lead.read_to;
    lead.taken = 0;
    lead.left = kTurn;
  }
  if (!lead.keeps_up || !far_ahead()) co_return;
  const SteadyTime begun = deps_.clock.Now();
  const SteadyTime until = begun + lead.left;
  auto alarm = deps_.clock.At(until, [this] { read_.NotifyAll(); });
  while (far_ahead() && deps_.clock.Now() < until) co_await read_.Wait();
  lead.left -= std::min(lead.left, deps_.clock.Now() - begun);
}

void CommandRun::RemoveReader() {
  --readers_;
  read_.NotifyAll();
}

void CommandRun::NoteRead(OutputStream stream, uint64_t offset) {
  uint64_t& to = lead_[static_cast<size_t>(stream)].read_to;
  to = std::max(to, offset);
  read_.NotifyAll();
}

// What was dropped must be acknowledged, or the far side's window stays full for ever; and what
// comes before it may be in memory only. So the row is stored first. While even that fails the
// command is held.
Task<void> CommandRun::SaveDropped() {
  StoredCommand row{.info = info_, .output = log_->Save()};
  if (!co_await Stored(std::move(row))) co_return;
  channel_->Ack(log_->end(OutputStream::kStdout), log_->end(OutputStream::kStderr));
}

bool CommandRun::OnDisk() const {
  return log_->on_disk(OutputStream::kStdout) == log_->end(OutputStream::kStdout) &&
         log_->on_disk(OutputStream::kStderr) == log_->end(OutputStream::kStderr);
}

void CommandRun::TakeOrDrop(OutputStream stream, uint64_t offset, std::string_view data) {
  absl::Status status = log_->Append(stream, offset, data);
  if (status.ok()) return;
  // The policy says to drop rather than to hold the command; readers are told by a gap.
  LogWarning("output dropped: " + std::string(status.message()), ContextOf(info_));
  log_->Skip(stream, offset + data.size());
  dropped_ = true;
}

// BLOCK_PROCESS and KILL: the log takes what fits. What does not fit is never acknowledged, so
// under BLOCK_PROCESS the far side's window fills and the command waits; room never grows again, so
// these bytes need not be held here. While the disk is full they are, for it may have room again.
void CommandRun::TakeWithinLimit(OutputStream stream, uint64_t offset, std::string_view data) {
  if (held_.empty() && TakeWhatFits(stream, offset, data)) return;
  if (given_up_ || info_.output.overflow == Overflow::kKill) {
    RefuseTo(stream, offset + data.size());
    return;
  }
  if (held_.empty()) LogWarning("the command waits: no room for its output", ContextOf(info_));
  held_.push_back({stream, offset, std::string(data)});
  if (retry_ == nullptr)
    retry_ = deps_.clock.At(deps_.clock.Now() + kRetryPause, [this] { RetryHeld(); });
}

// False: the disk is full. Nothing behind what was refused is taken.
bool CommandRun::TakeWhatFits(OutputStream stream, uint64_t offset, std::string_view data) {
  const uint64_t end = log_->end(stream);
  const uint64_t to = offset + data.size();
  if (offset <= end && to > end) {
    const uint64_t most = end - offset + log_->room(stream);
    if (!log_->Append(stream, offset, data.substr(0, most)).ok()) return false;
  }
  RefuseTo(stream, to);
  return true;
}

void CommandRun::RefuseTo(OutputStream stream, uint64_t to) {
  if (to <= log_->end(stream)) return;
  if (!Refused() && !given_up_ && info_.output.overflow == Overflow::kBlockProcess)
    LogInfo("the command waits: it is at its output limit", ContextOf(info_));
  uint64_t& refused = refused_to_[static_cast<size_t>(stream)];
  refused = std::max(refused, to);
}

bool CommandRun::Refused() const { return refused_to_[0] > 0 || refused_to_[1] > 0; }

Task<void> CommandRun::KillAtLimit() {
  if (std::exchange(given_up_, true)) co_return;
  LogInfo("killed at its output limit", ContextOf(info_));
  (void)co_await channel_->Kill(info_.kill_grace, Cause::kOutputLimit);
}

void CommandRun::RetryHeld() {
  retry_.reset();
  while (!held_.empty() && TakeWhatFits(held_[0].stream, held_[0].offset, held_[0].data)) {
    held_.pop_front();
  }
  if (!held_.empty()) {
    retry_ = deps_.clock.At(deps_.clock.Now() + kRetryPause, [this] { RetryHeld(); });
    return;
  }
  Ack();
  changed().NotifyAll();
}

void CommandRun::RefuseHeld() {
  retry_.reset();
  for (const Held& held : std::exchange(held_, {})) {
    RefuseTo(held.stream, held.offset + held.data.size());
  }
  for (size_t i = 0; i < kOutputStreams; ++i)
    log_->Skip(static_cast<OutputStream>(i), refused_to_[i]);
}

CommandInfo CommandRun::Ended(Outcome outcome) const {
  CommandInfo shown = info_;
  shown.state = outcome.state;
  shown.residual = outcome.residual;
  shown.end_time = deps_.clock.NowWall();
  for (size_t i = 0; i < kOutputStreams; ++i) {
    shown.produced.offset[i] = log_->end(static_cast<OutputStream>(i));
  }
  shown.outcome = std::move(outcome);
  return shown;
}

Task<void> CommandRun::TakeEnd(Outcome outcome) {
  if (ended()) co_return;  // told again after a restart: the first one stands
  // Only an end that nobody asked for waits until the disk takes what came before it.
  while (outcome.state == CommandState::kExited && !held_.empty() && !given_up_ && !abandoned_) {
    co_await changed().Wait();
  }
  if (abandoned_) co_return;
  RefuseHeld();
  if (start_again_ != nullptr && outcome.launch_stage == LaunchStage::kAfter &&
      outcome.cause == Cause::kLaunchFailed) {
    absl::StatusOr<std::unique_ptr<Channel>> again = co_await std::exchange(start_again_, {})();
    came_to_nothing_ = again.status();
    if (again.ok()) next_channel_ = *std::move(again);
    co_return;
  }
  if (!co_await Commit(Ended(std::move(outcome)))) co_return;
  channel_->Ack(log_->end(OutputStream::kStdout), log_->end(OutputStream::kStderr));
}

Task<void> CommandRun::TakeDrained() {
  if (next_channel_ != nullptr) {
    channel_->Forget();
    former_channel_ = std::exchange(channel_, std::move(next_channel_));
    changed().NotifyAll();
    co_return;
  }
  bool was_residual = info_.residual;
  RefuseHeld();
  log_->Finish();
  if (was_residual) {
    CommandInfo shown = info_;
    shown.residual = false;
    if (!co_await Commit(std::move(shown))) co_return;
  }
  channel_->Forget();
}

// Returns when the row is in the store; false: let go of before that, nothing may be built on it.
Task<bool> CommandRun::Stored(StoredCommand row) {
  while (!abandoned_) {
    absl::Status status = co_await deps_.store.PutCommand(row);
    if (status.ok()) co_return true;
    LogError("a command cannot be stored yet: " + std::string(status.message()), ContextOf(info_));
    co_await deps_.clock.SleepFor(kRetryPause);
  }
  co_return false;
}

// Makes `shown` true: first in the store, then to everybody who asks.
Task<bool> CommandRun::Commit(CommandInfo shown) {
  StoredCommand row;
  row.info = shown;
  row.forgotten = shown.outcome.has_value() && !shown.residual;
  row.output = log_->Save();
  if (!co_await Stored(std::move(row))) co_return false;
  if (shown.outcome && !ended())
    LogDebug("command ended: " + Told(*shown.outcome), ContextOf(shown));
  info_ = std::move(shown);
  changed().NotifyAll();
  co_return true;
}

void CommandRun::Prepare(std::string_view phase, WishPtr wish) {
  phase_ = phase;
  preparation_ = std::move(wish);
  changed().NotifyAll();
}

Task<bool> CommandRun::SetFarId(std::string far_id) {
  CommandInfo named = info_;
  named.far_id = std::move(far_id);
  co_return co_await Commit(std::move(named));
}

Task<bool> CommandRun::SetIncarnation(std::string incarnation) {
  CommandInfo placed = info_;
  placed.incarnation = std::move(incarnation);
  co_return co_await Commit(std::move(placed));
}

void CommandRun::FailStart(absl::Status why) {
  CHECK(!why.ok());
  start_error_ = std::move(why);
  log_->Finish();
  changed().NotifyAll();
}

Task<void> CommandRun::WaitStarted() {
  std::shared_ptr<CommandRun> self = shared_from_this();
  while (info_.state < CommandState::kRunning && start_error_.ok() && !abandoned_) {
    co_await changed().Wait();
  }
}

Task<void> CommandRun::EndWith(Outcome outcome) {
  std::shared_ptr<CommandRun> self = shared_from_this();
  RefuseHeld();
  CommandInfo shown = ended() ? info_ : Ended(std::move(outcome));
  shown.residual = false;
  co_await Commit(std::move(shown));
  log_->Finish();
}

Task<absl::Status> CommandRun::WriteStdin(uint64_t offset, std::string data, bool eof) {
  std::shared_ptr<CommandRun> self = shared_from_this();
  co_await WaitStarted();
  if (ended() || channel_ == nullptr || !start_error_.ok()) {
    co_return Error(Reason::k_STDIN_CLOSED, "stdin is closed: the command has ended",
                    {{"field", "name"}});
  }
  co_return co_await channel_->WriteStdin(offset, std::move(data), eof);
}

uint64_t CommandRun::stdin_accepted() const {
  return channel_ == nullptr ? 0 : channel_->stdin_accepted();
}

Task<void> CommandRun::StdinTaken() {
  std::shared_ptr<CommandRun> self = shared_from_this();
  if (channel_ != nullptr) co_await channel_->StdinTaken();
}

absl::Status CommandRun::Signal(int signal, int scope) {
  if (channel_ == nullptr || drained()) {
    return Error(Reason::k_BAD_FIELD, "the command is not running", {{"field", "name"}});
  }
  return channel_->Signal(signal, scope);
}

absl::Status CommandRun::Resize(uint16_t cols, uint16_t rows) {
  if (!info_.has_pty) {
    return Error(Reason::k_BAD_FIELD, "the command has no terminal to resize",
                 {{"field", "resize"}});
  }
  if (channel_ == nullptr || ended())
    return absl::OkStatus();  // a late resize is not worth an error
  return channel_->Resize(cols, rows);
}

Task<absl::StatusOr<TreeReport>> CommandRun::Kill(Duration grace, Cause cause) {
  std::shared_ptr<CommandRun> self = shared_from_this();
  if (preparation_ != nullptr) preparation_->Withdraw();
  // Not for the start itself: a command may wait long for its turn over there. One of an earlier
  // hermesd has its channel once it is adopted, also if all that is left of it is children.
  while (channel_ == nullptr && !drained() && (!ended() || info_.residual) && start_error_.ok() &&
         !abandoned_) {
    co_await changed().Wait();
  }
  if (!start_error_.ok()) co_return start_error_;
  if (abandoned_ && !drained()) co_return Error(Reason::k_DRAINING, "the daemon is shutting down");
  if (drained() || channel_ == nullptr) {
    TreeReport nothing;
    nothing.verified = info_.state != CommandState::kUnknown;
    co_return info_.outcome&& info_.outcome->tree ? *info_.outcome->tree : nothing;
  }
  absl::StatusOr<TreeReport> report = TreeReport();
  const Channel* killed = nullptr;
  while (report.ok() && killed != channel_.get()) {  // it may have been started again meanwhile
    killed = channel_.get();
    given_up_ = true;
    changed().NotifyAll();
    report = co_await channel_->Kill(grace, cause);
    Ack();
    if (report.ok()) deps_.stats.kill_survivors += report->survivors;
    while (report.ok() && killed == channel_.get() && !ended() && start_error_.ok() && !abandoned_)
      co_await changed().Wait();
  }
  if (!start_error_.ok()) co_return start_error_;
  if (abandoned_ && !ended())
    co_return Error(Reason::k_DRAINING, "the daemon is shutting down; the kill goes on");
  if (abandoned_ && !report.ok()) co_return TreeReport{};  // given up with its place
  co_return report;
}

Task<void> CommandRun::WaitEnded(SteadyTime deadline) {
  std::shared_ptr<CommandRun> self = shared_from_this();
  auto alarm = deps_.clock.At(deadline, [self] { self->changed().NotifyAll(); });
  while (!ended() && start_error_.ok() && !abandoned_ && deps_.clock.Now() < deadline) {
    co_await changed().Wait();
  }
}

void CommandRun::Abandon() {
  abandoned_ = true;
  retry_.reset();
  read_.NotifyAll();
  if (preparation_ != nullptr) preparation_->Withdraw();
  if (channel_ != nullptr) channel_->Abandon();
  changed().NotifyAll();
}

}  // namespace hermes
