#include "tests/contract/driver.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"

namespace hermes::contract {
namespace {

// The test's hold on a stream that a link owns.
class CuttableStream : public Stream {
 public:
  explicit CuttableStream(std::shared_ptr<Stream> inner) : inner_(std::move(inner)) {}
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
  std::shared_ptr<Stream> inner_;
};

Task<absl::Status> CloseEngine(Engine* engine) {
  co_return (co_await engine->Close(Duration(0))).status();
}

std::unique_ptr<TempDir>& SuiteDir() {
  static std::unique_ptr<TempDir> dir;
  return dir;
}
std::function<void(const std::string&)>& SuiteEnd() {
  static std::function<void(const std::string&)> end;
  return end;
}

}  // namespace

void CuttableSandbox::Cut() {
  for (const std::weak_ptr<Stream>& weak : streams_) {
    if (std::shared_ptr<Stream> stream = weak.lock()) stream->Abort();
  }
  streams_.clear();
}

size_t CuttableSandbox::open_streams() const {
  return static_cast<size_t>(std::count_if(streams_.begin(), streams_.end(),
                                           [](const auto& stream) { return !stream.expired(); }));
}

std::unique_ptr<Stream> CuttableSandbox::Keep(std::unique_ptr<Stream> stream) {
  std::shared_ptr<Stream> shared = std::move(stream);
  streams_.push_back(shared);
  return std::make_unique<CuttableStream>(shared);
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> CuttableSandbox::OpenStream(std::string boot_line,
                                                                          Lane lane, WishPtr wish) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream,
                      co_await inner_->OpenStream(std::move(boot_line), lane, std::move(wish)));
  co_return Keep(std::move(stream));
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> CuttableSandbox::ConnectRunner(WishPtr wish) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream,
                      co_await inner_->ConnectRunner(std::move(wish)));
  co_return Keep(std::move(stream));
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> CuttableSandbox::OpenFiles(Lane lane, WishPtr wish) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream,
                      co_await inner_->OpenFiles(lane, std::move(wish)));
  co_return Keep(std::move(stream));
}

std::string TestRun::Told() const {
  if (!outcome) return "no end; stdout: " + out + "; stderr: " + err;
  return "state " + std::to_string(static_cast<int>(outcome->state)) + ", cause " +
         std::to_string(static_cast<int>(outcome->cause)) + ", value " +
         std::to_string(outcome->value) + ", " + outcome->state_reason + "; stderr: " + err;
}

// ---- the world

World::World(const Place& p, std::string d) : place(p), dir(std::move(d)) {
  signal(SIGPIPE, SIG_IGN);
  backend = place.backend(loop, clock, dir);
  links = std::make_unique<RunnerLinks>(RunnerLinks::Deps{loop, clock, random, "contract"});
}

World::~World() {
  for (const std::unique_ptr<TestSession>& session : sessions) {
    if (!session->engine) continue;
    absl::Status closed = Await(CloseEngine(session->engine.get()));
    EXPECT_TRUE(closed.ok()) << closed;
  }
  LetGo();
}

void World::LetGo() {
  for (const std::weak_ptr<TestRun>& weak : runs_) {
    if (RunPtr run = weak.lock(); run && run->channel) run->channel->Abandon();
  }
  Until([this] { return pumps_ == 0; });
  for (const std::weak_ptr<TestRun>& weak : runs_) {
    if (RunPtr run = weak.lock()) run->channel.reset();
  }
  runs_.clear();
  for (const std::unique_ptr<TestSession>& session : sessions) session->engine.reset();
  EXPECT_TRUE(Await(StopLinks()).ok());
}

Task<absl::Status> World::StopLinks() {
  co_await links->Stop();
  co_return absl::OkStatus();
}

void World::Poke() {
  if (waiting_for_ && waiting_for_()) loop.Stop();
}

bool World::Until(std::function<bool()> done, Duration limit) {
  bool expired = false;
  auto alarm = clock.At(clock.Now() + limit, [this, &expired] {
    expired = true;
    loop.Stop();
  });
  waiting_for_ = done;
  while (!done() && !expired) loop.Run();
  waiting_for_ = nullptr;
  return done();
}

// ---- sessions

absl::Status World::TryOpen(TestSession& session, SessionSpec spec, Duration lease,
                            std::string handle) {
  SandboxSpec where{spec.session_id, {}};
  if (place.where) place.where(where);
  absl::StatusOr<std::unique_ptr<Sandbox>> sandbox =
      Await(handle.empty() ? backend->Open(where) : backend->Reattach(where, handle));
  if (!sandbox.ok()) return sandbox.status();
  session.id = spec.session_id;
  session.sandbox = std::make_shared<CuttableSandbox>(*std::move(sandbox));
  session.engine = place.engine == "plain" ? MakePlain(session) : MakeRunner(session, lease);
  absl::StatusOr<SessionFacts> facts = Await(session.engine->Open(std::move(spec)), kOpenPatience);
  if (!facts.ok()) return facts.status();
  session.facts = *std::move(facts);
  return absl::OkStatus();
}

std::unique_ptr<Engine> World::MakePlain(TestSession& session) {
  return MakePlainEngine({loop, clock, random},
                         {session.sandbox, backend->plain_capabilities(), "contract"});
}

std::unique_ptr<Engine> World::MakeRunner(TestSession& session, Duration lease) {
  RunnerEngineOptions options;
  options.sandbox = session.sandbox;
  options.capabilities = backend->runner_capabilities();
  options.reason = "contract";
  options.lease = lease;
  options.changed = [this, &session](std::string incarnation, uint64_t) {
    session.changed_to = std::move(incarnation);
    Poke();
  };
  return MakeRunnerEngine(*links, std::move(options));
}

TestSession& World::Open(SessionSpec spec, Duration lease) {
  if (spec.session_id.empty()) spec.session_id = "s-" + random.Hex(4);
  sessions.push_back(std::make_unique<TestSession>());
  absl::Status opened = TryOpen(*sessions.back(), std::move(spec), lease, "");
  if (!opened.ok()) {
    ADD_FAILURE() << "the session does not open: " << opened.message();
    std::abort();
  }
  return *sessions.back();
}

void World::RestartDaemon(Duration lease,
                          std::optional<std::set<std::string, std::less<>>> live_runs) {
  LetGo();
  links = std::make_unique<RunnerLinks>(RunnerLinks::Deps{loop, clock, random, "contract"});
  for (const std::unique_ptr<TestSession>& session : sessions) {
    SessionSpec spec;
    spec.session_id = session->id;
    spec.resume = true;
    spec.live_runs = live_runs;
    absl::Status opened = TryOpen(*session, std::move(spec), lease, session->sandbox->handle());
    EXPECT_TRUE(opened.ok()) << opened.message();
  }
}

// ---- commands

RunPtr World::Start(TestSession& session, CommandSpec spec) {
  if (spec.run_id.empty()) spec.run_id = random.Uuid();
  auto run = std::make_shared<TestRun>();
  run->run_id = spec.run_id;
  run->asked = clock.Now();
  absl::StatusOr<std::unique_ptr<Channel>> channel = Await(session.engine->Start(std::move(spec)));
  EXPECT_TRUE(channel.ok()) << channel.status().message();
  if (!channel.ok()) return run;
  run->channel = *std::move(channel);
  runs_.push_back(run);
  ++pumps_;
  asio::co_spawn(loop.executor(), Pump(run), [](std::exception_ptr) {});
  return run;
}

RunPtr World::StartSoon(TestSession& session, CommandSpec spec) {
  spec.run_id = random.Uuid();
  auto run = std::make_shared<TestRun>();
  run->run_id = spec.run_id;
  ++pumps_;
  asio::co_spawn(loop.executor(), StartAndPump(session.engine.get(), std::move(spec), run),
                 [](std::exception_ptr) {});
  return run;
}

Task<void> World::StartAndPump(Engine* engine, CommandSpec spec, RunPtr run) {
  absl::StatusOr<std::unique_ptr<Channel>> channel = co_await engine->Start(std::move(spec));
  EXPECT_TRUE(channel.ok()) << channel.status().message();
  if (!channel.ok()) {
    --pumps_;
    co_return;
  }
  run->channel = *std::move(channel);
  runs_.push_back(run);
  co_await Pump(run);
}

RunPtr World::Adopt(TestSession& session, const RunPtr& old, uint64_t out, uint64_t err) {
  auto run = std::make_shared<TestRun>();
  run->run_id = old->run_id;
  run->offset[0] = out;
  run->offset[1] = err;
  absl::StatusOr<std::unique_ptr<Channel>> channel =
      Await(session.engine->Adopt(old->run_id, out, err));
  EXPECT_TRUE(channel.ok()) << channel.status().message();
  if (!channel.ok()) return run;
  run->channel = *std::move(channel);
  runs_.push_back(run);
  ++pumps_;
  asio::co_spawn(loop.executor(), Pump(run), [](std::exception_ptr) {});
  return run;
}

// Reads all there is, says at once that it is safe, and forgets the command at its end.
Task<void> World::Pump(RunPtr run) {
  run->reading = true;
  while (!run->drained) {
    absl::StatusOr<ChannelEvent> event = co_await run->channel->Read();
    if (!event.ok()) break;
    TakeEvent(*run, *std::move(event));
    run->channel->Ack(run->offset[0], run->offset[1]);
    Poke();
  }
  if (run->drained) run->channel->Forget();
  run->reading = false;
  --pumps_;
  Poke();
}

void World::TakeEvent(TestRun& run, ChannelEvent event) {
  if (StartedEvent* started = std::get_if<StartedEvent>(&event)) {
    EXPECT_FALSE(run.started.has_value()) << "started twice";
    run.started = *started;
    run.started_at = clock.Now();
  } else if (DataEvent* data = std::get_if<DataEvent>(&event)) {
    const size_t stream = static_cast<size_t>(data->stream);
    if (run.offset[0] + run.offset[1] == 0) run.first_byte_at = clock.Now();
    EXPECT_EQ(data->offset, run.offset[stream]) << "a hole or a repetition in the output";
    run.offset[stream] = data->offset + data->data.size();
    if (run.tap) run.tap(*data);
    if (run.keep) (stream == 0 ? run.out : run.err) += data->data;
  } else if (LostEvent* lost = std::get_if<LostEvent>(&event)) {
    run.lost.push_back(*lost);
    run.offset[static_cast<size_t>(lost->stream)] = lost->to;
  } else if (std::holds_alternative<OverEvent>(event)) {
    EXPECT_FALSE(run.outcome.has_value()) << "over after its end";
  } else if (EndedEvent* ended = std::get_if<EndedEvent>(&event)) {
    EXPECT_FALSE(run.outcome.has_value()) << "ended twice";
    run.outcome = std::move(ended->outcome);
    run.ended_at = clock.Now();
  } else {
    EXPECT_TRUE(run.outcome.has_value()) << "drained before its end";
    run.drained = true;
  }
}

void World::WaitEnd(const RunPtr& run, Duration limit) {
  EXPECT_TRUE(Until([run] { return run->outcome.has_value(); }, limit)) << run->Told();
  if (!run->outcome) run->outcome.emplace();  // so that what follows fails, not crashes
}

void World::WaitDrained(const RunPtr& run, Duration limit) {
  EXPECT_TRUE(Until([run] { return run->drained; }, limit)) << run->Told();
}

absl::StatusOr<TreeReport> World::Kill(const RunPtr& run, Duration grace) {
  return Await(run->channel->Kill(grace, Cause::kCancelled));
}

absl::Status World::Write(const RunPtr& run, uint64_t offset, std::string data, bool eof) {
  return Await(run->channel->WriteStdin(offset, std::move(data), eof));
}

// The bracket keeps grep's own argument from matching.
int World::CountArgument(TestSession& session, std::string argument) {
  CommandSpec spec;
  spec.script = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -cx '[" +
                argument.substr(0, 1) + "]" + argument.substr(1) + "'";
  spec.state_mode = StateMode::kReadOnly;
  const std::string out = Run(session, std::move(spec))->out;
  return out.empty() ? -1 : std::stoi(out);
}

int World::AwaitArgument(TestSession& session, const std::string& argument, int wanted) {
  const SteadyTime give_up = clock.Now() + kPatience;
  int count = CountArgument(session, argument);
  while (count != wanted && clock.Now() < give_up) count = CountArgument(session, argument);
  return count;
}

std::string World::UniqueSeconds(int whole) {
  std::string digits = std::to_string(1'000'000 + random.Below(1'000'000));
  return std::to_string(whole) + "." + digits.substr(1);
}

// ---- the fixture

// The listening process's id is what the kernel knows of the other end of a new connection.
void KillRunnerOf(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof(address.sun_path) - 1);
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return;
  ucred peer{};
  socklen_t size = sizeof(peer);
  ASSERT_EQ(getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
  ASSERT_GT(peer.pid, 1);
  kill(peer.pid, SIGKILL);
}

const std::string& BackendContract::Dir() {
  if (!SuiteDir()) {
    SuiteDir() = std::make_unique<TempDir>();
    // The suite must not depend on the login scripts of whoever runs it.
    setenv("HOME", SuiteDir()->path().c_str(), 1);
    if (GetParam().begin) GetParam().begin();
  }
  SuiteEnd() = [place = GetParam()](const std::string& dir) {
    if (place.kill_far_end) place.kill_far_end(dir);
    if (place.end) place.end();
  };
  return SuiteDir()->path();
}

void BackendContract::TearDownTestSuite() {
  if (!SuiteDir()) return;
  if (SuiteEnd()) SuiteEnd()(SuiteDir()->path());
  SuiteDir().reset();
}

void BackendContract::ExpectExit(const RunPtr& run, int code) {
  ASSERT_TRUE(run->outcome.has_value());
  EXPECT_EQ(run->outcome->state, CommandState::kExited) << run->Told();
  EXPECT_EQ(run->outcome->cause, Cause::kNatural) << run->Told();
  EXPECT_FALSE(run->outcome->signalled) << run->Told();
  EXPECT_EQ(run->outcome->value, code) << run->Told();
}

void BackendContract::ExpectRefused(CommandSpec spec) {
  spec.run_id = world().random.Uuid();
  absl::StatusOr<std::unique_ptr<Channel>> channel =
      world().Await(session().engine->Start(std::move(spec)));
  ASSERT_FALSE(channel.ok());
  EXPECT_EQ(ReasonOf(channel.status()), Reason::k_CAPABILITY_MISSING);
}

}  // namespace hermes::contract
