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

absl::Status GivenUp() { return Error(Reason::k_RECONNECTING, "nobody waits for it any more"); }

void Spawn(Loop& loop, Task<void> task) {
  asio::co_spawn(loop.executor(), std::move(task), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
}

// One more login at a time for a host. False: it is not wanted any more.
Task<bool> Enter(std::shared_ptr<SshGate> gate, int most, Clock& clock, WishPtr login) {
  const Wish::Ear ear(login, [gate] { gate->changed.NotifyAll(); });
  while (!login->withdrawn()) {
    const SteadyTime harmless = gate->penalty_until + kRefusalPenalty - kMostPenalty;
    if (gate->logins < most && clock.Now() >= harmless) break;
    std::unique_ptr<Clock::Alarm> alarm;
    if (clock.Now() < harmless) {
      alarm = clock.At(harmless, [gate] { gate->changed.NotifyAll(); });
    }
    co_await gate->changed.Wait();
  }
  if (login->withdrawn()) co_return false;
  ++gate->logins;
  co_return true;
}

void Leave(SshGate& gate) {
  --gate.logins;
  gate.changed.NotifyAll();
}

bool IsOfHostKey(std::optional<Reason> reason) {
  return reason == Reason::k_HOST_KEY_UNKNOWN || reason == Reason::k_HOST_KEY_CHANGED;
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
      Spawn(lane_->deps_.loop, EndGently(lane_, std::move(inner_)));
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

// A channel that the host was asked for. The wait for it can be left, the question not taken back:
// its answer still takes the slot, and gives it back.
struct SshLane::Opening {
  Opening(Loop& loop, std::shared_ptr<SshConnection> over)
      : connection(std::move(over)), changed(loop) {}
  const std::shared_ptr<SshConnection> connection;
  std::optional<absl::StatusOr<std::unique_ptr<Stream>>> stream;
  bool unwanted = false;
  Event changed;
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

Task<absl::StatusOr<std::unique_ptr<Stream>>> SshLane::Run(Ptr self, std::string command,
                                                           WishPtr wish, bool may_wait) {
  const Wish::Ear ear(wish, [lane = self.get()] { lane->changed_.NotifyAll(); });
  const uint64_t ticket = self->next_ticket_++;
  self->queue_.push_back(ticket);
  Backoff retry({kSlotRetryFirst, kSlotRetryMost}, self->deps_.random);
  SteadyTime patience = self->deps_.clock.Now() + kSlotPatience;
  for (bool again = true;;) {
    CO_ASSIGN_OR_RETURN(const bool here, co_await TakeSlot(self, ticket, wish, may_wait));
    if (!here) co_return co_await Run(self->Next(), std::move(command), wish, may_wait);
    const bool fresh = !self->up();
    absl::Status ready = co_await EnsureUp(self, wish);
    if (!ready.ok()) {
      self->Release();
      co_return ready;
    }
    if (self->open_ > self->Most()) {  // the login told how many there may be
      self->queue_.push_front(ticket);
      self->Release();
      continue;
    }
    auto opening = std::make_shared<Opening>(self->deps_.loop, self->connection_);
    Spawn(self->deps_.loop, Open(self, command, opening));
    if (!co_await AwaitOpen(opening, wish)) co_return GivenUp();
    absl::StatusOr<std::unique_ptr<Stream>> stream = *std::exchange(opening->stream, std::nullopt);
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
      if (may_wait && self->deps_.clock.Now() < patience) {
        co_await AwaitSlot(self, retry.Next(), wish);
        continue;
      }
    } else if (again && !fresh && !opening->connection->alive()) {
      again = false;  // it had died before, unnoticed: nothing of ours was started over it
      continue;
    }
    std::erase(self->queue_, ticket);
    self->changed_.NotifyAll();
    if (!may_wait || !IsSlotBusy(stream.status())) co_return stream.status();
    co_return Error(Reason::k_BACKEND_UNREACHABLE, std::string(stream.status().message()));
  }
}

Task<void> SshLane::Open(Ptr self, std::string command, std::shared_ptr<Opening> opening) {
  auto stream = co_await opening->connection->Run(std::move(command));
  if (!opening->unwanted) {
    opening->stream = std::move(stream);
    opening->changed.NotifyAll();
  } else if (stream.ok()) {
    const SlotStream ends_here(std::move(self), *std::move(stream));
  } else {
    self->Release();
  }
}

// False: the wish was withdrawn before.
Task<bool> SshLane::AwaitOpen(std::shared_ptr<Opening> opening, WishPtr wish) {
  const Wish::Ear ear(wish, [opening] { opening->changed.NotifyAll(); });
  while (!opening->stream && !IsWithdrawn(wish)) co_await opening->changed.Wait();
  opening->unwanted = !opening->stream;
  co_return !opening->unwanted;
}

// False: the next lane of the chain is to be asked.
Task<absl::StatusOr<bool>> SshLane::TakeSlot(Ptr self, uint64_t ticket, WishPtr wish,
                                             bool may_wait) {
  Clock& clock = self->deps_.clock;
  SteadyTime probe = SteadyTime::max();
  while (!self->stopped_ && !IsWithdrawn(wish)) {
    const bool first = self->queue_.front() == ticket;
    if (first && self->open_ < self->Most()) break;
    if (self->PassesOn()) {
      std::erase(self->queue_, ticket);
      self->changed_.NotifyAll();
      co_return false;
    }
    if (!may_wait) {
      std::erase(self->queue_, ticket);
      self->changed_.NotifyAll();
      co_return SlotBusy("every one is taken");
    }
    std::unique_ptr<Clock::Alarm> alarm;
    if (first && !self->single_) {
      probe = std::min(probe, clock.Now() + kSlotProbe);
      if (clock.Now() >= probe) {
        self->limit_ = self->open_ + 1;
        break;
      }
      alarm = clock.At(probe, [self] { self->changed_.NotifyAll(); });
    }
    co_await self->changed_.Wait();
  }
  std::erase(self->queue_, ticket);
  self->changed_.NotifyAll();
  if (self->stopped_) co_return Stopped();
  if (IsWithdrawn(wish)) co_return GivenUp();
  ++self->open_;
  self->idle_.reset();
  co_return true;
}

// The host refused one more. When a stream has ended since, there may be room; when none does, the
// limit may have been learned too low: one more is tried.
Task<void> SshLane::AwaitSlot(Ptr self, Duration most, WishPtr wish) {
  const uint64_t ended = self->ended_;
  const SteadyTime until = self->deps_.clock.Now() + most;
  auto alarm = self->deps_.clock.At(until, [self] { self->changed_.NotifyAll(); });
  while (!self->stopped_ && !IsWithdrawn(wish) && self->ended_ == ended &&
         self->deps_.clock.Now() < until) {
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

// Callers that come while a login is under way share what comes of it.
Task<absl::Status> SshLane::EnsureUp(Ptr self, WishPtr wish) {
  ++self->waiting_;
  absl::Status status = co_await AwaitLogin(self, std::move(wish));
  if (--self->waiting_ == 0 && self->login_ != nullptr) self->login_->Withdraw();
  co_return status;
}

Task<absl::Status> SshLane::AwaitLogin(Ptr self, WishPtr wish) {
  for (const uint64_t before = self->logins_;;) {
    if (self->stopped_) co_return Stopped();
    if (IsWithdrawn(wish)) co_return GivenUp();
    if (self->logins_ != before) co_return self->last_error_;
    if (self->login_ == nullptr) {
      if (self->up()) co_return absl::OkStatus();
      self->NoteNewCredentials();
      if (self->refused_ && self->deps_.clock.Now() < self->not_before_) {
        co_return self->last_error_;
      }
      self->login_ = std::make_shared<Wish>();
      Spawn(self->deps_.loop, Login(self, self->login_));
      continue;  // it may have ended already
    }
    co_await self->changed_.Wait();
  }
}

// One that was given up counts as none.
Task<void> SshLane::Login(Ptr self, WishPtr login) {
  const absl::Status status = co_await LogIn(self, login);
  self->login_ = nullptr;
  if (status.ok() || !login->withdrawn()) {
    ++self->logins_;
    self->last_error_ = status;
    if (!status.ok()) self->NoteFailure(status);
  }
  self->changed_.NotifyAll();
}

Task<absl::Status> SshLane::LogIn(Ptr self, WishPtr login) {
  if (self->connection_ != nullptr) {
    LogWarning("ssh to " + self->deps_.target.spec.host +
               ": connection lost: " + std::string(self->connection_->why().message()));
    self->connection_.reset();
  }
  {
    const Wish::Ear ear(login, [lane = self.get()] { lane->changed_.NotifyAll(); });
    auto alarm = self->deps_.clock.At(self->not_before_,
                                      [lane = self.get()] { lane->changed_.NotifyAll(); });
    while (!login->withdrawn() && self->deps_.clock.Now() < self->not_before_) {
      co_await self->changed_.Wait();
    }
  }
  Deps& deps = self->deps_;
  if (!co_await Enter(deps.gate, deps.logins_at_once, deps.clock, login)) co_return GivenUp();
  self->credentials_ = StampOf(deps.credential_files);
  self->known_hosts_ = StampOf(deps.known_hosts_files);
  SshTries tries;
  absl::StatusOr<std::unique_ptr<SshConnection>> connection;
  if (absl::Status there = co_await CheckPlace(self); there.ok()) {
    connection = co_await deps.transport.Connect(deps.target, login, &tries);
  } else {
    connection = std::move(there);
  }
  SteadyTime& until = deps.gate->penalty_until;
  until = std::max(until, deps.clock.Now()) + tries.left * kLeftPenalty +
          tries.refused * kRefusalPenalty;
  Leave(*deps.gate);
  if (!connection.ok()) co_return connection.status();
  if (self->stopped_) co_return Stopped();
  self->connection_ = *std::move(connection);
  self->limit_ = kNoLimit;
  self->single_ = self->connection_->one_at_a_time();
  self->login_pause_.Reset();
  self->auth_pause_.Reset();
  co_return absl::OkStatus();
}

Task<absl::Status> SshLane::CheckPlace(Ptr self) {
  CO_ASSIGN_OR_RETURN(const SshResolved now,
                      co_await self->deps_.transport.Resolve(self->deps_.target));
  const SshPlace was = PlaceOf(self->deps_.place), there = PlaceOf(now);
  if (there == was) co_return absl::OkStatus();
  co_return LeadsElsewhere(self->deps_.target.spec.host, was, there);
}

// Nobody has tried these yet.
void SshLane::NoteNewCredentials() {
  if (!refused_) return;
  if (of_host_key_ ? StampOf(deps_.known_hosts_files) == known_hosts_
                   : StampOf(deps_.credential_files) == credentials_) {
    return;
  }
  refused_ = false;
  auth_pause_.Reset();
  not_before_ = deps_.clock.Now();
}

void SshLane::NoteFailure(const absl::Status& why) {
  const std::optional<Reason> reason = ReasonOf(why);
  of_host_key_ = IsOfHostKey(reason);
  refused_ = reason == Reason::k_BACKEND_AUTH_FAILED || of_host_key_;
  const Duration pause = refused_ ? auth_pause_.Next() : login_pause_.Next();
  not_before_ = deps_.clock.Now() + pause;
  if (!refused_) return;
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(pause).count();
  last_error_ = Error(*reason,
                      std::string(why.message()) + " (not tried again for " +
                          std::to_string(seconds) + " s, so that the host does not lock us out)",
                      MetadataOf(why));
}

void SshLane::Stop() {
  stopped_ = true;
  if (login_ != nullptr) login_->Withdraw();
  idle_.reset();
  connection_.reset();
  changed_.NotifyAll();
  if (next_ != nullptr) next_->Stop();
}

}  // namespace hermes
