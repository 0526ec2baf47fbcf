#include "tests/fakes/fake_place.h"

#include <algorithm>
#include <chrono>
#include <sstream>
#include <utility>

#include "daemon/runtime/status.h"
#include "tests/fakes/no_tree.h"

namespace hermes {
namespace {

constexpr size_t kChunk = 64 << 10;

std::string PatternBytes(const std::string& run_id, OutputStream stream, uint64_t from,
                         uint64_t count) {
  std::string bytes(count, '\0');
  for (uint64_t i = 0; i < count; ++i) bytes[i] = PatternByte(run_id, stream, from + i);
  return bytes;
}

class FakeChannel : public Channel {
 public:
  FakeChannel(Loop& loop, Clock& clock, Random& random, FakePlace& place,
              std::shared_ptr<FakeCommand> command, uint64_t out, uint64_t err)
      : clock_(clock),
        random_(random),
        place_(place),
        command_(std::move(command)),
        changed_(loop) {
    at_[0] = out;
    at_[1] = err;
  }

  Task<absl::StatusOr<ChannelEvent>> Read() override {
    const SteadyTime held_until = clock_.Now() + place_.Stall(random_);
    while (!abandoned_) {
      const bool held = clock_.Now() < held_until;
      std::optional<ChannelEvent> event;
      if (!held) event = Next();
      if (event) co_return *std::move(event);
      std::optional<SteadyTime> next = held_until;
      if (!held) next = command_->NextChange(clock_.Now());
      std::unique_ptr<Clock::Alarm> alarm;
      if (next) alarm = clock_.At(*next, [this] { changed_.NotifyAll(); });
      co_await changed_.Wait();
    }
    co_return absl::CancelledError("abandoned");
  }

  void Abandon() override {
    abandoned_ = true;
    changed_.NotifyAll();
  }

  Task<absl::Status> WriteStdin(uint64_t offset, std::string data, bool eof) override {
    const uint64_t have = stdin_accepted();
    if (offset > have) {
      co_return Error(Reason::k_STDIN_OFFSET_MISMATCH, "a gap in stdin",
                      {{"accepted", std::to_string(have)}});
    }
    if (offset + data.size() > have) stdin_on_the_way_ += data.substr(have - offset);
    eof_on_the_way_ = eof_on_the_way_ || eof;
    DeliverStdin();
    co_return absl::OkStatus();
  }
  uint64_t stdin_accepted() const override {
    return command_->stdin_bytes.size() + stdin_on_the_way_.size();
  }
  Task<void> StdinTaken() override {
    while (!abandoned_ && !command_->stdin_eof && !command_->Ended(clock_.Now())) {
      auto alarm = clock_.At(clock_.Now() + std::chrono::seconds(1), [this] {
        DeliverStdin();
        changed_.NotifyAll();
      });
      co_await changed_.Wait();
    }
  }
  absl::Status Signal(int signal, int scope) override {
    command_->signals.emplace_back(signal, scope);
    return absl::OkStatus();
  }
  absl::Status Resize(uint16_t cols, uint16_t rows) override {
    command_->resizes.emplace_back(cols, rows);
    return absl::OkStatus();
  }

  Task<absl::StatusOr<TreeReport>> Kill(Duration, Cause cause) override {
    while (!place_.reachable && !abandoned_) co_await clock_.SleepFor(std::chrono::seconds(1));
    if (abandoned_) co_return absl::CancelledError("abandoned");
    co_return KillNow(cause);
  }

  void Ack(uint64_t out, uint64_t err) override {
    command_->acked[0] = std::max(command_->acked[0], out);
    command_->acked[1] = std::max(command_->acked[1], err);
    if (Windowed()) changed_.NotifyAll();
  }
  void Forget() override {
    command_->forgotten = true;
    place_.commands.erase(command_->run_id);
    place_.poisoned[command_->run_id] = "ended";
  }

 private:
  TreeReport KillNow(Cause cause) {
    const SteadyTime now = clock_.Now();
    TreeReport report{.method = KillMethod::kSupervisor, .verified = true};
    if (std::exchange(command_->child, false)) {
      report.signalled = 1;
      changed_.NotifyAll();
    }
    if (Waits() || !command_->Ended(now)) {
      report.signalled = 1;
      command_->writes = {{now, OutputStream::kStdout, Written(OutputStream::kStdout)},
                          {now, OutputStream::kStderr, Written(OutputStream::kStderr)}};
      command_->killed = true;
      command_->ends = now;
      command_->outcome =
          Outcome{.state = CommandState::kKilled, .cause = cause, .signalled = true, .value = 15};
      command_->outcome.tree = report;
      changed_.NotifyAll();
    }
    return report;
  }

  void DeliverStdin() {
    if (place_.holds_stdin) return;
    command_->stdin_bytes += std::exchange(stdin_on_the_way_, {});
    command_->stdin_eof = command_->stdin_eof || eof_on_the_way_;
  }

  bool Windowed() const { return place_.output_window != FakePlace::kNoWindow; }

  // What it could write: one that was killed has nothing left to write.
  std::string Written(OutputStream stream) const {
    std::string produced = command_->Produced(stream, clock_.Now());
    const uint64_t acked = command_->acked[static_cast<size_t>(stream)];
    if (!command_->killed && produced.size() > acked &&
        produced.size() - acked > place_.output_window)
      produced.resize(acked + place_.output_window);
    return produced;
  }
  bool Waits() const {
    if (!Windowed()) return false;
    for (OutputStream stream : {OutputStream::kStdout, OutputStream::kStderr}) {
      if (Written(stream).size() < command_->Produced(stream, clock_.Now()).size()) return true;
    }
    return false;
  }

  std::optional<ChannelEvent> Next() {
    const bool started = command_->outcome.launch_stage == LaunchStage::kNone;
    if (!std::exchange(told_start_, true) && started) return StartedEvent{.pid = 42};
    SteadyTime now = clock_.Now();
    if (command_->times_out && *command_->times_out <= now) {
      command_->times_out.reset();
      KillNow(Cause::kRunTimeout);
    }
    for (int i = 0; i < 2; ++i) {
      OutputStream stream = static_cast<OutputStream>(i);
      if (at_[i] < command_->acked[i]) {
        return LostEvent{stream, std::exchange(at_[i], command_->acked[i]), command_->acked[i]};
      }
      std::string produced = Written(stream);
      if (produced.size() <= at_[i]) continue;
      bool small = random_.Below(100) < static_cast<uint64_t>(place_.faults.small_chunks_percent);
      DataEvent data{stream, at_[i],
                     produced.substr(at_[i], small ? 1 + random_.Below(7) : kChunk)};
      at_[i] += data.data.size();
      return data;
    }
    if (Waits() || !command_->Ended(now)) return std::nullopt;
    if (!std::exchange(told_end_, true)) return EndedEvent{command_->outcome};
    if (command_->child) return std::nullopt;
    return DrainedEvent{};
  }

  Clock& clock_;
  Random& random_;
  FakePlace& place_;
  std::shared_ptr<FakeCommand> command_;
  Event changed_;
  uint64_t at_[kOutputStreams];
  std::string stdin_on_the_way_;
  bool eof_on_the_way_ = false;
  bool told_start_ = false;
  bool told_end_ = false;
  bool abandoned_ = false;
};

class FakeEngine : public Engine {
 public:
  FakeEngine(Loop& loop, Clock& clock, Random& random, FakePlace& place)
      : loop_(loop), clock_(clock), random_(random), place_(place) {
    capabilities_.split_stderr = true;
    capabilities_.survives_daemon = true;
  }

  const Capabilities& capabilities() const override { return capabilities_; }

  Task<absl::StatusOr<SessionFacts>> Open(SessionSpec spec) override {
    co_await Stalled();
    session_ = spec.session_id;
    if (!place_.reachable) co_return Error(Reason::k_BACKEND_UNREACHABLE, "the fake place is away");
    if (spec.resume && spec.live_runs) ForgetStrangers(*spec.live_runs);
    place_.cwd.try_emplace(session_, spec.cwd.empty() ? "/" : spec.cwd);
    SessionFacts facts;
    facts.cwd = place_.cwd[session_];
    facts.generation = place_.generation[session_];
    facts.incarnation = place_.incarnation;
    facts.engine = "fake";
    co_return facts;
  }

  Task<absl::StatusOr<std::unique_ptr<Channel>>> Start(CommandSpec spec) override {
    co_await Stalled();
    bool refuse = random_.Below(100) < static_cast<uint64_t>(place_.faults.refuse_start_percent);
    if (refuse || !place_.reachable)
      co_return Error(Reason::k_BACKEND_UNREACHABLE, "the fake place is away");
    if (place_.poisoned.contains(spec.run_id)) co_return Error(Reason::k_RECONNECTING, "poisoned");
    std::shared_ptr<FakeCommand> command = place_.commands[spec.run_id];
    if (command == nullptr) {
      command = FakePlace::Plan(spec, clock_.Now());
      if (!spec.after.empty()) place_.followed.push_back(spec.after);
      if (!spec.after.empty() && place_.first_fails) NeverStart(command.get());
      place_.commands[spec.run_id] = command;
      command->session = session_;
      if (!command->new_cwd.empty()) {
        command->outcome.cwd = command->new_cwd;
        command->outcome.generation = ++place_.generation[session_];
        place_.cwd[session_] = command->new_cwd;
      }
      if (command->outcome.launch_stage == LaunchStage::kNone) {
        ++place_.starts[spec.run_id];
        if (place_.on_start) place_.on_start(spec);
      }
    }
    co_await Stalled();
    co_return MakeChannel(command, 0, 0);
  }

  Task<absl::StatusOr<std::unique_ptr<Channel>>> Adopt(std::string run_id, uint64_t out,
                                                       uint64_t err) override {
    co_await Stalled();
    if (place_.on_adopt) place_.on_adopt();
    auto it = place_.commands.find(run_id);
    if (it == place_.commands.end()) {
      place_.poisoned[run_id] = "unknown";
      co_return Error(Reason::k_COMMAND_UNKNOWN, "the fake place does not know it");
    }
    co_return MakeChannel(it->second, out, err);
  }

  bool runs_files() const override { return place_.runs_files; }
  std::unique_ptr<sync::RemoteTree> NewRemoteTree() override {
    return place_.new_tree ? place_.new_tree() : std::make_unique<NoTree>();
  }
  void SetSudoPassword(std::string) override {}

  Task<absl::StatusOr<TreeReport>> EndLeftovers(Duration) override {
    if (!place_.reachable) co_return Error(Reason::k_BACKEND_UNREACHABLE, "the fake place is away");
    co_return TreeReport{};
  }
  Task<absl::StatusOr<TreeReport>> Close(Duration) override {
    if (!place_.reachable) co_return Error(Reason::k_BACKEND_UNREACHABLE, "the fake place is away");
    if (std::exchange(closed_, true)) {
      co_return Error(Reason::k_SESSION_NOT_READY, "the session is closed");
    }
    TreeReport report;
    report.verified = true;
    co_return report;
  }

 private:
  Task<void> Stalled() {
    const Duration stall = place_.Stall(random_);
    if (stall > Duration(0)) co_await clock_.SleepFor(stall);
  }
  void NeverStart(FakeCommand* command) {
    command->writes.clear();
    command->ends = clock_.Now();
    command->outcome = Outcome{.state = CommandState::kNeverStarted,
                               .cause = Cause::kLaunchFailed,
                               .launch_stage = LaunchStage::kAfter};
  }
  void ForgetStrangers(const std::set<std::string, std::less<>>& live) {
    std::erase_if(place_.commands, [&](const auto& entry) {
      if (entry.second->session != session_ || live.contains(entry.first)) return false;
      place_.poisoned[entry.first] = "forgotten";
      return true;
    });
  }
  std::unique_ptr<Channel> MakeChannel(std::shared_ptr<FakeCommand> command, uint64_t out,
                                       uint64_t err) {
    return std::make_unique<FakeChannel>(loop_, clock_, random_, place_, std::move(command), out,
                                         err);
  }

  Loop& loop_;
  Clock& clock_;
  Random& random_;
  FakePlace& place_;
  std::string session_;
  bool closed_ = false;
  Capabilities capabilities_;
};

class FakeSandbox : public Sandbox {
 public:
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string, Lane, WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "no streams here");
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "no streams here");
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane, WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "no streams here");
  }
  std::string place_key() const override { return "fake"; }
  std::string handle() const override { return "fake:1"; }
  Task<absl::Status> Close(bool) override { co_return absl::OkStatus(); }
};

}  // namespace

char PatternByte(const std::string& run_id, OutputStream stream, uint64_t offset) {
  uint64_t x = offset * 0x9e3779b97f4a7c15ull + static_cast<uint64_t>(stream) + run_id.size();
  for (char c : run_id) x = (x ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
  return static_cast<char>(x >> 33);
}

std::string FakeCommand::Produced(OutputStream stream, SteadyTime now) const {
  std::string produced;
  for (const Write& write : writes) {
    if (write.when <= now && write.stream == stream) produced += write.bytes;
  }
  return produced;
}

std::optional<SteadyTime> FakeCommand::NextChange(SteadyTime now) const {
  std::optional<SteadyTime> next;
  if (ends && *ends > now) next = ends;
  if (times_out && (!next || *times_out < *next)) next = times_out;
  for (const Write& write : writes) {
    if (write.when > now && (!next || write.when < *next)) next = write.when;
  }
  return next;
}

Duration FakePlace::Stall(Random& random) const {
  if (random.Below(100) >= static_cast<uint64_t>(faults.stall_percent)) return Duration(0);
  return Duration(random.Below(static_cast<uint64_t>(faults.longest_stall.count())));
}

void FakePlace::KillRunner() {
  for (auto& [run_id, command] : commands) {
    command->outcome = Outcome{.state = CommandState::kUnknown, .cause = Cause::kRunnerDied};
    command->writes.clear();
    command->ends = SteadyTime{};
  }
  commands.clear();
  poisoned.clear();
  incarnation += "'";
}

void FakePlace::ReplaceRunner() {
  KillRunner();
  for (const auto& [session, tell] : tell_changed) tell(incarnation, generation[session]);
}

std::shared_ptr<FakeCommand> FakePlace::Plan(const CommandSpec& spec, SteadyTime now) {
  auto command = std::make_shared<FakeCommand>();
  command->run_id = spec.run_id;
  command->outcome = Outcome{.state = CommandState::kExited, .cause = Cause::kNatural};
  command->outcome.state_committed = true;
  command->ends = now;
  uint64_t end[kOutputStreams] = {0, 0};
  std::istringstream steps(spec.script);
  for (std::string step; std::getline(steps, step, ';');) {
    std::istringstream words(step);
    std::string verb;
    std::string rest;
    words >> verb;
    std::getline(words >> std::ws, rest);
    OutputStream stream = verb.starts_with("err") ? OutputStream::kStderr : OutputStream::kStdout;
    if (verb == "sleep") now += std::chrono::milliseconds(std::stoll(rest));
    if (verb == "exit" || verb == "sig") command->outcome.value = std::stoi(rest);
    if (verb == "sig") command->outcome.signalled = true;
    if (verb == "timeout") command->times_out = now + std::chrono::milliseconds(std::stoll(rest));
    if (verb == "cd") command->new_cwd = rest;
    if (verb == "child") command->child = command->outcome.residual = true;
    if (verb == "out" || verb == "err") command->writes.push_back({now, stream, rest});
    if (verb == "outn" || verb == "errn") {
      uint64_t& at = end[static_cast<size_t>(stream)];
      command->writes.push_back(
          {now, stream, PatternBytes(spec.run_id, stream, at, std::stoull(rest))});
      at += std::stoull(rest);
    }
    if (verb == "hang") {
      command->ends.reset();
      return command;
    }
    command->ends = now;
  }
  return command;
}

absl::Status FakeEngineFactory::CheckBackend(const std::string& backend, const SandboxSpec&) const {
  if (backend == "fake" || backend == "local") return absl::OkStatus();
  return BadField("backend", "there is only 'fake'");
}

Task<absl::StatusOr<OpenPlace>> FakeEngineFactory::Open(Request request) {
  if (place_.silent) {
    Event given_up(loop_);
    const Wish::Ear ear(request.wish, [&given_up] { given_up.NotifyAll(); });
    while (!IsWithdrawn(request.wish)) co_await given_up.Wait();
    co_return Error(Reason::k_BACKEND_UNREACHABLE, "given up");
  }
  bool refuse = random_.Below(100) < static_cast<uint64_t>(place_.faults.refuse_open_percent);
  if (refuse || !place_.reachable)
    co_return Error(Reason::k_BACKEND_UNREACHABLE, "the fake place is away");
  place_.tell_reachable[request.session_id] = request.reachable;
  place_.tell_changed[request.session_id] = request.changed;
  OpenPlace opened;
  opened.sandbox = std::make_unique<FakeSandbox>();
  opened.engine = std::make_unique<FakeEngine>(loop_, clock_, random_, place_);
  co_return opened;
}

}  // namespace hermes
