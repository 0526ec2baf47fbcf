#include "backends/engine/runner_command.h"

#include <algorithm>
#include <utility>

#include "backends/engine/runner_wire.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using frames::Type;

// Pieces are joined up to this size: every piece costs the log a mark and the reader a turn.
constexpr size_t kMergedBytes = 256 << 10;

size_t Index(OutputStream stream) { return static_cast<size_t>(stream); }

absl::Status Malformed(std::string_view what) {
  return Error(Reason::k_BACKEND_UNREACHABLE, "the runner sent a bad " + std::string(what));
}

}  // namespace

RunnerCommand::RunnerCommand(Loop& loop, std::shared_ptr<RunnerPort> port, Init init)
    : port_(std::move(port)),
      number_(init.number),
      run_id_(std::move(init.run_id)),
      session_(std::move(init.session)),
      stdin_window_(init.pace ? frames::kFilesStdinWindow : frames::kStdinWindow),
      pace_(std::move(init.pace)),
      start_frame_(std::move(init.start_frame)),
      changed_(loop),
      next_(init.from),
      safe_(init.from) {
  stdin_known_ = !start_frame_.empty();
  stdin_closed_ = stdin_known_ && !init.stdin_open;
  if (!stdin_known_) stdin_earlier_ = stdin_window_;
}

absl::Status RunnerCommand::OnFrame(const frames::Frame& frame) {
  switch (frame.type) {
    case Type::kStarted:
      return OnStarted(frame.payload);
    case Type::kOut:
      return OnData(OutputStream::kStdout, frame.payload);
    case Type::kErr:
      return OnData(OutputStream::kStderr, frame.payload);
    case Type::kExit:
      return OnExit(frame.payload);
    case Type::kDrained:
      return OnDrained();
    case Type::kKilled:
      return OnKilled(frame.payload);
    case Type::kStdinAck:
      return OnStdinAck(frame.payload);
    case Type::kRefused:
      return OnRefused(frame.payload);
    default:
      return absl::OkStatus();
  }
}

// ---- what the runner tells

absl::Status RunnerCommand::OnStarted(std::string_view payload) {
  frames::Reader reader(payload);
  const uint32_t pid = reader.U32();
  reader.U8();
  if (!reader.done()) return Malformed("STARTED");
  std::string().swap(start_frame_);
  if (!std::exchange(started_, true)) Push(StartedEvent{pid});
  return absl::OkStatus();
}

absl::Status RunnerCommand::OnData(OutputStream stream, std::string_view payload) {
  frames::Reader reader(payload);
  uint64_t offset = reader.U64();
  std::string_view bytes = reader.Rest();
  if (!reader.ok() || bytes.size() > frames::kMaxDataBytes || offset + bytes.size() < offset) {
    return Malformed("data frame");
  }
  if (drained_) return absl::OkStatus();
  uint64_t& next = next_.at[Index(stream)];
  if (offset > next && !settled_) return absl::OkStatus();
  if (offset > next) NoteLost(stream, offset);
  const uint64_t known = std::min<uint64_t>(next - offset, bytes.size());
  bytes.remove_prefix(known);
  if (!bytes.empty()) PushData(stream, next, bytes);
  next += bytes.size();
  if (unread_bytes_ > kMaxUnreadBytes || events_.size() > kMaxUnreadEvents) {
    return Error(Reason::k_BACKEND_UNREACHABLE, "the runner sent more than its window");
  }
  TellEnd();
  SendAck();
  return absl::OkStatus();
}

void RunnerCommand::NoteLost(OutputStream stream, uint64_t to) {
  uint64_t& next = next_.at[Index(stream)];
  if (to <= next) return;
  Push(LostEvent{stream, next, to});
  next = to;
}

absl::Status RunnerCommand::OnExit(std::string_view payload) {
  std::optional<frames::Exit> exit = frames::Decode<frames::Exit>(payload);
  if (!exit) return Malformed("EXIT");
  if (!ended_ && !exit_ && !HasAllBefore(*exit)) Push(OverEvent{});
  exit_ = *std::move(exit);
  TellEnd();
  SendAck();
  return absl::OkStatus();
}

bool RunnerCommand::HasAllBefore(const frames::Exit& exit) const {
  return next_.at[0] >= exit.out && next_.at[1] >= exit.err;
}

void RunnerCommand::TellEnd() {
  if (exit_ && HasAllBefore(*exit_)) End(FromWire(*exit_));
}

void RunnerCommand::End(Outcome outcome) {
  if (std::exchange(ended_, true)) return;
  std::string().swap(start_frame_);
  std::string().swap(stdin_unacked_);
  Push(EndedEvent{std::move(outcome)});
}

void RunnerCommand::EndForGood(Outcome outcome) {
  End(exit_ ? FromWire(*exit_) : std::move(outcome));
  if (!std::exchange(drained_, true)) Push(DrainedEvent{});
}

absl::Status RunnerCommand::OnDrained() {
  if (!exit_) return Malformed("DRAINED before EXIT");
  End(FromWire(*exit_));
  if (!std::exchange(drained_, true)) Push(DrainedEvent{});
  return absl::OkStatus();
}

absl::Status RunnerCommand::OnKilled(std::string_view payload) {
  std::optional<frames::TreeReport> report = frames::Decode<frames::TreeReport>(payload);
  if (!report) return Malformed("KILLED");
  AnswerKill(FromWire(*report));
  return absl::OkStatus();
}

void RunnerCommand::AnswerKill(absl::StatusOr<TreeReport> answer) {
  if (!kill_) return;
  kill_.reset();
  kill_answer_ = std::move(answer);
  ++kills_answered_;
  changed_.NotifyAll();
}

absl::Status RunnerCommand::OnStdinAck(std::string_view payload) {
  frames::Reader reader(payload);
  const uint64_t accepted = reader.U64();
  const bool closed = reader.U8() != 0;
  if (!reader.done()) return Malformed("STDIN_ACK");
  if (!std::exchange(stdin_known_, true)) {
    stdin_acked_ = stdin_end_ = accepted;
    stdin_earlier_ += accepted;
  }
  if (accepted > std::max(stdin_end_, stdin_earlier_))
    return Malformed("STDIN_ACK beyond what was sent");
  stdin_end_ = std::max(stdin_end_, accepted);
  if (accepted > stdin_acked_) {
    stdin_unacked_.erase(0, accepted - stdin_acked_);
    stdin_acked_ = accepted;
    if (pace_) pace_->OnAcknowledged(accepted);
  }
  if (closed) {
    stdin_closed_ = true;
    std::string().swap(stdin_unacked_);
  }
  changed_.NotifyAll();
  return absl::OkStatus();
}

absl::Status RunnerCommand::OnRefused(std::string_view payload) {
  frames::Reader reader(payload);
  std::string_view reason = reader.Str();
  std::string_view message = reader.Str();
  if (!reader.done()) return Malformed("REFUSED");
  if (!start_frame_.empty()) {
    EndForGood(RefusedOutcome(reason, message));
  } else if (reason == InfoOf(Reason::k_COMMAND_UNKNOWN).name) {
    OnUnknown();
  } else if (kill_) {
    AnswerKill(RefusedStatus(reason, message));
  } else {
    LogDebug("the runner refused a frame: " + Printable(message, 200));
  }
  return absl::OkStatus();
}

// ---- the connection comes and goes

void RunnerCommand::OnAttached(const frames::Listed* listed) {
  if (drained_) return;
  if (pace_) pace_->OnLost();
  if (listed == nullptr && !start_frame_.empty()) {
    port_->out()->append(start_frame_);  // it never arrived: the runner would know the run id
    ResendStdin();
    SendKill();
    port_->Flush();
    return;
  }
  if (listed == nullptr) return OnUnknown();
  std::string().swap(start_frame_);
  if (listed->pid != 0 && !std::exchange(started_, true)) Push(StartedEvent{listed->pid});
  NoteLost(OutputStream::kStdout, listed->out_first);
  NoteLost(OutputStream::kStderr, listed->err_first);
  frames::Writer writer(*port_->out());
  writer.Begin(Type::kAttach, number_);
  writer.U64(next_.at[0]);
  writer.U64(next_.at[1]);
  writer.End();
  sent_ack_ = Offsets{};
  SendAck();
  ResendStdin();
  SendKill();
  port_->Flush();
}

void RunnerCommand::OnRunnerGone() {
  gone_ = true;
  OnUnknown();
}

void RunnerCommand::OnUnknown() {
  AnswerKill(Error(Reason::k_INCARNATION_CHANGED, "the runner does not know the command"));
  EndForGood(RunnerDiedOutcome());
}

void RunnerCommand::OnSessionClosed() {
  AnswerKill(Error(Reason::k_SESSION_NOT_READY, "the session is closed"));
  EndForGood(RunnerDiedOutcome());
}

void RunnerCommand::OnPong(uint64_t ping) {
  if (ping < fence_) return;
  settled_ = true;
  stdin_known_ = true;
  changed_.NotifyAll();
}

// ---- events for the reader

void RunnerCommand::Push(ChannelEvent event) {
  events_.push_back(std::move(event));
  changed_.NotifyAll();
}

// Joins a small piece to the last one of its stream, past at most one piece of the other stream:
// order is kept within a stream and against every other event.
void RunnerCommand::PushData(OutputStream stream, uint64_t offset, std::string_view bytes) {
  unread_bytes_ += bytes.size();
  for (size_t back = 1; back <= std::min<size_t>(2, events_.size()); ++back) {
    DataEvent* last = std::get_if<DataEvent>(&events_[events_.size() - back]);
    if (last == nullptr) break;
    if (last->stream != stream) continue;
    if (last->data.size() + bytes.size() > kMergedBytes) break;
    if (bytes.size() == frames::kMaxDataBytes) last->data.reserve(kMergedBytes);  // more will come
    last->data.append(bytes);
    return;
  }
  Push(DataEvent{stream, offset, std::string(bytes)});
}

Task<absl::StatusOr<ChannelEvent>> RunnerCommand::Read(Ptr self) {
  while (self->events_.empty() && !self->abandoned_ && !self->drained_) {
    co_await self->changed_.Wait();
  }
  if (self->abandoned_) co_return absl::CancelledError("the channel was abandoned");
  if (self->events_.empty()) co_return absl::CancelledError("the channel is at its end");
  ChannelEvent event = std::move(self->events_.front());
  self->events_.pop_front();
  if (DataEvent* data = std::get_if<DataEvent>(&event)) self->unread_bytes_ -= data->data.size();
  co_return event;
}

void RunnerCommand::Abandon() {
  abandoned_ = true;
  changed_.NotifyAll();
}

void RunnerCommand::Ack(Offsets safe) {
  for (size_t i = 0; i < kOutputStreams; ++i) safe_.at[i] = std::max(safe_.at[i], safe.at[i]);
  SendAck();
}

void RunnerCommand::SendAck() {
  bool any = false;
  bool due = ended_ || drained_;
  for (size_t i = 0; i < kOutputStreams; ++i) {
    if (safe_.at[i] <= sent_ack_.at[i]) continue;
    any = true;
    due = due || safe_.at[i] - sent_ack_.at[i] >= kAckBytes ||
          next_.at[i] - sent_ack_.at[i] >= frames::kOutputWindow / 2;
  }
  std::string* out = port_->out();
  if (!any || !due || out == nullptr) return;
  frames::Writer writer(*out);
  writer.Begin(Type::kAck, number_);
  writer.U64(safe_.at[0]);
  writer.U64(safe_.at[1]);
  writer.End();
  sent_ack_ = safe_;
  port_->Flush();
}

// The number of a command of a runner that is gone may belong to another one by now.
void RunnerCommand::Drop(bool forget) {
  Abandon();
  if (!gone_) port_->Drop(number_, forget);
  gone_ = true;
}

// ---- stdin

Task<absl::Status> RunnerCommand::WriteStdin(Ptr self, uint64_t offset, std::string data,
                                             bool eof) {
  while (self->stdin_busy_) co_await self->changed_.Wait();
  self->stdin_busy_ = true;
  absl::Status status = co_await WriteStdinInTurn(self, offset, std::move(data), eof);
  self->stdin_busy_ = false;
  self->changed_.NotifyAll();
  co_return status;
}

Task<absl::Status> RunnerCommand::WriteStdinInTurn(Ptr self, uint64_t offset, std::string data,
                                                   bool eof) {
  while (!self->stdin_known_ && !self->stdin_over()) co_await self->changed_.Wait();
  if (offset > self->stdin_end_) {
    co_return Error(Reason::k_STDIN_OFFSET_MISMATCH, "stdin continues at the accepted offset",
                    {{"accepted", std::to_string(self->stdin_end_)}});
  }
  // What was taken before is not taken twice, so a retry of a lost call succeeds. More of it may
  // turn out to be taken while this waits.
  while (self->stdin_end_ - offset < data.size()) {
    const size_t taken = self->stdin_end_ - offset;
    if (self->stdin_over()) co_return Error(Reason::k_STDIN_CLOSED, "stdin is closed");
    if (!self->MayWriteStdin(data.size() - taken)) {
      co_await self->changed_.Wait();
      continue;
    }
    const uint64_t on_the_way = self->stdin_end_ - self->stdin_acked_;
    const size_t piece = std::min<uint64_t>(
        {data.size() - taken, self->stdin_window_ - on_the_way, frames::kMaxDataBytes});
    std::string_view bytes = std::string_view(data).substr(taken, piece);
    self->SendStdin(self->stdin_end_, bytes);
    self->stdin_unacked_.append(bytes);
    self->stdin_end_ += piece;
    if (self->pace_) self->pace_->OnSent(self->stdin_end_);
    co_await self->port_->Room();
  }
  if (eof && !self->stdin_over()) {
    self->stdin_eof_ = true;
    self->SendStdinEof();
  }
  co_return absl::OkStatus();
}

Task<void> RunnerCommand::StdinTaken(Ptr self) {
  while (!self->stdin_closed_ && !self->ended_ && !self->abandoned_) co_await self->changed_.Wait();
}

// At a pace whole pieces go out: an acknowledgement may be of few bytes.
bool RunnerCommand::MayWriteStdin(size_t left) const {
  const uint64_t on_the_way = stdin_end_ - stdin_acked_;
  if (on_the_way >= stdin_window_) return false;
  return !pace_ || on_the_way + std::min(left, frames::kMaxDataBytes) <= pace_->window();
}

void RunnerCommand::SendStdin(uint64_t offset, std::string_view data) {
  std::string* out = port_->out();
  if (out == nullptr) return;  // said again by OnAttached
  frames::EncodeData(*out, number_, Type::kStdin, offset, data);
  port_->Flush();
}

void RunnerCommand::SendStdinEof() {
  std::string* out = port_->out();
  if (out == nullptr) return;
  frames::Writer writer(*out);
  writer.Begin(Type::kStdinEof, number_);
  writer.U64(stdin_end_);
  writer.End();
  port_->Flush();
}

void RunnerCommand::ResendStdin() {
  if (!stdin_known_ || stdin_closed_ || ended_) return;
  std::string_view rest = stdin_unacked_;
  uint64_t offset = stdin_acked_;
  while (!rest.empty()) {
    std::string_view piece = rest.substr(0, frames::kMaxDataBytes);
    SendStdin(offset, piece);
    offset += piece.size();
    rest.remove_prefix(piece.size());
  }
  if (stdin_eof_) SendStdinEof();
}

// ---- signals and kills

absl::Status RunnerCommand::ReadyForUrgent() const {
  if (port_->out() == nullptr) return Error(Reason::k_RECONNECTING, "the place is not connected");
  if (port_->queued() > kMaxQueuedUrgentBytes) {
    return Error(Reason::k_RECONNECTING, "the connection to the place is congested");
  }
  return absl::OkStatus();
}

absl::Status RunnerCommand::Signal(int signal, int scope) {
  if (drained_) return absl::OkStatus();  // nobody is left to get it
  RETURN_IF_ERROR(ReadyForUrgent());
  frames::Writer writer(*port_->out());
  writer.Begin(Type::kSignal, number_);
  writer.U8(static_cast<uint8_t>(signal));
  writer.U8(static_cast<uint8_t>(scope));
  writer.End();
  port_->Flush();
  return absl::OkStatus();
}

absl::Status RunnerCommand::Resize(uint16_t cols, uint16_t rows) {
  if (drained_) return absl::OkStatus();
  RETURN_IF_ERROR(ReadyForUrgent());
  frames::Writer writer(*port_->out());
  writer.Begin(Type::kResize, number_);
  writer.U16(cols);
  writer.U16(rows);
  writer.End();
  port_->Flush();
  return absl::OkStatus();
}

Task<absl::StatusOr<TreeReport>> RunnerCommand::Kill(Ptr self, Duration grace, Cause cause) {
  if (self->drained_) {
    TreeReport nothing_left;
    nothing_left.method = KillMethod::kSupervisor;
    nothing_left.verified = true;
    co_return nothing_left;
  }
  const uint64_t grace_ms = std::min<uint64_t>(ToMillis(grace), UINT32_MAX);
  self->kill_ = PendingKill{static_cast<uint32_t>(grace_ms), ToWire(cause)};
  self->SendKill();
  const uint64_t answered = self->kills_answered_;
  while (answered == self->kills_answered_ && !self->abandoned_) co_await self->changed_.Wait();
  if (answered == self->kills_answered_)
    co_return absl::CancelledError("the channel was abandoned");
  co_return self->kill_answer_;
}

void RunnerCommand::SendKill() {
  std::string* out = port_->out();
  if (!kill_ || out == nullptr) return;
  frames::Writer writer(*out);
  writer.Begin(Type::kKill, number_);
  writer.U32(kill_->grace_ms);
  writer.U8(static_cast<uint8_t>(kill_->cause));
  writer.End();
  port_->Flush();
}

}  // namespace hermes
