#include "daemon/core/follow.h"

#include <algorithm>
#include <utility>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

OutputStream StreamAt(int index) { return static_cast<OutputStream>(index); }

PhaseInfo Reconnecting() {
  return {.name = "reconnecting", .detail = "the command goes on meanwhile"};
}

}  // namespace

Follower::Follower(Clock& clock, std::shared_ptr<CommandRun> run, Options options)
    : clock_(clock), run_(std::move(run)), options_(std::move(options)), at_(options_.from) {
  run_->AddReader();
}

Follower::~Follower() { run_->RemoveReader(); }

void Follower::Cancel() {
  cancelled_ = true;
  run_->changed().NotifyAll();
}

void Follower::Drain() {
  draining_ = true;
  run_->changed().NotifyAll();
}

Task<absl::StatusOr<Follower::Result>> Follower::Run(EventSink& sink,
                                                     std::optional<SteadyTime> last_event) {
  co_await run_->WaitStarted();
  if (!run_->start_error().ok()) co_return run_->start_error();
  last_sent_ = last_event.value_or(clock_.Now());
  CO_RETURN_IF_ERROR(co_await CheckCursor(sink));
  if (cancelled_) co_return Result::kReaderGone;
  if (Beyond() >= 0 && WaitOver()) co_return Result::kWaitOver;
  StartedInfo started;
  started.command = run_->info();
  started.attached_to_existing = options_.attached_to_existing;
  started.start = at_;
  if (!co_await SendOne(sink, std::move(started))) co_return Result::kReaderGone;
  co_return co_await Loop(sink);
}

// After a restart the client may know more than the log: bytes that were delivered, and not yet
// safe here, come again from the far side. So such a cursor waits for them; if contact was lost for
// good, what it knows is all there is.
Task<absl::Status> Follower::CheckCursor(EventSink& sink) {
  const auto leaving = [this] { return cancelled_ || draining_ || WaitOver(); };
  while (Beyond() >= 0 && run_->restored() && !run_->ended() && !leaving()) {
    const bool away = AwayIsNews();
    if (!away && clock_.Now() < last_sent_ + kBeatInterval) {
      co_await WaitForChange(kBeatInterval);
      continue;
    }
    CommandEvent proof = BeatInfo{.produced = run_->produced()};
    if (away) proof = Reconnecting();
    if (!co_await SendOne(sink, std::move(proof))) cancelled_ = true;
  }
  int beyond = Beyond();
  if (beyond < 0 || leaving()) co_return absl::OkStatus();
  if (run_->info().state == CommandState::kUnknown) co_return absl::OkStatus();
  co_return Error(Reason::k_OFFSET_BEYOND_END, "the cursor lies behind what was produced so far",
                  {{"field", beyond == 0 ? "from.stdout_offset" : "from.stderr_offset"},
                   {"end", std::to_string(run_->log().end(StreamAt(beyond)))}});
}

// The stream whose cursor lies behind the end; -1: none.
int Follower::Beyond() const {
  for (int i = 0; i < static_cast<int>(kOutputStreams); ++i) {
    if (at_.offset[i] > run_->log().end(StreamAt(i))) return i;
  }
  return -1;
}

Task<absl::StatusOr<Follower::Result>> Follower::Loop(EventSink& sink) {
  while (true) {
    if (cancelled_) co_return Result::kReaderGone;
    if (draining_) {
      PhaseInfo phase{.name = "draining", .detail = "attach again"};
      co_await SendOne(sink, std::move(phase));
      co_return Result::kDraining;
    }
    if (AwayIsNews() && !co_await SendOne(sink, Reconnecting())) co_return Result::kReaderGone;
    if (!run_->warning().empty() && run_->warning() != warned_) {
      warned_ = run_->warning();
      PhaseInfo phase{.name = "conflict", .detail = warned_};
      if (!co_await SendOne(sink, std::move(phase))) co_return Result::kReaderGone;
    }
    UpdateHolds();
    if (WorthSending()) {
      absl::StatusOr<CommandEvent> piece = NextPiece();
      if (!piece.ok()) co_return piece.status();
      sent_output_ = true;
      if (!co_await SendOne(sink, *std::move(piece))) co_return Result::kReaderGone;
      continue;
    }
    if (run_->ended() && Reached(run_->info().produced)) {
      FinishedInfo finished{.command = run_->info()};
      co_return co_await SendOne(sink, std::move(finished)) ? Result::kFinished
                                                            : Result::kReaderGone;
    }
    if (!options_.follow && Available() == 0) co_return Result::kCaughtUp;
    if (WaitOver()) co_return Result::kWaitOver;
    if (clock_.Now() >= last_sent_ + kBeatInterval) {
      BeatInfo beat{.produced = at_};
      if (!co_await SendOne(sink, std::move(beat))) co_return Result::kReaderGone;
      continue;
    }
    co_await WaitForChange(Available() > 0 ? kCoalesceTime : kBeatInterval);
  }
}

Task<bool> Follower::SendOne(EventSink& sink, CommandEvent event) {
  bool taken = co_await sink.Send(std::move(event));
  last_sent_ = clock_.Now();
  co_return taken && !cancelled_;
}

// A gap that was told at once would be followed by one piece and, under a flood, by the next gap.
// Held for a while they grow into one, and the reader gets head, gap and tail.
void Follower::UpdateHolds() {
  for (int i = 0; i < static_cast<int>(kOutputStreams); ++i) {
    Hold& hold = hold_[i];
    const bool behind = run_->log().trimmed(StreamAt(i), at_.offset[i]);
    if (!behind) hold.until.reset();
    if (behind && !hold.until) {
      hold.until = clock_.Now() + hold.next;
      hold.next = std::min(2 * hold.next, kMostGapHold);
    }
    hold.active = behind && options_.follow && !run_->ended() && clock_.Now() < *hold.until;
  }
}

// What may be sent now.
uint64_t Follower::Available(int stream) const {
  const uint64_t end = run_->log().end(StreamAt(stream));
  if (hold_[stream].active || end <= at_.offset[stream]) return 0;
  return end - at_.offset[stream];
}

uint64_t Follower::Available() const { return Available(0) + Available(1); }

bool Follower::WaitOver() const {
  return options_.wait_until && clock_.Now() >= *options_.wait_until;
}

bool Follower::Reached(const Cursor& cursor) const {
  for (size_t i = 0; i < kOutputStreams; ++i) {
    if (at_.offset[i] < cursor.offset[i]) return false;
  }
  return true;
}

// The first bytes go at once; later ones are held for company, but only as long as a person would
// not notice.
bool Follower::WorthSending() const {
  uint64_t available = Available();
  if (available == 0) return false;
  if (run_->ended()) return !Reached(run_->info().produced) || !options_.follow;
  return !sent_output_ || !options_.follow || available >= kCoalesceBytes ||
         clock_.Now() >= last_sent_ + kCoalesceTime;
}

bool Follower::AwayIsNews() {
  const std::optional<SteadyTime> since = run_->away_since();
  if (!since) away_told_ = false;
  if (!since || away_told_ || clock_.Now() < *since + kPhaseAfter) return false;
  away_told_ = true;
  return true;
}

// From the stream that was not served last, so neither starves the other.
absl::StatusOr<CommandEvent> Follower::NextPiece() {
  int stream = next_stream_;
  if (Available(stream) == 0) stream = 1 - stream;
  next_stream_ = 1 - stream;
  uint64_t from = at_.offset[stream];
  ASSIGN_OR_RETURN(OutputLog::Piece piece, run_->log().ReadAt(StreamAt(stream), from, kEventBytes));
  if (piece.gap_to > from) {
    at_.offset[stream] = piece.gap_to;
    hold_[stream].until.reset();
    return GapPiece{StreamAt(stream), from, piece.gap_to, piece.gap_reason};
  }
  at_.offset[stream] = from + piece.data.size();
  run_->NoteRead(StreamAt(stream), at_.offset[stream]);
  return OutputPiece{StreamAt(stream), from, std::move(piece.data)};
}

// At most so long after the last event.
Task<void> Follower::WaitForChange(Duration most) {
  SteadyTime until = last_sent_ + most;
  for (const Hold& hold : hold_) {
    if (hold.active) until = std::min(until, *hold.until);
  }
  if (options_.wait_until) until = std::min(until, *options_.wait_until);
  const std::optional<SteadyTime> away = run_->away_since();
  if (away && !away_told_) until = std::min(until, *away + kPhaseAfter);
  std::shared_ptr<CommandRun> run = run_;
  auto alarm = clock_.At(until, [run] { run->changed().NotifyAll(); });
  co_await run->changed().Wait();
}

}  // namespace hermes
