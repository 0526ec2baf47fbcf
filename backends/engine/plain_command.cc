#include "backends/engine/plain_command.h"

#include <errno.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <asio/co_spawn.hpp>

#include "backends/engine/runner_wire.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes::plain {
namespace {

constexpr size_t kPieceBytes = 64 << 10;
constexpr size_t kMergedBytes = 64 << 10;  // small pieces are joined up to this size
constexpr int kSignalStatus = 128;         // a shell's status of a child that a signal ended
constexpr size_t kMaxWhyBytes = 200;       // of a place's words in an outcome; the rest is cut

size_t Index(OutputStream which) { return static_cast<size_t>(which); }

void Spawn(Loop& loop, Task<void> task) {
  asio::co_spawn(loop.executor(), std::move(task), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
}

// "status signalled watchdog"
struct Trailer {
  int status = 0;
  bool signalled = false;
  int watchdog = 0;
};

// nullopt: not one; then nothing is known.
std::optional<Trailer> ParseTrailer(std::string_view text) {
  int numbers[3] = {0, 0, 0};
  const char* at = text.data();
  const char* end = at + text.size();
  for (int& number : numbers) {
    if (&number != numbers) {
      if (at == end || *at != ' ') return std::nullopt;
      ++at;
    }
    auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc()) return std::nullopt;
    at = next;
  }
  if (at != end) return std::nullopt;
  return Trailer{numbers[0], numbers[1] != 0, numbers[2]};
}

Outcome LaunchFailed(std::string_view word) {
  Outcome outcome;
  outcome.state = CommandState::kNeverStarted;
  outcome.cause = Cause::kLaunchFailed;
  outcome.state_reason = "never started";
  outcome.launch_stage = LaunchStage::kOther;
  if (word == kLaunchBadCwd) {
    outcome.launch_stage = LaunchStage::kBadCwd;
    outcome.launch_errno = ENOENT;
  } else if (word == kLaunchNotFound) {
    outcome.launch_stage = LaunchStage::kNotFound;
    outcome.launch_errno = ENOENT;
  } else if (word == kLaunchNotExecutable) {
    outcome.launch_stage = LaunchStage::kNotExecutable;
    outcome.launch_errno = EACCES;
  }
  return outcome;
}

// The place gave no stream, after Start had returned.
Outcome NoStream(const absl::Status& why) {
  Outcome outcome = LaunchFailed("");
  const std::optional<Reason> reason = ReasonOf(why);
  outcome.state_reason += ": ";
  if (reason) outcome.state_reason += std::string(InfoOf(*reason).name) + ": ";
  outcome.state_reason += Printable(std::string(why.message()), kMaxWhyBytes);
  return outcome;
}

// Ends a process that has not said otherwise; one that is not started yet has not.
bool EndsByDefault(int signal) {
  return signal == SIGHUP || signal == SIGINT || signal == SIGQUIT || signal == SIGTERM ||
         signal == SIGKILL;
}

// Of a kill that found the command before it was started: that nothing is left is certain.
TreeReport NothingStarted() {
  return TreeReport{.method = KillMethod::kGroupAndCookie, .verified = true};
}

std::string_view KillWord(Cause cause) {
  switch (cause) {
    case Cause::kRunTimeout:
      return "timeout";
    case Cause::kCancelled:
      return "cancelled";
    default:
      return "killed";
  }
}

}  // namespace

PlainCommand::PlainCommand(std::shared_ptr<Place> place, Init init)
    : place_(std::move(place)), init_(std::move(init)), changed_(place_->loop) {}

// ---- the stream

void PlainCommand::Begin(std::string boot_line, std::string framed) {
  framed_ = std::move(framed);
  Spawn(place_->loop, Open(weak_from_this(), place_, std::move(boot_line), wish_));
}

// Does not hold the command: a withdrawn one is gone while the place may still keep its turn.
Task<void> PlainCommand::Open(std::weak_ptr<PlainCommand> weak, std::shared_ptr<Place> place,
                              std::string boot_line, WishPtr wish) {
  absl::StatusOr<std::unique_ptr<Stream>> stream =
      co_await place->sandbox->OpenStream(std::move(boot_line), Lane::kCommand, std::move(wish));
  if (Ptr self = weak.lock()) self->OnStream(std::move(stream));
}

void PlainCommand::OnStream(absl::StatusOr<std::unique_ptr<Stream>> stream) {
  if (ended_) return;  // nothing was written to it, nothing will be
  if (stream.ok()) {
    stream_ = *std::move(stream);
    had_stream_ = true;
    Go();
  } else {
    open_error_ = stream.status();
    EndUnstarted(NoStream(open_error_));
  }
  changed_.NotifyAll();
}

Task<void> PlainCommand::WaitOpen(Ptr self, SteadyTime until) {
  std::weak_ptr<PlainCommand> weak = self;
  auto alarm = self->place_->clock.At(until, [weak] {
    if (Ptr command = weak.lock()) command->changed_.NotifyAll();
  });
  while (self->stream_ == nullptr && !self->ended_ && self->place_->clock.Now() < until) {
    co_await self->changed_.Wait();
  }
}

bool PlainCommand::Withdraw(Cause cause) {
  if (had_stream_) return false;
  if (ended_) return true;
  Outcome outcome;
  outcome.state = CommandState::kNeverStarted;
  outcome.cause = cause;
  outcome.state_reason = "never started";
  EndUnstarted(std::move(outcome));
  return true;
}

void PlainCommand::EndUnstarted(Outcome outcome) {
  std::string().swap(framed_);
  End(std::move(outcome));
  drained_ = true;
  Push(DrainedEvent{});
  wish_->Withdraw();
}

void PlainCommand::Go() {
  Ptr self = shared_from_this();
  Spawn(place_->loop, Feed(self, std::exchange(framed_, {})));
  Spawn(place_->loop, Pump(self, OutputStream::kStdout));
  Spawn(place_->loop, Pump(self, OutputStream::kStderr));
  Spawn(place_->loop, Finish(self));
  ArmDeadline(kAnswerLimit);
}

// It counts over there, from the start: before that there is only how long one is waited for.
void PlainCommand::ArmDeadline(Duration slack) {
  if (init_.deadline <= Duration(0)) return;
  std::weak_ptr<PlainCommand> weak = weak_from_this();
  alarm_ = place_->clock.At(place_->clock.Now() + init_.deadline + slack, [weak] {
    Ptr command = weak.lock();
    if (!command) return;
    command->read_regardless_ = true;
    if (!command->said_start_) Spawn(command->place_->loop, GiveUpStart(command));
    command->changed_.NotifyAll();
  });
}

Task<void> PlainCommand::Feed(Ptr self, std::string framed) {
  // A stream that breaks here ends the pumps, too: they tell.
  (void)co_await self->stream_->Write(framed);
  if (!self->init_.stdin_open) self->stream_->CloseStdin();
  self->stdin_closed_ = self->stdin_closed_ || !self->init_.stdin_open;
  self->script_sent_ = true;
  self->stdin_busy_ = false;
  self->changed_.NotifyAll();
}

// ---- output

bool PlainCommand::HasRoom(OutputStream which) const {
  const size_t i = Index(which);
  return read_regardless_ || received_[i] - acked_[i] < kOutputWindow;
}

Task<void> PlainCommand::Pump(Ptr self, OutputStream which) {
  const size_t i = Index(which);
  Scanner scanner(self->init_.start_mark, self->init_.end_mark,
                  {.started =
                       [command = self.get(), which](std::string_view line) {
                         if (which == OutputStream::kStdout) command->OnStarted(line);
                       },
                   .data = [command = self.get(),
                            which](std::string_view data) { command->OnData(which, data); },
                   .line = [command = self.get(),
                            which](std::string_view line) { command->OnLine(which, line); }});
  auto piece = std::make_unique<std::array<char, kPieceBytes>>();
  while (true) {
    while (!self->HasRoom(which)) co_await self->changed_.Wait();
    absl::StatusOr<size_t> bytes =
        co_await (which == OutputStream::kStdout ? self->stream_->ReadStdout(*piece)
                                                 : self->stream_->ReadStderr(*piece));
    if (!bytes.ok() || *bytes == 0) break;
    scanner.Feed(std::string_view(piece->data(), *bytes));
  }
  scanner.Finish();
  self->at_end_[i] = true;
  self->changed_.NotifyAll();
}

void PlainCommand::OnStarted(std::string_view line) {
  said_start_ = true;
  auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), pid_);
  if (error != std::errc() || pid_ <= 1) {
    pid_ = 0;
    launch_failure_ = line;
  } else {
    Push(StartedEvent{pid_});
  }
  ArmDeadline(kDeadlineSlack);
}

// Joins a small piece to the last one of its stream, past at most one of the other.
void PlainCommand::OnData(OutputStream which, std::string_view data) {
  const size_t i = Index(which);
  const uint64_t offset = received_[i];
  received_[i] += data.size();
  last_data_ = place_->clock.Now();
  if (offset - read_[i] >= kMostUnread) return OnLost(which, offset, received_[i]);
  for (size_t back = 1; back <= std::min<size_t>(2, events_.size()); ++back) {
    DataEvent* last = std::get_if<DataEvent>(&events_[events_.size() - back]);
    if (last == nullptr) break;
    if (last->stream != which) continue;
    if (last->data.size() + data.size() > kMergedBytes) break;
    last->data.append(data);
    return;
  }
  Push(DataEvent{which, offset, std::string(data)});
}

// Extends the last loss of its stream, past at most one event.
void PlainCommand::OnLost(OutputStream which, uint64_t from, uint64_t to) {
  for (size_t back = 1; back <= std::min<size_t>(2, events_.size()); ++back) {
    LostEvent* last = std::get_if<LostEvent>(&events_[events_.size() - back]);
    if (last == nullptr || last->stream != which || last->to != from) continue;
    last->to = to;
    return;
  }
  Push(LostEvent{which, from, to});
}

void PlainCommand::OnLine(OutputStream which, std::string_view line) {
  if (line.starts_with('e')) {
    trailer_[Index(which)] = std::string(line.substr(1));
    changed_.NotifyAll();
  } else if (which == OutputStream::kStdout && !capture_too_large_) {
    AppendCapture(line, &capture_);
    if (capture_.size() <= shell::kMaxStateBytes) return;
    capture_too_large_ = true;
    std::string().swap(capture_);
  }
}

// ---- the end

// Tells the end when both streams have, or one has and the other is over, or both are over.
Task<void> PlainCommand::Finish(Ptr self) {
  while (!((self->trailer_[0] || self->at_end_[0]) && (self->trailer_[1] || self->at_end_[1]))) {
    co_await self->changed_.Wait();
  }
  while (self->kills_under_way_ > 0) co_await self->changed_.Wait();
  if (self->trailer_[0] || self->trailer_[1]) {
    co_await Settle(self);
    self->End(self->Told());
  } else {
    std::optional<Stream::End> end = co_await self->stream_->WaitEnd();
    self->End(self->Lost(end));
  }
  while (!self->at_end_[0] || !self->at_end_[1]) co_await self->changed_.Wait();
  co_await GiveStreamBack(self);
  self->drained_ = true;
  self->alarm_.reset();
  self->Push(DrainedEvent{});
}

// The place may have few: whoever still holds the command holds no stream with it.
Task<void> PlainCommand::GiveStreamBack(Ptr self) {
  if (self->stdin_busy_) self->stream_->Abort();
  while (self->stdin_busy_) co_await self->changed_.Wait();
  self->stream_.reset();
}

// Children of the command that outlive its shell by a moment (a process substitution) still belong
// to it.
Task<void> PlainCommand::Settle(Ptr self) {
  Clock& clock = self->place_->clock;
  const SteadyTime begin = clock.Now();
  while (!self->at_end_[0] || !self->at_end_[1]) {
    const SteadyTime quiet = std::max(begin, self->last_data_) + kQuiet;
    const SteadyTime until = std::min(quiet, begin + kSettleLimit);
    if (clock.Now() >= until) co_return;
    std::weak_ptr<PlainCommand> weak = self;
    auto alarm = clock.At(until, [weak] {
      if (Ptr command = weak.lock()) command->changed_.NotifyAll();
    });
    co_await self->changed_.Wait();
  }
}

Outcome PlainCommand::Told() {
  if (!launch_failure_.empty()) return LaunchFailed(launch_failure_);
  const std::optional<Trailer> parsed = ParseTrailer(trailer_[0] ? *trailer_[0] : *trailer_[1]);
  if (!parsed) return Lost(std::nullopt);
  const Trailer& trailer = *parsed;
  if (!kill_met_) kill_cause_.reset();
  Outcome outcome;
  outcome.state = CommandState::kExited;
  outcome.cause = Cause::kNatural;
  outcome.signalled = trailer.signalled && trailer.status > kSignalStatus;
  outcome.value = outcome.signalled ? trailer.status - kSignalStatus : trailer.status;
  outcome.residual = !at_end_[0] || !at_end_[1];
  const int told = trailer.watchdog - kWatchdogStatus;
  if (told >= 0 && told <= kMaxToldSurvivors) {
    kill_cause_ = Cause::kRunTimeout;
    tree_ =
        TreeReport{.method = KillMethod::kGroupAndCookie, .survivors = static_cast<uint32_t>(told)};
  }
  if (kill_cause_) {
    outcome.state = CommandState::kKilled;
    outcome.cause = *kill_cause_;
    outcome.tree = tree_;
    outcome.state_reason = KillWord(*kill_cause_);
  } else if (!init_.why_no_state.empty()) {
    outcome.state_reason = init_.why_no_state;
  } else if (capture_too_large_) {
    outcome.state_reason = "too large";
  } else if (capture_.empty()) {
    outcome.state_reason = outcome.signalled ? "killed" : "no capture: exec or own EXIT trap";
  } else {
    init_.commit(capture_, &outcome);
  }
  return outcome;
}

// Nobody told the end. What the transport knows is the reader's end, never the command's; it only
// proves that nothing was started when there was no reader to start it.
Outcome PlainCommand::Lost(std::optional<Stream::End> transport) const {
  if (!said_start_ && transport && !transport->signalled &&
      (transport->value == 126 || transport->value == 127)) {
    return LaunchFailed(transport->value == 127 ? kLaunchNotFound : kLaunchNotExecutable);
  }
  Outcome outcome;
  outcome.state = CommandState::kUnknown;
  outcome.cause = Cause::kSandboxLost;
  outcome.state_reason = "the end is unknown";
  return outcome;
}

void PlainCommand::End(Outcome outcome) {
  ended_ = true;
  stdin_closed_ = true;
  std::string().swap(capture_);
  init_.commit = nullptr;
  Push(EndedEvent{std::move(outcome)});
}

void PlainCommand::Push(ChannelEvent event) {
  events_.push_back(std::move(event));
  changed_.NotifyAll();
}

// ---- the reader

// A second handle goes on where the first stopped; what that one took and did not keep is lost.
void PlainCommand::Attach(const uint64_t (&from)[kOutputStreams]) {
  ++handle_;
  abandoned_ = false;
  for (size_t i = 0; i < kOutputStreams; ++i) {
    if (from[i] < read_[i])
      events_.push_front(LostEvent{static_cast<OutputStream>(i), from[i], read_[i]});
  }
  changed_.NotifyAll();
}

Task<absl::StatusOr<ChannelEvent>> PlainCommand::Read(Ptr self) {
  const uint64_t handle = self->handle_;
  while (self->events_.empty() && !self->abandoned_ && handle == self->handle_) {
    co_await self->changed_.Wait();
  }
  if (self->abandoned_ || handle != self->handle_) {
    co_return absl::CancelledError("the channel was abandoned");
  }
  ChannelEvent event = std::move(self->events_.front());
  self->events_.pop_front();
  if (DataEvent* data = std::get_if<DataEvent>(&event)) {
    self->read_[Index(data->stream)] = data->offset + data->data.size();
  }
  if (LostEvent* lost = std::get_if<LostEvent>(&event)) {
    uint64_t& read = self->read_[Index(lost->stream)];
    read = std::max(read, lost->to);
  }
  co_return event;
}

void PlainCommand::Ack(uint64_t stdout_offset, uint64_t stderr_offset) {
  acked_[0] = std::clamp(stdout_offset, acked_[0], received_[0]);
  acked_[1] = std::clamp(stderr_offset, acked_[1], received_[1]);
  changed_.NotifyAll();
}

void PlainCommand::Abandon() {
  abandoned_ = true;
  changed_.NotifyAll();
}

void PlainCommand::Break() {
  if (Withdraw(Cause::kDaemonRestarted)) return;
  read_regardless_ = true;
  if (stream_ != nullptr) stream_->Abort();
  changed_.NotifyAll();
}

Task<void> PlainCommand::WaitDrained(Ptr self, SteadyTime until) {
  std::weak_ptr<PlainCommand> weak = self;
  auto alarm = self->place_->clock.At(until, [weak] {
    if (Ptr command = weak.lock()) command->changed_.NotifyAll();
  });
  while (!self->drained_ && self->place_->clock.Now() < until) co_await self->changed_.Wait();
}

// ---- stdin

Task<absl::Status> PlainCommand::WriteStdin(Ptr self, uint64_t offset, std::string data, bool eof) {
  if (!self->init_.stdin_open) co_return Error(Reason::k_STDIN_CLOSED, "stdin is closed");
  while (self->stdin_busy_ && !self->ended_) co_await self->changed_.Wait();
  if (self->ended_) co_return Error(Reason::k_STDIN_CLOSED, "stdin is closed");
  self->stdin_busy_ = true;
  absl::Status status = co_await WriteInTurn(self, offset, std::move(data), eof);
  self->stdin_busy_ = false;
  self->changed_.NotifyAll();
  co_return status;
}

Task<absl::Status> PlainCommand::WriteInTurn(Ptr self, uint64_t offset, std::string data,
                                             bool eof) {
  if (offset > self->stdin_end_) {
    co_return Error(Reason::k_STDIN_OFFSET_MISMATCH, "stdin continues at the accepted offset",
                    {{"accepted", std::to_string(self->stdin_end_)}});
  }
  // What was taken before is not taken twice, so a retry of a lost call succeeds.
  std::string_view fresh = data;
  fresh.remove_prefix(std::min<uint64_t>(self->stdin_end_ - offset, fresh.size()));
  while (!fresh.empty()) {
    if (self->stdin_closed_) co_return Error(Reason::k_STDIN_CLOSED, "stdin is closed");
    std::string_view piece = fresh.substr(0, kPieceBytes);
    if (!(co_await self->stream_->Write(piece)).ok()) {
      self->stdin_closed_ = true;
      continue;
    }
    self->stdin_end_ += piece.size();
    fresh.remove_prefix(piece.size());
  }
  if (eof && !std::exchange(self->stdin_closed_, true)) self->stream_->CloseStdin();
  co_return absl::OkStatus();
}

// ---- signals and kills

LadderSpec PlainCommand::Ladder(Duration grace) const {
  LadderSpec spec;
  if (pid() > 1) spec.roots = " " + std::to_string(pid()) + " ";
  spec.cookie = init_.cookie;
  spec.grace_ms = std::chrono::duration_cast<std::chrono::milliseconds>(grace).count();
  return spec;
}

void PlainCommand::ExpectKill(Cause cause) {
  ++kills_under_way_;
  if (!ended_ && !kill_cause_) kill_cause_ = cause;
  read_regardless_ = true;
  changed_.NotifyAll();
}

void PlainCommand::KillDone(const absl::StatusOr<TreeReport>& report) {
  --kills_under_way_;
  if (report.ok()) {
    tree_ = *report;
    kill_met_ = kill_met_ || report->signalled > 0;
  } else if (!ended_) {
    kill_cause_.reset();
    read_regardless_ = false;
  }
  changed_.NotifyAll();
}

Task<absl::StatusOr<TreeReport>> PlainCommand::Kill(Ptr self, Duration grace, Cause cause) {
  if (self->Withdraw(cause)) co_return NothingStarted();
  const bool started = co_await AwaitStart(self);
  absl::StatusOr<TreeReport> report = co_await Climb(self, grace, cause);
  if (!started && !self->said_start_) self->Break();
  co_return report;
}

Task<absl::StatusOr<TreeReport>> PlainCommand::Climb(Ptr self, Duration grace, Cause cause) {
  self->ExpectKill(cause);
  absl::StatusOr<TreeReport> report = co_await Place::Kill(self->place_, self->Ladder(grace));
  self->KillDone(report);
  co_return report;
}

// Before it says its pid, or that it has none, there may be nothing to find yet. False: it says
// neither.
Task<bool> PlainCommand::AwaitStart(Ptr self) {
  const SteadyTime until = self->place_->clock.Now() + kAnswerLimit;
  std::weak_ptr<PlainCommand> weak = self;
  auto alarm = self->place_->clock.At(until, [weak] {
    if (Ptr command = weak.lock()) command->changed_.NotifyAll();
  });
  while (!self->said_start_ && !self->ended_ && self->place_->clock.Now() < until) {
    co_await self->changed_.Wait();
  }
  co_return self->said_start_ || self->ended_;
}

Task<void> PlainCommand::GiveUpStart(Ptr self) {
  (void)co_await Climb(self, Duration(0), Cause::kRunTimeout);
  if (!self->said_start_) self->Break();
}

absl::Status PlainCommand::Signal(int signal, int scope) {
  constexpr int kLeader = 1, kForeground = 2;
  if (scope == kForeground)
    return Error(Reason::k_CAPABILITY_MISSING, "this place has no terminal");
  if (drained_) return absl::OkStatus();  // nobody is left to get it
  if (EndsByDefault(signal) && Withdraw(Cause::kCancelled)) return absl::OkStatus();
  if (!said_start_) return Error(Reason::k_RECONNECTING, "the command is just being started");
  const std::string mark = place_->NewMark();
  std::string text = SignalText(mark, Ladder(Duration(0)), signal, scope != kLeader);
  auto place = place_;
  asio::co_spawn(place_->loop.executor(), Place::AskSoon(place, std::move(text), mark),
                 [place](std::exception_ptr, absl::StatusOr<Place::Answer> answer) {
                   if (!answer.ok())
                     LogWarning("a signal was not sent: " + std::string(answer.status().message()));
                 });
  return absl::OkStatus();
}

}  // namespace hermes::plain
