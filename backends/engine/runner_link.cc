#include "backends/engine/runner_link.h"

#include <algorithm>
#include <utility>

#include "backends/engine/runner_wire.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using frames::Type;

constexpr size_t kMaxTokenBytes = 128;  // of a start token; a longer one is malformed
// A connection that did not even live this long counts as a failed attempt.
constexpr Duration kShortLife = std::chrono::seconds(1);

absl::Status Unreachable(std::string_view what) {
  return Error(Reason::k_BACKEND_UNREACHABLE, what);
}

}  // namespace

RunnerLink::RunnerLink(Deps deps)
    : deps_(std::move(deps)),
      backoff_({kFirstRetry, kMostRetry}, deps_.random),
      changed_(deps_.loop),
      last_error_(Unreachable("not connected yet")) {}

// ---- connect, serve, connect again

Task<void> RunnerLink::Run(Ptr self) {
  while (self->wanted()) {
    const SteadyTime begun = self->deps_.clock.Now();
    absl::Status why = co_await Connect(self);
    const bool was_up = self->up_;
    const bool replacing = self->retiring_;
    self->OnDown(why);
    if (!self->wanted()) break;
    if (std::exchange(self->let_go_, false) || replacing) continue;
    LogWarning("runner link to " + self->deps_.place_key + ": " + std::string(why.message()));
    if (was_up && self->deps_.clock.Now() - begun >= kShortLife) {
      self->backoff_.Reset();
      continue;
    }
    co_await Pause(self, self->backoff_.Next());
  }
  self->running_ = false;
  self->let_go_ = false;
  self->WakeAll();
}

// One connection from beginning to end; returns why it is over.
Task<absl::Status> RunnerLink::Connect(Ptr self) {
  const size_t turn = self->failures_ % self->sessions_.size();
  std::shared_ptr<Sandbox> sandbox = self->sessions_[turn]->sandbox;
  absl::StatusOr<std::unique_ptr<Stream>> stream = std::exchange(self->offered_, nullptr);
  if (*stream == nullptr) stream = co_await sandbox->ConnectRunner(self->wish_);
  if (!stream.ok()) co_return stream.status();
  if (!self->wanted()) co_return Unreachable("no longer needed");
  auto connection =
      std::make_shared<RunnerConnection>(self->deps_.loop, self->deps_.clock, *std::move(stream));
  self->connection_ = connection;
  self->SendHello();
  self->deps_.tasks.Spawn("runner writer", RunnerConnection::WriteLoop(connection));
  auto too_slow = self->deps_.clock.At(
      self->deps_.clock.Now() + kHandshakeLimit, [weak = self->weak_from_this(), connection] {
        Ptr link = weak.lock();
        if (link && !link->up_) connection->Break(Unreachable("the runner did not answer in time"));
      });
  co_return co_await RunnerConnection::ReadLoop(
      connection, [link = self.get()](const frames::Frame& frame) { return link->OnFrame(frame); });
}

Task<void> RunnerLink::Pause(Ptr self, Duration delay) {
  const SteadyTime now = self->deps_.clock.Now();
  const SteadyTime due = now + delay;
  const SteadyTime soonest = now + std::min(delay, kLeastRetry);
  auto wake = [link = self.get()] { link->WakeAll(); };
  auto due_alarm = self->deps_.clock.At(due, wake);
  auto soonest_alarm = self->deps_.clock.At(soonest, wake);
  while (self->wanted() && self->deps_.clock.Now() < (self->kicked_ ? soonest : due)) {
    co_await self->changed_.Wait();
  }
  self->kicked_ = false;
}

void RunnerLink::SendHello() {
  frames::Writer writer(connection_->queue());
  writer.Begin(Type::kHello, 0);
  writer.U16(frames::kOldestVersion);
  writer.U16(frames::kVersion);
  writer.Str(deps_.daemon_id);
  writer.End();
  writer.Begin(Type::kList, 0);
  writer.End();
  welcomed_ = false;
  listed_ = false;
  listing_.clear();
  OpenAwaited();
}

// In the round trip of the HELLO: somebody waits for just this.
void RunnerLink::OpenAwaited() {
  uint32_t tag = kFirstEarlyTag;
  for (const SessionPtr& session : sessions_) {
    if (session->awaited == 0 || session->open || session->opening) continue;
    asked_early_[session.get()] = AskToOpen(*session, tag++);
  }
}

void RunnerLink::Offer(std::unique_ptr<Stream> stream) {
  if (!stopped_ && !reached()) offered_ = std::move(stream);
}

void RunnerLink::Stop() {
  stopped_ = true;
  wish_->Withdraw();
  offered_ = nullptr;
  if (connection_) connection_->Break(Unreachable("the daemon is stopping"));
  for (const auto& [number, command] : commands_) command->Abandon();
  WakeAll();
}

// ---- frames

absl::Status RunnerLink::OnFrame(const frames::Frame& frame) {
  if (!up_) return OnHandshakeFrame(frame);
  switch (frame.type) {
    case Type::kListed:
      return OnListed(frame);
    case Type::kListEnd:
      return OnListEnd();
    case Type::kPong:
      return OnPong(frame.payload);
    default:
      break;
  }
  if (auto command = commands_.find(frame.command); command != commands_.end()) {
    RunnerCommand::Ptr hold = command->second;
    return hold->OnFrame(frame);
  }
  OnAnswer(frame);
  return absl::OkStatus();
}

// Until the list is complete only the answers to HELLO, LIST and OPEN mean anything: what else
// comes is of before the new ATTACH, and will be sent again.
absl::Status RunnerLink::OnHandshakeFrame(const frames::Frame& frame) {
  if (frame.type == Type::kWelcome) return OnWelcome(frame.payload);
  if (frame.type == Type::kRefused && frame.command == 0 && std::exchange(retiring_, false)) {
    OnUp();
    WakeAll();
    return absl::OkStatus();
  }
  if (frame.type == Type::kRefused && frame.command == 0) {
    frames::Reader reader(frame.payload);
    std::string_view reason = reader.Str();
    return RefusedStatus(reason, reader.Str());
  }
  if (!welcomed_) return Unreachable("the runner did not begin with WELCOME");
  if (frame.type == Type::kListed) return OnListed(frame);
  if (frame.type == Type::kListEnd) return OnListEnd();
  OnAnswer(frame);
  if (listed_ && !retiring_) FinishHandshake();
  return absl::OkStatus();
}

absl::Status RunnerLink::OnWelcome(std::string_view payload) {
  std::optional<frames::Welcome> welcome = frames::Decode<frames::Welcome>(payload);
  if (!welcome || welcomed_ || welcome->start_token.empty() ||
      welcome->start_token.size() > kMaxTokenBytes) {
    return Unreachable("the runner sent a bad WELCOME");
  }
  if (welcome->version < frames::kOldestVersion || welcome->version > frames::kVersion) {
    return Error(Reason::k_CAPABILITY_MISSING,
                 "the runner speaks protocol version " + std::to_string(welcome->version) +
                     ", this daemon " + std::to_string(frames::kOldestVersion) + " to " +
                     std::to_string(frames::kVersion));
  }
  welcomed_ = true;
  version_ = welcome->version;
  home_ = welcome->home;
  new_token_ = Printable(welcome->start_token, kMaxTokenBytes);
  return absl::OkStatus();
}

absl::Status RunnerLink::OnListed(const frames::Frame& frame) {
  if (up_ && !list_asked_) return absl::OkStatus();
  std::optional<frames::Listed> listed = frames::Decode<frames::Listed>(frame.payload);
  if (!listed || listed->run_id.size() > kMaxListedName ||
      listed->session.size() > kMaxListedName || frame.command == 0 ||
      frame.command > kMaxListedNumber || listing_.size() >= kMaxListed) {
    return Unreachable("the runner sent a bad LISTED");
  }
  next_number_ = std::max(next_number_, frame.command + 1);
  std::string run_id = listed->run_id;
  listing_[std::move(run_id)] = Listing{frame.command, *std::move(listed)};
  return absl::OkStatus();
}

absl::Status RunnerLink::OnListEnd() {
  if (up_ && !list_asked_) return absl::OkStatus();
  known_ = std::exchange(listing_, {});
  list_asked_ = false;
  ++lists_done_;
  listed_ = true;
  if (!up_) FinishHandshake();
  WakeAll();
  return absl::OkStatus();
}

// An older runner does not leave while it opens a session, so its answer is waited for; the one
// that comes opens the session anew.
void RunnerLink::FinishHandshake() {
  if (!known_.empty() || !MayReplace()) {
    OnUp();
  } else if (answers_.empty()) {
    AskToRetire();
  }
}

// ---- a runner of the previous version

bool RunnerLink::MayReplace() const {
  return version_ < frames::kVersion && commands_.empty() && deps_.clock.Now() >= replace_next_;
}

// Before the link is up, when nobody can have sent anything: the runner leaves with no command, and
// the next connection starts the program of this daemon, which takes the sessions from the disk.
void RunnerLink::AskToRetire() {
  LogInfo("runner link to " + deps_.place_key + ": asking the older runner there to leave");
  retiring_ = true;
  replace_next_ = deps_.clock.Now() + kReplaceInterval;
  frames::Writer writer(connection_->queue());
  writer.Begin(Type::kRetire, 0);
  writer.End();
  Flush();
}

absl::Status RunnerLink::OnPong(std::string_view payload) {
  frames::Reader reader(payload);
  const uint64_t token = reader.U64();
  if (!reader.done()) return Unreachable("the runner sent a bad PONG");
  while (!forgotten_.empty() && forgotten_.front().ping <= token) forgotten_.pop_front();
  for (auto& [number, command] : commands_) command->OnPong(token);
  return absl::OkStatus();
}

// ---- up and down

void RunnerLink::OnUp() {
  up_ = true;
  offered_ = nullptr;
  if (start_token_ != new_token_) {
    if (!start_token_.empty()) OnOtherRunner();
    start_token_ = new_token_;
  }
  LogInfo("runner link to " + deps_.place_key + " is up, " + std::to_string(known_.size()) +
          " commands there");
  OpenAgain();
  std::vector<RunnerCommand::Ptr> live;
  for (const auto& [number, command] : commands_) live.push_back(command);
  // A command that follows another one is said again after it.
  std::ranges::sort(live, {}, [](const auto& command) { return command->number(); });
  for (const RunnerCommand::Ptr& command : live) {
    auto known = known_.find(command->run_id());
    const bool same = known != known_.end() && known->second.number == command->number();
    Attach(*command, same ? &known->second.listed : nullptr);
    if (same) known_.erase(known);  // only an earlier daemon's commands are left for Adopt
  }
  for (const Forgotten& forgotten : forgotten_) SendForget(forgotten.number);
  TellReachable();
  ArmTick();
}

// Before anything is said of their commands. A session with a lease may have been dropped meanwhile
// by a runner that is the same: only an OPEN tells.
void RunnerLink::OpenAgain() {
  for (const SessionPtr& session : sessions_) {
    if (session->open) SendLease(*session);
    if (session->lease > Duration::zero()) session->open = false;
    if (session->open || !session->was_open || session->opening) continue;
    deps_.tasks.Spawn("reopen session",
                      Reopen(shared_from_this(), session, AskToOpen(*session, next_number_++)));
  }
}

void RunnerLink::OnOtherRunner() {
  LogWarning("runner link to " + deps_.place_key +
             ": another runner is there; commands of the "
             "old one end UNKNOWN");
  forgotten_.clear();
  for (const SessionPtr& session : sessions_) session->open = false;
  for (auto& [number, command] : std::exchange(commands_, {})) command->OnRunnerGone();
}

void RunnerLink::TellReachable() {
  for (const SessionPtr& session : sessions_) {
    if (session->reachable) session->reachable(up_);
  }
}

void RunnerLink::OnDown(const absl::Status& why) {
  const bool was_up = up_;
  if (connection_) connection_->Break(why);
  connection_ = nullptr;
  up_ = false;
  tick_ = nullptr;
  list_asked_ = false;
  if (!std::exchange(retiring_, false)) ++failures_;  // nobody's attempt has failed
  last_error_ = why;
  for (auto& [tag, answer] : std::exchange(answers_, {})) {
    answer->done = true;
    answer->broke = true;
    answer->status = Error(Reason::k_RECONNECTING, std::string(why.message()));
  }
  for (const SessionPtr& session : sessions_) {
    if (asked_early_.contains(session.get())) session->opening = false;
  }
  asked_early_.clear();
  if (was_up) TellReachable();
  WakeAll();
}

// ---- heartbeat and leases

// Not a moment after the silence has become too long, whenever its last word came.
void RunnerLink::ArmTick() {
  Duration next = kPingInterval;
  for (const SessionPtr& session : sessions_) {
    if (session->open && session->lease > Duration::zero())
      next = std::min(next, session->lease / 3);
  }
  const SteadyTime too_long = connection_->heard() + kSilenceLimit;
  tick_ = deps_.clock.At(std::min(deps_.clock.Now() + next, too_long), [this] { Tick(); });
}

void RunnerLink::Tick() {
  const SteadyTime now = deps_.clock.Now();
  if (now - connection_->heard() >= kSilenceLimit) {
    connection_->Break(Unreachable("the runner has been silent for too long"));
    return;
  }
  if (MayReplace() && answers_.empty() && forgotten_.empty() && known_.empty()) {
    retiring_ = true;
    connection_->Break(Unreachable("connecting anew, to have the older runner leave"));
    return;
  }
  SendPing();
  for (const SessionPtr& session : sessions_) {
    if (session->open && now - session->lease_renewed >= session->lease / 3) SendLease(*session);
  }
  ArmTick();
}

// ---- the links of a daemon

std::shared_ptr<RunnerLink> RunnerLinks::For(const std::string& place_key) {
  std::weak_ptr<RunnerLink>& slot = links_[place_key];
  std::shared_ptr<RunnerLink> link = slot.lock();
  if (!link) {
    link = std::make_shared<RunnerLink>(RunnerLink::Deps{deps_.loop, deps_.clock, deps_.random,
                                                         tasks_, deps_.daemon_id, place_key});
    slot = link;
    std::erase_if(links_, [](const auto& entry) { return entry.second.expired(); });
    if (stopped_) link->Stop();
  }
  return link;
}

Task<void> RunnerLinks::Stop() {
  stopped_ = true;
  for (auto& [key, weak] : links_) {
    if (std::shared_ptr<RunnerLink> link = weak.lock()) link->Stop();
  }
  co_await tasks_.Join();
}

}  // namespace hermes
