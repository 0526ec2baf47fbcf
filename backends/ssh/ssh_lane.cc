#include "backends/ssh/ssh_lane.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <asio/co_spawn.hpp>

#include "daemon/runtime/log.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr uint32_t kNoLimit = std::numeric_limits<uint32_t>::max();

absl::Status Stopped() {
  return Error(Reason::k_RECONNECTING, "the connection to the host is being closed");
}

// One more login at a time for a host.
Task<void> Enter(std::shared_ptr<SshGate> gate) {
  while (gate->busy) co_await gate->changed.Wait();
  gate->busy = true;
}

void Leave(SshGate& gate) {
  gate.busy = false;
  gate.changed.NotifyAll();
}

// Reads what is left. True: it has ended by itself, and so has its program.
Task<bool> Ends(std::shared_ptr<Stream> stream) {
  std::vector<char> unwanted(16 << 10);
  absl::StatusOr<size_t> bytes = 1;
  while (bytes.ok() && *bytes > 0) bytes = co_await stream->ReadStdout(unwanted);
  if (bytes.ok()) bytes = 1;
  while (bytes.ok() && *bytes > 0) bytes = co_await stream->ReadStderr(unwanted);
  if (!bytes.ok()) co_return false;
  co_await stream->WaitEnd();
  co_return true;
}

}  // namespace

// Holds a slot of its lane for as long as it lives.
class SshLane::SlotStream : public Stream {
 public:
  SlotStream(Ptr lane, std::unique_ptr<Stream> inner)
      : lane_(std::move(lane)), inner_(std::move(inner)) {}
  ~SlotStream() override {
    if (lane_->single_ && !lane_->stopped_) {
      asio::co_spawn(lane_->deps_.loop.executor(), EndGently(lane_, std::move(inner_)),
                     [](std::exception_ptr error) {
                       if (error) std::rethrow_exception(error);
                     });
      return;
    }
    inner_.reset();
    lane_->Release();
  }
  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    return inner_->ReadStdout(into);
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override {
    return inner_->ReadStderr(into);
  }
  Task<absl::Status> Write(std::string_view data) override { return inner_->Write(data); }
  void CloseStdin() override { inner_->CloseStdin(); }
  void Abort() override { inner_->Abort(); }
  Task<std::optional<End>> WaitEnd() override { return inner_->WaitEnd(); }

 private:
  const Ptr lane_;
  std::unique_ptr<Stream> inner_;
};

SshLane::SshLane(Deps deps)
    : deps_(std::move(deps)),
      changed_(deps_.loop),
      not_before_(deps_.clock.Now()),
      login_pause_({kLoginPauseFirst, kLoginPauseMost}, deps_.random),
      auth_pause_({kAuthPauseFirst, kAuthPauseMost}, deps_.random),
      limit_(kNoLimit) {}

// ---- slots

bool SshLane::HasRoom() const {
  if (queue_.empty() && open_ < Most()) return true;
  return PassesOn() && (next_ == nullptr || next_->HasRoom());
}

SshLane::Ptr SshLane::Next() {
  if (next_ == nullptr) {
    Deps deps = deps_;
    deps.idle_limit = kSpareIdleLimit;
    --deps.spares;
    next_ = std::make_shared<SshLane>(std::move(deps));
    next_->single_ = true;
  }
  return next_;
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> SshLane::Run(Ptr self, std::string command) {
  const uint64_t ticket = self->next_ticket_++;
  self->queue_.push_back(ticket);
  Backoff retry({kSlotRetryFirst, kSlotRetryMost}, self->deps_.random);
  SteadyTime patience = self->deps_.clock.Now() + kSlotPatience;
  for (bool again = true;;) {
    CO_ASSIGN_OR_RETURN(const bool here, co_await TakeSlot(self, ticket));
    if (!here) co_return co_await Run(self->Next(), std::move(command));
    const bool fresh = !self->up();
    absl::Status ready = co_await EnsureUp(self);
    if (!ready.ok()) {
      self->Release();
      co_return ready;
    }
    if (self->open_ > self->Most()) {  // the login told how many there may be
      self->queue_.push_front(ticket);
      self->Release();
      continue;
    }
    std::shared_ptr<SshConnection> connection = self->connection_;
    absl::StatusOr<std::unique_ptr<Stream>> stream = co_await connection->Run(command);
    if (stream.ok() && !self->stopped_) {
      co_return std::make_unique<SlotStream>(self, *std::move(stream));
    }
    self->queue_.push_front(ticket);
    self->Release();
    if (self->stopped_) {
      std::erase(self->queue_, ticket);
      co_return Stopped();
    }
    if (IsSlotBusy(stream.status())) {
      self->limit_ = std::max<uint32_t>(self->open_, 1);
      if (self->open_ > 0) patience = self->deps_.clock.Now() + kSlotPatience;
      if (self->deps_.clock.Now() < patience) {
        co_await AwaitSlot(self, retry.Next());
        continue;
      }
    } else if (again && !fresh && !connection->alive()) {
      again = false;  // it had died before, unnoticed: nothing of ours was started over it
      continue;
    }
    std::erase(self->queue_, ticket);
    self->changed_.NotifyAll();
    if (!IsSlotBusy(stream.status())) co_return stream.status();
    co_return Error(Reason::k_BACKEND_UNREACHABLE, std::string(stream.status().message()));
  }
}

// False: the next lane of the chain is to be asked.
Task<absl::StatusOr<bool>> SshLane::TakeSlot(Ptr self, uint64_t ticket) {
  while (!self->stopped_ && (self->queue_.front() != ticket || self->open_ >= self->Most())) {
    if (self->PassesOn()) {
      std::erase(self->queue_, ticket);
      self->changed_.NotifyAll();
      co_return false;
    }
    co_await self->changed_.Wait();
  }
  std::erase(self->queue_, ticket);
  self->changed_.NotifyAll();
  if (self->stopped_) co_return Stopped();
  ++self->open_;
  self->idle_.reset();
  co_return true;
}

// The host refused one more. When a stream has ended since, there may be room; when none does, the
// limit may have been learned too low: one more is tried.
Task<void> SshLane::AwaitSlot(Ptr self, Duration most) {
  const uint64_t ended = self->ended_;
  const SteadyTime until = self->deps_.clock.Now() + most;
  auto alarm = self->deps_.clock.At(until, [self] { self->changed_.NotifyAll(); });
  while (!self->stopped_ && self->ended_ == ended && self->deps_.clock.Now() < until) {
    co_await self->changed_.Wait();
  }
  if (self->open_ >= self->limit_) self->limit_ = self->open_ + 1;
}

// A program that ends beside another's beginning, or is started beside one, breaks both.
Task<void> SshLane::EndGently(Ptr self, std::shared_ptr<Stream> stream) {
  std::weak_ptr<SshConnection> connection = self->connection_;
  stream->CloseStdin();
  bool expired = false;
  const bool ended = co_await WithDeadline(
      self->deps_.clock, self->deps_.clock.Now() + kGentleEnd, Ends(stream),
      [stream] { stream->Abort(); }, &expired);
  if ((expired || !ended) && self->connection_ == connection.lock()) self->connection_.reset();
  stream.reset();
  self->Release();
}

void SshLane::Release() {
  --open_;
  ++ended_;
  changed_.NotifyAll();
  if (open_ == 0) ArmIdle();
}

void SshLane::ArmIdle() {
  if (deps_.idle_limit == Duration::zero() || stopped_) return;
  const SteadyTime when = deps_.clock.Now() + deps_.idle_limit;
  idle_ = deps_.clock.At(when, [weak = weak_from_this()] {
    Ptr self = weak.lock();
    if (self != nullptr && self->open_ == 0) self->connection_.reset();
  });
}

// ---- the connection

// Callers that come while somebody logs in share what comes of it.
Task<absl::Status> SshLane::EnsureUp(Ptr self) {
  const uint64_t before = self->logins_;
  while (!self->stopped_ && self->logging_in_) co_await self->changed_.Wait();
  if (self->stopped_) co_return Stopped();
  if (self->up()) co_return absl::OkStatus();
  if (self->logins_ != before) co_return self->last_error_;
  if (self->refused_ && self->deps_.clock.Now() < self->not_before_) co_return self->last_error_;
  self->logging_in_ = true;
  co_await self->deps_.clock.SleepUntil(self->not_before_);
  absl::Status status = co_await LogIn(self);
  self->logging_in_ = false;
  ++self->logins_;
  if (!status.ok()) self->NoteFailure(status);
  self->changed_.NotifyAll();
  if (self->stopped_) co_return Stopped();
  co_return status.ok() ? status : self->last_error_;
}

Task<absl::Status> SshLane::LogIn(Ptr self) {
  if (self->connection_ != nullptr) {
    LogWarning("ssh to " + self->deps_.target.spec.host +
               ": connection lost: " + std::string(self->connection_->why().message()));
    self->connection_.reset();
  }
  co_await Enter(self->deps_.gate);
  absl::StatusOr<std::unique_ptr<SshConnection>> connection =
      co_await self->deps_.transport.Connect(self->deps_.target);
  Leave(*self->deps_.gate);
  if (!connection.ok()) co_return connection.status();
  if (self->stopped_) co_return Stopped();
  self->connection_ = *std::move(connection);
  self->limit_ = kNoLimit;
  self->single_ = self->connection_->one_at_a_time();
  self->login_pause_.Reset();
  self->auth_pause_.Reset();
  co_return absl::OkStatus();
}

void SshLane::NoteFailure(const absl::Status& why) {
  refused_ = ReasonOf(why) == Reason::k_BACKEND_AUTH_FAILED;
  const Duration pause = refused_ ? auth_pause_.Next() : login_pause_.Next();
  not_before_ = deps_.clock.Now() + pause;
  last_error_ = why;
  if (!refused_) return;
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(pause).count();
  last_error_ = Error(Reason::k_BACKEND_AUTH_FAILED,
                      std::string(why.message()) + " (not tried again for " +
                          std::to_string(seconds) + " s, so that the host does not lock us out)");
}

void SshLane::Stop() {
  stopped_ = true;
  idle_.reset();
  connection_.reset();
  changed_.NotifyAll();
  if (next_ != nullptr) next_->Stop();
}

}  // namespace hermes
