// The half of RunnerLink that sessions and their engines call.

#include <algorithm>
#include <utility>

#include "backends/engine/runner_link.h"
#include "backends/engine/runner_wire.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"

namespace hermes {

using frames::Type;

// ---- being connected

// A connection, or the error of an attempt that was made for this call.
Task<absl::Status> RunnerLink::EnsureUp(Ptr self) {
  if (self->stopped_) co_return Error(Reason::k_DRAINING, "the daemon is stopping");
  if (!self->wanted()) co_return Error(Reason::k_SESSION_NOT_READY, "the session is closed");
  if (self->usable()) co_return absl::OkStatus();
  if (!std::exchange(self->running_, true)) self->deps_.tasks.Spawn("runner link", Run(self));
  self->kicked_ = true;
  self->WakeAll();
  // The end of an older connection is no answer to this call.
  while (self->breaking() && self->wanted()) co_await self->changed_.Wait();
  const uint64_t failures = self->failures_;
  while (!self->up_ && self->wanted() && failures == self->failures_) {
    co_await self->changed_.Wait();
  }
  if (self->stopped_) co_return Error(Reason::k_DRAINING, "the daemon is stopping");
  if (!self->wanted()) co_return Error(Reason::k_SESSION_NOT_READY, "the session is closed");
  if (self->up_) co_return absl::OkStatus();
  co_return self->last_error_;
}

Task<void> RunnerLink::Room() {
  std::shared_ptr<RunnerConnection> connection = connection_;
  if (connection) co_await RunnerConnection::Room(connection);
}

// ---- questions and answers

RunnerLink::AnswerPtr RunnerLink::Expect(uint32_t tag) {
  return answers_[tag] = std::make_shared<Answer>();
}

void RunnerLink::OnAnswer(const frames::Frame& frame) {
  auto found = answers_.find(frame.command);
  if (found == answers_.end()) return;
  AnswerPtr answer = found->second;
  answers_.erase(found);
  answer->done = true;
  answer->type = frame.type;
  answer->payload = std::string(frame.payload);
  if (frame.type == Type::kRefused) {
    frames::Reader reader(frame.payload);
    std::string_view reason = reader.Str();
    answer->status = RefusedStatus(reason, reader.Str());
  }
  WakeAll();
}

Task<absl::Status> RunnerLink::Await(Ptr self, uint32_t tag, AnswerPtr answer) {
  while (!answer->done && !self->stopped_) co_await self->changed_.Wait();
  self->answers_.erase(tag);
  if (!answer->done) co_return Error(Reason::k_DRAINING, "the daemon is stopping");
  co_return answer->status;
}

// ---- sessions

Task<absl::Status> RunnerLink::Open(Ptr self, SessionPtr session) {
  for (const SessionPtr& other : self->sessions_) {
    if (other->spec.session_id == session->spec.session_id) {
      co_return Error(Reason::k_SESSION_ID_TAKEN, "the session is open at this place already");
    }
  }
  self->sessions_.push_back(session);
  session->closed = false;
  absl::Status status = co_await EnsureOpen(self, session);
  if (!status.ok()) self->Unregister(session);
  co_return status;
}

Task<absl::Status> RunnerLink::EnsureOpen(Ptr self, SessionPtr session) {
  while (true) {
    if (session->closed) co_return Error(Reason::k_SESSION_NOT_READY, "the session is closed");
    ++session->awaited;
    absl::Status up = co_await EnsureUp(self);
    --session->awaited;
    CO_RETURN_IF_ERROR(up);
    if (session->open) co_return absl::OkStatus();
    if (auto early = self->asked_early_.extract(session.get())) {
      CO_RETURN_IF_ERROR(co_await AwaitOpened(self, session, early.mapped()));
      continue;
    }
    if (session->opening) {
      co_await self->changed_.Wait();
      continue;
    }
    CO_RETURN_IF_ERROR(
        co_await AwaitOpened(self, session, self->AskToOpen(*session, self->next_number_++)));
  }
}

RunnerLink::Question RunnerLink::AskToOpen(RunnerSession& session, uint32_t tag) {
  frames::Open open;
  open.session = session.spec.session_id;
  open.cwd = session.spec.cwd;
  open.env = session.spec.env;
  open.resume = session.spec.resume || session.was_open ? 1 : 0;
  frames::Encode(connection_->queue(), tag, open);
  Flush();
  session.opening = true;
  return {tag, Expect(tag)};
}

Task<absl::Status> RunnerLink::AwaitOpened(Ptr self, SessionPtr session, Question asked) {
  const AnswerPtr answer = asked.answer;
  absl::Status answered = co_await Await(self, asked.tag, answer);
  session->opening = false;
  self->WakeAll();
  CO_RETURN_IF_ERROR(answered);
  std::optional<frames::Opened> opened = frames::Decode<frames::Opened>(answer->payload);
  if (answer->type != Type::kOpened || !opened) {
    co_return Error(Reason::k_BACKEND_UNREACHABLE, "the runner sent a bad OPENED");
  }
  if (!self->up_) co_return Error(Reason::k_RECONNECTING, "the connection broke");
  session->open = true;
  session->facts = *std::move(opened);
  self->SendLease(*session);
  self->ArmTick();  // a lease may be shorter than those before
  if (!session->spec.sudo_password.empty()) self->SendSecret(session);
  const bool again = std::exchange(session->was_open, true);
  const bool moved = std::exchange(session->opened_at, self->start_token_) != self->start_token_;
  if (!again) self->ForgetStrangers(session->spec);
  if (again && moved && session->changed)
    session->changed(self->start_token_, session->facts.generation);
  co_return absl::OkStatus();
}

// What an earlier daemon left there and no longer counts on: most often the record of a command
// whose end it had stored when it died, before it could say FORGET. One that still runs has lost
// its row (with the power of our host): nobody could read it or end it.
void RunnerLink::ForgetStrangers(const SessionSpec& spec) {
  if (!spec.resume || !spec.live_runs) return;
  std::erase_if(known_, [&](const auto& entry) {
    const auto& [run_id, listing] = entry;
    if (listing.listed.session != spec.session_id || spec.live_runs->contains(run_id) ||
        commands_.contains(listing.number)) {
      return false;
    }
    if (listing.listed.exited == 0) {
      LogWarning("a command that is not in the store is ended",
                 {.session = spec.session_id, .request_id = run_id});
      SendKill(listing.number, kStrangerGrace, frames::Cause::kCancelled);
    }
    SendForgetRun(run_id);
    return true;
  });
}

Task<void> RunnerLink::Reopen(Ptr self, SessionPtr session, Question asked) {
  absl::Status status = co_await AwaitOpened(self, session, std::move(asked));
  if (!status.ok()) {
    LogWarning("the session could not be opened anew: " + std::string(status.message()),
               {.session = session->spec.session_id});
  }
}

Task<absl::StatusOr<TreeReport>> RunnerLink::Close(Ptr self, SessionPtr session, Duration grace) {
  while (true) {
    if (session->closed) co_return Error(Reason::k_SESSION_NOT_READY, "the session is closed");
    CO_RETURN_IF_ERROR(co_await EnsureUp(self));
    const uint32_t tag = self->next_number_++;
    frames::Writer writer(self->connection_->queue());
    writer.Begin(Type::kClose, tag);
    writer.Str(session->spec.session_id);
    writer.U32(static_cast<uint32_t>(std::min<uint64_t>(ToMillis(grace), UINT32_MAX)));
    writer.End();
    self->Flush();
    AnswerPtr answer = self->Expect(tag);
    absl::Status answered = co_await Await(self, tag, answer);
    if (answer->broke) continue;  // CLOSE can be said again
    CO_RETURN_IF_ERROR(answered);
    std::optional<frames::TreeReport> report = frames::Decode<frames::TreeReport>(answer->payload);
    if (answer->type != Type::kClosed || !report) {
      co_return Error(Reason::k_BACKEND_UNREACHABLE, "the runner sent a bad CLOSED");
    }
    for (const auto& [number, command] : self->commands_) {
      if (command->session() == session->spec.session_id) command->OnSessionClosed();
    }
    self->Unregister(session);
    co_return FromWire(*report);
  }
}

void RunnerLink::Unregister(const SessionPtr& session) {
  std::erase(sessions_, session);
  asked_early_.erase(session.get());
  session->open = false;
  session->closed = true;
  if (!sessions_.empty()) return;
  let_go_ = running_;
  if (connection_) connection_->Break(Error(Reason::k_BACKEND_UNREACHABLE, "no longer needed"));
  // Those that ended with their session still have that to tell.
  for (const auto& [number, command] : commands_)
    if (!command->drained()) command->Abandon();
  WakeAll();
}

// ---- commands

Task<absl::StatusOr<RunnerCommand::Ptr>> RunnerLink::Start(Ptr self, SessionPtr session,
                                                           CommandSpec spec) {
  const bool stdin_open = spec.stdin_open;
  const bool files = spec.files;
  const bool needs_files = files || !spec.after.empty();
  const std::string after = spec.after;
  std::string run_id = spec.run_id;
  frames::Start start = ToWire(session->spec.session_id, std::move(spec));
  std::string frame;
  CO_RETURN_IF_ERROR(co_await EnsureOpen(self, session));
  while (self->queued() > kMaxQueuedBytes) {
    co_await self->Room();
    CO_RETURN_IF_ERROR(co_await EnsureOpen(self, session));
  }
  if (needs_files && !self->runs_files()) {
    co_return Error(Reason::k_CAPABILITY_MISSING, "the runner at this place is an older one");
  }
  const uint32_t number = self->next_number_++;
  if (!after.empty()) {
    RunnerCommand* first = self->FindRun(after);
    if (first == nullptr) co_return BadField("after", "no command of this run id is known here");
    frames::Writer writer(frame);
    writer.Begin(Type::kAfter, number);
    writer.U32(first->number());
    writer.End();
  }
  frames::Encode(frame, number, start);
  if (frame.size() > frames::kMaxFrameBytes) {
    co_return BadField("env", "script, arguments and environment together exceed " +
                                  std::to_string(frames::kMaxFrameBytes) + " bytes");
  }
  self->connection_->queue().append(frame);
  self->Flush();
  RunnerCommand::Init init{.number = number,
                           .run_id = std::move(run_id),
                           .session = session->spec.session_id,
                           .start_frame = std::move(frame),
                           .stdin_open = stdin_open};
  if (files) init.pace = std::make_unique<FilesPace>(self->deps_.clock, self->files_way_);
  auto command = std::make_shared<RunnerCommand>(self->deps_.loop, self, std::move(init));
  self->commands_.emplace(number, command);
  co_return command;
}

Task<absl::StatusOr<bool>> RunnerLink::KnowFiles(Ptr self, SessionPtr session) {
  CO_RETURN_IF_ERROR(co_await EnsureOpen(self, session));
  co_return self->runs_files();
}

RunnerCommand* RunnerLink::FindRun(std::string_view run_id) const {
  for (const auto& [number, command] : commands_) {
    if (command->run_id() == run_id) return command.get();
  }
  return nullptr;
}

Task<void> RunnerLink::RefreshList(Ptr self) {
  if (!std::exchange(self->list_asked_, true)) {
    frames::Writer writer(self->connection_->queue());
    writer.Begin(Type::kList, 0);
    writer.End();
    self->Flush();
  }
  const uint64_t done = self->lists_done_;
  while (done == self->lists_done_ && self->up_) co_await self->changed_.Wait();
}

Task<absl::StatusOr<RunnerCommand::Ptr>> RunnerLink::Adopt(Ptr self, SessionPtr session,
                                                           std::string run_id,
                                                           RunnerCommand::Offsets from) {
  CO_RETURN_IF_ERROR(co_await EnsureOpen(self, session));
  if (!self->known_.contains(run_id)) co_await RefreshList(self);
  CO_RETURN_IF_ERROR(co_await EnsureOpen(self, session));
  auto known = self->known_.find(run_id);
  if (known == self->known_.end()) {
    self->SendForgetRun(run_id);
    co_return Error(Reason::k_COMMAND_UNKNOWN, "the place does not know this command");
  }
  if (self->commands_.contains(known->second.number)) {
    co_return Error(Reason::k_BUG, "the command has a channel already");
  }
  const Listing listing = std::move(known->second);
  self->known_.erase(known);
  RunnerCommand::Init init{.number = listing.number,
                           .run_id = std::move(run_id),
                           .session = session->spec.session_id,
                           .from = from};
  auto command = std::make_shared<RunnerCommand>(self->deps_.loop, self, std::move(init));
  self->commands_.emplace(listing.number, command);
  self->Attach(*command, &listing.listed);
  co_return command;
}

void RunnerLink::Attach(RunnerCommand& command, const frames::Listed* listed) {
  command.OnAttached(listed);
  if (command.stdin_known()) return;
  command.AwaitPong(next_ping_);
  SendPing();
}

void RunnerLink::Drop(uint32_t number, bool forget) {
  commands_.erase(number);
  if (!forget) return;
  forgotten_.push_back({number, next_ping_});
  SendForget(number);
}

// ---- small frames

void RunnerLink::SendPing() {
  frames::Writer writer(connection_->queue());
  writer.Begin(Type::kPing, 0);
  writer.U64(next_ping_++);
  writer.End();
  Flush();
}

void RunnerLink::SendForget(uint32_t number) {
  if (!usable()) return;  // said again when the link is up
  frames::Writer writer(connection_->queue());
  writer.Begin(Type::kForget, number);
  writer.End();
  Flush();
}

void RunnerLink::SendForgetRun(const std::string& run_id) {
  if (!usable()) return;
  frames::Writer writer(connection_->queue());
  writer.Begin(Type::kForgetRun, 0);
  writer.Str(run_id);
  writer.End();
  Flush();
}

void RunnerLink::SendKill(uint32_t number, Duration grace, frames::Cause cause) {
  if (!usable()) return;
  frames::Writer writer(connection_->queue());
  writer.Begin(Type::kKill, number);
  writer.U32(static_cast<uint32_t>(ToMillis(grace)));
  writer.U8(static_cast<uint8_t>(cause));
  writer.End();
  Flush();
}

void RunnerLink::SendLease(RunnerSession& session) {
  if (!usable() || session.lease <= Duration::zero()) return;
  session.lease_renewed = deps_.clock.Now();
  frames::Writer writer(connection_->queue());
  writer.Begin(Type::kLease, 0);
  writer.Str(session.spec.session_id);
  writer.U32(static_cast<uint32_t>(std::max<uint64_t>(1, ToMillis(session.lease) / 1000)));
  writer.End();
  Flush();
}

void RunnerLink::SendSecret(const SessionPtr& session) {
  if (!usable() || !session->open) return;  // said when the session is opened
  frames::Writer writer(connection_->queue());
  writer.Begin(Type::kSecret, 0);
  writer.Str(session->spec.session_id);
  writer.Str(session->spec.sudo_password);
  writer.End();
  Flush();
}

}  // namespace hermes
