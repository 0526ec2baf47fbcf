#include "backends/engine/plain_engine.h"

#include <deque>
#include <map>
#include <set>
#include <utility>

#include "backends/engine/plain_command.h"
#include "backends/engine/plain_place.h"
#include "backends/engine/plain_text.h"
#include "backends/engine/remote_tree.h"
#include "backends/engine/runner_wire.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using plain::Place;
using plain::PlainCommand;
using shell::Kind;
using shell::State;

// Run ids that may not start any more are remembered up to this many, the latest; the session store
// above remembers all.
constexpr size_t kMaxSpentRuns = 4096;
constexpr Duration kDrainLimit = std::chrono::seconds(2);  // at Close, after the kill
constexpr size_t kCookieBytes = 16;
constexpr size_t kMaxShownNoise = 200;  // bytes
// What to do about a place that runs neither shell; at most 256 bytes.
constexpr char kMendAccount[] =
    "The account there needs bash or sh in its PATH, a login shell that runs commands (no nologin, "
    "no forced command), and start files that neither wait nor exit.";

// What the engine and its commands share.
struct Session {
  std::shared_ptr<Place> place;
  std::string cookie;
  State first;
  State state;
  uint64_t generation = 1;
  std::map<std::string, PlainCommand::Ptr> commands;  // by run id, until forgotten
  std::set<std::string> spent;
  std::deque<std::string> spent_order;

  void Spend(const std::string& run_id) {
    if (!spent.insert(run_id).second) return;
    spent_order.push_back(run_id);
    if (spent_order.size() <= kMaxSpentRuns) return;
    spent.erase(spent_order.front());
    spent_order.pop_front();
  }
};

class PlainChannel : public Channel {
 public:
  PlainChannel(PlainCommand::Ptr command, std::weak_ptr<Session> session)
      : command_(std::move(command)), session_(std::move(session)) {}
  ~PlainChannel() override { command_->Abandon(); }

  Task<absl::StatusOr<ChannelEvent>> Read() override { return PlainCommand::Read(command_); }
  void Abandon() override { command_->Abandon(); }
  Task<absl::Status> WriteStdin(uint64_t offset, std::string data, bool eof) override {
    return PlainCommand::WriteStdin(command_, offset, std::move(data), eof);
  }
  uint64_t stdin_accepted() const override { return command_->stdin_accepted(); }
  Task<void> StdinTaken() override { co_return; }  // it could not be said again
  absl::Status Signal(int signal, int scope) override { return command_->Signal(signal, scope); }
  absl::Status Resize(uint16_t cols, uint16_t rows) override {
    return Error(Reason::k_CAPABILITY_MISSING, "this place has no terminal");
  }
  Task<absl::StatusOr<TreeReport>> Kill(Duration grace, Cause cause) override {
    return PlainCommand::Kill(command_, grace, cause);
  }
  void Ack(uint64_t stdout_offset, uint64_t stderr_offset) override {
    command_->Ack(stdout_offset, stderr_offset);
  }
  void Forget() override {
    std::shared_ptr<Session> session = session_.lock();
    if (!session) return;
    session->Spend(command_->run_id());
    session->commands.erase(command_->run_id());
  }

 private:
  PlainCommand::Ptr command_;
  std::weak_ptr<Session> session_;
};

struct Opened {
  plain::Far far;
  State state;
};

// nullopt: there is no such shell, or it does not do what it is told.
std::optional<Opened> ParseOpened(Kind kind, const Place::Answer& answer,
                                  const std::string& nonce) {
  Opened opened;
  opened.far.kind = kind;
  std::string capture, cwd;
  for (const std::string& line : answer.lines) {
    if (plain::AppendCapture(line, &capture) || line.empty()) continue;
    std::string rest = line.substr(1);
    if (line[0] == 'b') opened.far.run_directory = rest;
    if (line[0] == 'p') opened.far.shell_path = rest;
    if (line[0] == 'd') cwd = rest;
    if (line[0] == 't') opened.far.setsid = true;
  }
  if (!answer.complete || !opened.far.shell_path.starts_with('/')) return std::nullopt;
  std::string why;
  std::optional<State> state = shell::ParseCapture(kind, capture, nonce, &why);
  if (!state && !opened.far.run_directory.empty()) return std::nullopt;
  if (state) opened.state = *std::move(state);
  if (!opened.state.cwd.starts_with('/')) opened.state.cwd = cwd;
  return opened;
}

absl::Status RunsNothing(const std::string& what, const std::string& noise) {
  return Error(Reason::k_CAPABILITY_MISSING,
               "the place's login shell " + what + "; it said" +
                   (noise.empty() ? " nothing" : ": " + Printable(noise, kMaxShownNoise)),
               {{"next", kMendAccount}});
}

struct Attempt {
  Kind kind = Kind::kBash;
  bool login = true;
  Duration limit{0};
};
Task<absl::StatusOr<std::optional<Opened>>> TryOpen(std::shared_ptr<Place> place, Attempt attempt,
                                                    std::string* noise) {
  const auto [kind, login, limit] = attempt;
  const std::string mark = place->NewMark();
  const std::string nonce = place->random.Hex(16);
  CO_ASSIGN_OR_RETURN(
      Place::Answer answer,
      co_await Place::Ask(place, kind, plain::OpenText(kind, mark, nonce, login), mark, limit));
  if (!answer.noise.empty()) *noise = answer.noise;
  if (answer.expired) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(limit).count();
    co_return RunsNothing("did not run our command within " + std::to_string(seconds) +
                              " s: start files that are slow or wait, or a forced command",
                          *noise);
  }
  co_return ParseOpened(kind, answer, nonce);
}

std::string ExpandHome(const State& state, const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  auto home = state.env.find("HOME");
  return (home == state.env.end() ? "" : home->second) + path.substr(1);
}

std::string Absolute(const State& state, const std::string& path) {
  std::string expanded = ExpandHome(state, path);
  return expanded.starts_with('/') ? expanded : state.cwd + "/" + expanded;
}

struct Committer {
  std::weak_ptr<Session> session;
  State base;                      // that the command started from
  std::set<std::string> not_kept;  // names of its own env
  bool commit_cwd = true;
  std::string nonce;
};

// Takes the state over that came with a command's end.
void CommitState(const Committer& committer, const std::string& capture, Outcome* outcome) {
  std::shared_ptr<Session> session = committer.session.lock();
  if (!session) return;
  std::optional<State> after = shell::ParseCapture(session->place->far.kind, capture,
                                                   committer.nonce, &outcome->state_reason);
  if (!after) return;
  if (shell::Merge(committer.base, *after, committer.not_kept, committer.commit_cwd,
                   &session->state)) {
    ++session->generation;
  }
  outcome->state_reason.clear();
  outcome->state_committed = true;
  outcome->generation = session->generation;
  outcome->cwd = session->state.cwd;
}

class PlainEngine : public Engine {
 public:
  PlainEngine(PlainEngineDeps deps, PlainEngineOptions options)
      : capabilities_(options.capabilities),
        reason_(std::move(options.reason)),
        start_patience_(options.start_patience),
        open_limit_(deps.open_limit),
        session_(std::make_shared<Session>()) {
    session_->place =
        std::make_shared<Place>(deps.loop, deps.clock, deps.random, std::move(options.sandbox));
    session_->cookie = deps.random.Hex(kCookieBytes) + ".";
  }
  ~PlainEngine() override {
    for (auto& [run_id, command] : session_->commands) command->Break();
  }

  const Capabilities& capabilities() const override { return capabilities_; }

  Task<absl::StatusOr<SessionFacts>> Open(SessionSpec spec) override;
  Task<absl::StatusOr<std::unique_ptr<Channel>>> Start(CommandSpec spec) override;
  Task<absl::StatusOr<std::unique_ptr<Channel>>> Adopt(std::string run_id, uint64_t stdout_offset,
                                                       uint64_t stderr_offset) override;
  std::string home() const override { return ExpandHome(session_->state, "~"); }
  std::unique_ptr<sync::RemoteTree> NewRemoteTree() override {
    return MakeShellTree({session_->place->clock, session_->place->random},
                         session_->place->sandbox);
  }
  // There is nothing over there that could ask for it: sudo asks as it would without us.
  void SetSudoPassword(std::string password) override {}
  Task<absl::StatusOr<TreeReport>> EndLeftovers(Duration grace) override {
    return KillAll(session_, grace);
  }
  Task<absl::StatusOr<TreeReport>> Close(Duration grace) override;

 private:
  static Task<absl::StatusOr<TreeReport>> KillAll(std::shared_ptr<Session> session, Duration grace);
  absl::Status Check(const CommandSpec& spec) const;
  plain::RunSpec RunSpecFor(const CommandSpec& spec, const State& base) const;
  PlainCommand::Init InitFor(const CommandSpec& spec, const plain::RunSpec& run,
                             const State& base) const;

  Capabilities capabilities_;
  std::string reason_;
  Duration start_patience_;
  Duration open_limit_;
  std::shared_ptr<Session> session_;
  bool open_ = false;
};

Task<absl::StatusOr<SessionFacts>> PlainEngine::Open(SessionSpec spec) {
  std::optional<Opened> opened;
  std::string noise;
  for (Kind kind : {Kind::kBash, Kind::kSh}) {
    for (bool login : {true, false}) {
      if (opened) break;
      absl::StatusOr<std::optional<Opened>> answer =
          co_await TryOpen(session_->place, {kind, login, open_limit_}, &noise);
      if (!answer.ok()) co_return answer.status();
      opened = *std::move(answer);
    }
  }
  if (!opened) co_return RunsNothing("runs neither bash nor sh for us", noise);
  session_->place->far = opened->far;
  session_->state = std::move(opened->state);
  for (const auto& [name, value] : spec.env) session_->state.env[name] = value;
  if (!spec.cwd.empty()) session_->state.cwd = Absolute(session_->state, spec.cwd);
  session_->first = session_->state;
  capabilities_.shell_functions = capabilities_.shell_functions && opened->far.kind == Kind::kBash;
  open_ = true;
  SessionFacts facts;
  facts.generation = session_->generation;
  facts.cwd = session_->state.cwd;
  facts.incarnation = "plain-" + session_->place->random.Hex(8);
  facts.engine = "plain";
  facts.engine_reason = reason_;
  co_return facts;
}

absl::Status PlainEngine::Check(const CommandSpec& spec) const {
  if (!open_) return Error(Reason::k_SESSION_NOT_READY, "the session is closed");
  std::string_view missing;
  if (spec.pty && !capabilities_.pty) missing = "a terminal";
  if (spec.stdin_open && !capabilities_.stdin_stream) missing = "open stdin";
  if (spec.merge_stderr && !capabilities_.merged_order) missing = "merged output";
  if (!spec.argv.empty() && !capabilities_.argv) missing = "commands without a shell";
  if (spec.files || !spec.after.empty()) missing = "file service";
  if (missing.empty()) return absl::OkStatus();
  return Error(Reason::k_CAPABILITY_MISSING, "this place has no " + std::string(missing));
}

plain::RunSpec PlainEngine::RunSpecFor(const CommandSpec& spec, const State& base) const {
  Place& place = *session_->place;
  plain::RunSpec run;
  run.command = &spec;
  run.state = &base;
  run.nearest = spec.cwd.empty();
  run.cwd = spec.cwd.empty() ? base.cwd : Absolute(base, spec.cwd);
  run.cookie = session_->cookie + place.random.Hex(kCookieBytes);
  run.start_mark = place.NewMark();
  run.end_mark = place.NewMark();
  run.capture_nonce = place.random.Hex(16);
  const bool captures = spec.argv.empty() && spec.state_mode == StateMode::kCommit;
  if (captures && !place.far.run_directory.empty()) {
    run.capture_path = place.far.run_directory + "/.hermes-" + place.random.Hex(16);
  }
  return run;
}

PlainCommand::Init PlainEngine::InitFor(const CommandSpec& spec, const plain::RunSpec& run,
                                        const State& base) const {
  PlainCommand::Init init;
  init.run_id = spec.run_id;
  init.cookie = run.cookie;
  init.start_mark = run.start_mark;
  init.end_mark = run.end_mark;
  init.stdin_open = spec.stdin_open;
  if (spec.run_timeout > Duration(0)) init.deadline = spec.run_timeout + spec.kill_grace;
  if (!spec.argv.empty())
    init.why_no_state = "argv";
  else if (spec.state_mode == StateMode::kReadOnly)
    init.why_no_state = "read only";
  else if (spec.state_mode == StateMode::kIsolated)
    init.why_no_state = "isolated";
  else if (run.capture_path.empty())
    init.why_no_state = "no writable directory for a capture";
  Committer committer{session_, base, {}, spec.cwd.empty(), run.capture_nonce};
  for (const auto& [name, value] : spec.env) committer.not_kept.insert(name);
  for (const auto& [name, value] : spec.secret_env) committer.not_kept.insert(name);
  init.commit = [committer = std::move(committer)](const std::string& capture, Outcome* outcome) {
    CommitState(committer, capture, outcome);
  };
  return init;
}

Task<absl::StatusOr<std::unique_ptr<Channel>>> PlainEngine::Start(CommandSpec spec) {
  CO_RETURN_IF_ERROR(Check(spec));
  auto known = session_->commands.find(spec.run_id);
  if (known != session_->commands.end()) co_return co_await Adopt(spec.run_id, 0, 0);
  if (session_->spent.contains(spec.run_id)) {
    co_return Error(Reason::k_COMMAND_UNKNOWN, "this run was started before and is forgotten");
  }
  std::shared_ptr<Session> session = session_;
  const State base = spec.state_mode == StateMode::kIsolated ? session->first : session->state;
  const plain::RunSpec run = RunSpecFor(spec, base);
  std::string framed = plain::Framed(plain::RunText(session->place->far, run));
  auto command = std::make_shared<PlainCommand>(session->place, InitFor(spec, run, base));
  session->commands[spec.run_id] = command;  // from now on nobody else may start it
  command->Begin(std::string(plain::BootLine(session->place->far.kind)), std::move(framed));
  co_await PlainCommand::WaitOpen(command, session->place->clock.Now() + start_patience_);
  if (!command->open_error().ok()) {
    session->commands.erase(spec.run_id);
    co_return command->open_error();
  }
  co_return std::make_unique<PlainChannel>(std::move(command), session);
}

Task<absl::StatusOr<std::unique_ptr<Channel>>> PlainEngine::Adopt(std::string run_id,
                                                                  uint64_t stdout_offset,
                                                                  uint64_t stderr_offset) {
  auto known = session_->commands.find(run_id);
  if (known == session_->commands.end()) {
    session_->Spend(run_id);
    co_return Error(Reason::k_COMMAND_UNKNOWN,
                    "the plain engine keeps nothing of commands that an earlier hermesd started");
  }
  known->second->Attach({stdout_offset, stderr_offset});
  co_return std::make_unique<PlainChannel>(known->second, session_);
}

// Everything that carries the session's cookie.
Task<absl::StatusOr<TreeReport>> PlainEngine::KillAll(std::shared_ptr<Session> session,
                                                      Duration grace) {
  plain::LadderSpec spec;
  spec.roots = " ";
  spec.cookie = session->cookie;
  spec.grace_ms = std::chrono::duration_cast<std::chrono::milliseconds>(grace).count();
  std::map<std::string, PlainCommand::Ptr> commands = session->commands;
  std::erase_if(commands,
                [](const auto& known) { return known.second->Withdraw(Cause::kCancelled); });
  for (const auto& [run_id, command] : commands) {
    command->ExpectKill(Cause::kCancelled);
    if (command->pid() > 1) spec.roots += std::to_string(command->pid()) + " ";
  }
  absl::StatusOr<TreeReport> report = co_await Place::Kill(session->place, std::move(spec));
  for (const auto& [run_id, command] : commands) command->KillDone(report);
  co_return report;
}

Task<absl::StatusOr<TreeReport>> PlainEngine::Close(Duration grace) {
  if (!open_) co_return TreeReport{.method = KillMethod::kGroupAndCookie};
  std::shared_ptr<Session> session = session_;
  absl::StatusOr<TreeReport> report = co_await KillAll(session, grace);
  if (!report.ok()) co_return report;
  open_ = false;
  const std::map<std::string, PlainCommand::Ptr> commands = session->commands;
  const SteadyTime until = session->place->clock.Now() + kDrainLimit;
  for (const auto& [run_id, command] : commands) {
    co_await PlainCommand::WaitDrained(command, until);
    if (!command->drained()) command->Break();
  }
  co_return report;
}

}  // namespace

std::unique_ptr<Engine> MakePlainEngine(PlainEngineDeps deps, PlainEngineOptions options) {
  return std::make_unique<PlainEngine>(deps, std::move(options));
}

}  // namespace hermes
