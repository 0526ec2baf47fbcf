// What the runner does with sessions: OPEN, CLOSE, LEASE, SECRET, and the START of their commands.

#include <algorithm>
#include <utility>

#include "backends/runner/runner.h"
#include "backends/runner/sys.h"

namespace hermes::runner {

using frames::Frame;
using frames::Reader;

namespace {
constexpr uint32_t kLeaseGraceMs = 2000;
}  // namespace

bool Runner::OnOpen(Link& link, const Frame& frame) {
  auto open = frames::Decode<frames::Open>(frame.payload);
  if (!open) return false;
  if (!IsSessionId(open->session)) {
    Refuse(link, frame.command, "BAD_FIELD", "session id");
    return true;
  }
  Session* session = sessions_.Find(open->session);
  if (session != nullptr && (session->closing || session->used || open->resume != 0)) {
    Reopen(link, frame.command, *open, *session);
    return true;
  }
  if (open->resume != 0) session = sessions_.Recover(open->session);
  if (open->resume != 0 && session != nullptr) {
    SendOpened(link, frame.command, *session, true);
    return true;
  }
  opening_.push_back({.tag = frame.command, .link_epoch = link_epoch_, .open = std::move(*open)});
  if (login_.Get()) OnLogin();
  return true;
}

void Runner::Reopen(Link& link, uint32_t tag, const frames::Open& open, Session& session) {
  if (session.closing)
    Refuse(link, tag, "SESSION_NOT_READY", "the session is being closed");
  else if (open.resume == 0)
    Refuse(link, tag, "SESSION_ID_TAKEN", "the session exists");
  else
    SendOpened(link, tag, session, true);
}

void Runner::OnLogin() {
  Shared<shell::State> login = login_.Get();
  std::vector<PendingOpen> waiting;
  waiting.swap(opening_);
  for (const PendingOpen& pending : waiting) CreateSession(pending, *login);
}

void Runner::CreateSession(const PendingOpen& pending, const shell::State& login) {
  shell::State state = login;
  for (const auto& [name, value] : pending.open.env)
    if (!name.empty() && name.find('=') == std::string::npos) state.env[name] = value;
  auto home = state.env.find("HOME");
  state.cwd = ExpandHome(pending.open.cwd, home != state.env.end() ? home->second : place_.home);
  if (pending.open.cwd.empty() && !IsDirectory(state.cwd)) state.cwd = "/";
  Link* link = LinkOfEpoch(pending.link_epoch);
  Session* known = sessions_.Find(pending.open.session);
  if (known != nullptr && (known->used || known->closing)) {
    if (link != nullptr) Reopen(*link, pending.tag, pending.open, *known);
    return;
  }
  if (state.cwd[0] != '/' || !IsDirectory(state.cwd)) {
    if (link != nullptr) Refuse(*link, pending.tag, "BAD_FIELD", "cwd is not a directory");
    return;
  }
  warm_.Drop(pending.open.session);
  Session* session = sessions_.Create(pending.open.session, state);
  if (session != nullptr) warm_.WantFirst(*session);
  if (link == nullptr) return;
  if (session == nullptr)
    Refuse(*link, pending.tag, "DISK_FULL", "the session's state cannot be stored");
  else
    SendOpened(*link, pending.tag, *session, false);
}

void Runner::SendOpened(Link& link, uint32_t tag, Session& session, bool recovered) {
  Shared<shell::State> state = sessions_.Current(session);
  frames::Opened opened{.generation = session.generation,
                        .cwd = state ? state->cwd : "",
                        .shell = static_cast<uint8_t>(place_.shell),
                        .recovered = recovered ? uint8_t{1} : uint8_t{0}};
  frames::Encode(link.control(), tag, opened);
}

bool Runner::OnClose(Link& link, uint32_t tag, Reader payload) {
  std::string id(payload.Str());
  uint32_t grace_ms = payload.U32();
  if (!payload.done()) return false;
  if (!IsSessionId(id)) {
    Refuse(link, tag, "BAD_FIELD", "session id");
    return true;
  }
  if (closer_.Retag(id, tag, link_epoch_)) return true;
  Session* session = sessions_.Find(id);
  if (session == nullptr) {  // at once: an OPEN of the same name may follow
    OnClosed(id, tag, link_epoch_, NothingLeft());
    return true;
  }
  session->closing = true;
  warm_.Drop(id);
  Closer::Request request{.session = id, .tag = tag, .link_epoch = link_epoch_, .runs = {}};
  std::vector<Command*> commands;
  for (uint32_t number : session->commands) commands.push_back(FindCommand(number));
  for (Command* command : commands) request.runs.insert(command->run_id());
  closer_.Begin(std::move(request));
  for (Command* command : commands) {
    if (command->drained()) closer_.OnDrained(id, command->run_id());
    command->Kill(grace_ms, frames::Cause::kCancelled);
  }
  return true;
}

void Runner::OnKilled(Command& command, const frames::TreeReport& report) {
  if (command.kill_asked) command.SendKilled(report);
  command.kill_asked = false;
  closer_.OnKilled(command.session().id, command.run_id(), report);
}

void Runner::OnDrained(Command& command) {
  closer_.OnDrained(command.session().id, command.run_id());
  if (command.forgotten) droppable_.push_back(command.run_id());
}

void Runner::OnClosed(const std::string& id, uint32_t tag, uint64_t link_epoch,
                      const frames::TreeReport& report) {
  if (Session* session = sessions_.Find(id)) {
    for (uint32_t number : session->commands) {
      Command* command = FindCommand(number);
      command->SendEndNow();
      droppable_.push_back(command->run_id());
    }
    DropForgotten();
  }
  sessions_.Remove(id);
  if (Link* link = LinkOfEpoch(link_epoch))
    frames::Encode(link->control(), tag, frames::Type::kClosed, report);
}

bool Runner::OnLease(Reader payload) {
  std::string_view id = payload.Str();
  uint32_t seconds = payload.U32();
  if (!payload.done()) return false;
  Session* session = sessions_.Find(id);
  if (session == nullptr) return true;
  session->lease_until_us = seconds == 0 ? 0 : NowUs() + int64_t{seconds} * 1'000'000;
  if (seconds != 0) CheckLeases();
  return true;
}

// Ends what runs in sessions whose lease lapsed. The timer is set for the next that may lapse.
void Runner::CheckLeases() {
  int64_t now = NowUs(), next = INT64_MAX;
  std::vector<std::string> unload;
  for (auto& [id, session] : sessions_.all()) {
    if (session.lease_until_us == 0) continue;
    if (session.lease_until_us > now) {
      next = std::min(next, session.lease_until_us);
      continue;
    }
    session.lease_until_us = 0;
    for (uint32_t number : session.commands)
      FindCommand(number)->Kill(kLeaseGraceMs, frames::Cause::kLeaseExpired);
    if (link_ == nullptr && session.commands.empty()) unload.push_back(id);
  }
  for (const std::string& id : unload) {
    warm_.Drop(id);
    sessions_.Unload(id);
  }
  if (next != INT64_MAX) lease_timer_.ArmAt(next);
}

bool Runner::OnSecret(Reader payload) {
  std::string_view id = payload.Str();
  std::string_view password = payload.Str();
  if (!payload.done()) return false;
  Session* session = sessions_.Find(id);
  if (session == nullptr || session->sudo_password == password) return true;
  session->sudo_password = password;
  warm_.Drop(session->id);
  warm_.Want(session->id);
  return true;
}

bool Runner::OnStart(Link& link, const Frame& frame) {
  auto start = frames::Decode<frames::Start>(frame.payload);
  if (!start) return false;
  uint32_t number = frame.command;
  uint32_t follows = after_.command == number ? after_.first : 0;
  after_ = {};
  auto refuse = [&](std::string_view reason, std::string_view message) {
    Refuse(link, number, reason, message);
    return true;
  };
  if (!IsRunId(start->run_id)) return refuse("BAD_FIELD", "run id");
  Command* known = FindRun(start->run_id);
  Command* same_number = FindCommand(number);
  if (same_number != known && same_number != nullptr)
    return refuse("BAD_FIELD", "the command number is in use");
  if (known != nullptr && known->session().id != start->session)
    return refuse("BAD_FIELD", "the run id is another session's");
  if (known != nullptr && !known->forgotten) {
    AttachAgain(*known, number);
    return true;
  }
  if (run_ids_.Knows(start->run_id)) return refuse("RESULT_EXPIRED", "this run id has ended");
  Session* session = sessions_.Find(start->session);
  if (session == nullptr) return refuse("SESSION_UNKNOWN", "the session is not open here");
  if (session->closing) return refuse("SESSION_NOT_READY", "the session is being closed");
  if (start->form == frames::Form::kArgv && start->argv.empty())
    return refuse("BAD_FIELD", "argv is empty");
  Command::World world{loop_, supervisors_, sessions_, place_, warm_, *this};
  auto command = std::make_unique<Command>(world, *session, number, start->run_id);
  session->used = true;
  session->commands.push_back(number);
  runs_[start->run_id] = number;
  Command& started = *command;
  commands_[number] = std::move(command);
  if (follows == 0) {
    started.Start(*start, &link);
    return true;
  }
  Command* first = FindCommand(follows);
  waiting_.push_back(start->run_id);
  started.StartAfter(std::move(*start), first == nullptr ? "" : first->run_id(), &link);
  return true;
}

void Runner::AttachAgain(Command& command, uint32_t number) {
  uint32_t old = command.number();
  if (old != number) {
    auto node = commands_.extract(old);
    node.key() = number;
    commands_.insert(std::move(node));
    runs_[command.run_id()] = number;
    std::replace(command.session().commands.begin(), command.session().commands.end(), old, number);
    command.Renumber(number);
  }
  command.AttachAgain();
}

}  // namespace hermes::runner
