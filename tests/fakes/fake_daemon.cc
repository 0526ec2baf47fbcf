#include "tests/fakes/fake_daemon.h"

#include <chrono>

namespace hermes {
namespace {

Task<void> RunFollower(std::shared_ptr<FakeDaemon::Reader> reader) {
  reader->result = co_await reader->follower->Run(*reader->sink);
}

}  // namespace

std::string RecordingSink::Text(OutputStream stream) const {
  std::string text;
  for (const CommandEvent& event : events) {
    if (const auto* piece = std::get_if<OutputPiece>(&event); piece && piece->stream == stream)
      text += piece->data;
    if (const auto* gap = std::get_if<GapPiece>(&event); gap && gap->stream == stream)
      text += "[GAP]";
  }
  return text;
}

const CommandInfo* RecordingSink::finished() const {
  const CommandInfo* finished = nullptr;
  for (const CommandEvent& event : events) {
    if (const auto* end = std::get_if<FinishedInfo>(&event)) {
      EXPECT_EQ(finished, nullptr) << "two terminal events";
      finished = &end->command;
    }
  }
  return finished;
}

FakeDaemon::FakeDaemon(FakeHost& h, uint64_t seed, TableLimits limits, MemoryStore::Gate gate)
    : host(h),
      clock(loop),
      random(seed),
      store(loop, h.disk, std::move(gate)),
      engines(loop, clock, random, h.place),
      sync(loop, clock, random, workers, h.base_dir),
      table({loop, clock, random, workers, store, stats, engines, h.spool_dir, limits, sync.deps}) {
  if (host.now > clock.Now()) clock.Advance(host.now - clock.Now());
  table.Load(*Await(store.Load(clock.NowWall())));
}

bool FakeDaemon::RunUntil(std::function<bool()> done, Duration limit) {
  SteadyTime until = clock.Now() + limit;
  loop.RunReady();
  while (!done() && clock.Now() < until && clock.AdvanceToNext()) loop.RunReady();
  host.now = clock.Now();
  EXPECT_TRUE(done()) << "nothing more happens, or not in time";
  return done();
}

void FakeDaemon::Pass(Duration duration) {
  clock.Advance(duration);
  loop.RunReady();
  host.now = clock.Now();
}

absl::StatusOr<SessionInfo> FakeDaemon::Create(std::string id) {
  CreateSession request;
  request.id = std::move(id);
  request.backend = "fake";
  request.wait_ready = true;
  return Await(table.Create(std::move(request)));
}

StartCommand MakeStart(std::string session, std::string script, std::string run_id) {
  StartCommand request;
  request.session_id = std::move(session);
  request.digest = script;
  request.spec.script = std::move(script);
  request.spec.run_id = std::move(run_id);
  request.spec.kill_grace = std::chrono::seconds(2);
  return request;
}

absl::StatusOr<Session::StartResult> FakeDaemon::Start(std::string session, std::string script,
                                                       std::string run_id) {
  if (run_id.empty()) run_id = random.Uuid();
  return Await(table.Start(MakeStart(std::move(session), std::move(script), std::move(run_id))));
}

std::shared_ptr<FakeDaemon::Reader> FakeDaemon::Follow(std::shared_ptr<CommandRun> run, Cursor from,
                                                       Duration pause) {
  auto reader = std::make_shared<Reader>();
  reader->sink = std::make_unique<RecordingSink>(clock, pause);
  Follower::Options options;
  options.from = from;
  reader->follower = std::make_unique<Follower>(clock, std::move(run), options);
  asio::co_spawn(loop.executor(), RunFollower(reader), [](std::exception_ptr) {});
  return reader;
}

void FakeDaemon::Crash(std::unique_ptr<FakeDaemon> daemon) {
  // Kept for ever and never run again: destroying it would run destructors that a killed process
  // does not run.
  static auto& graveyard = *new std::vector<std::unique_ptr<FakeDaemon>>();
  daemon->host.now = daemon->clock.Now();
  graveyard.push_back(std::move(daemon));
}

}  // namespace hermes
