// The simulator: clients, a daemon that dies between any two steps, a place that refuses, stalls
// and is replaced, all on one fake clock, from one seed. `sim_test --seed=N` replays one run;
// `--seeds=N` sets how many there are. Besides the seeds, one small run is disturbed at each of its
// steps in turn.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "daemon/core/follow.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/fake_daemon.h"
#include "tests/fakes/temp_dir.h"

namespace hermes {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

uint64_t g_first_seed = 1;
uint64_t g_seeds = 1000;
constexpr uint64_t kDeepSeeds = 4000;

constexpr int kSessions = 2;
constexpr int kClients = 6;
constexpr Duration kWorstCase =
    std::chrono::hours(1);  // simulated; a client that needs longer hangs

// What one gateway wants: one command, its output and its end, whatever happens in between.
struct Client {
  std::string session;
  std::string run_id;
  std::string script;
  std::string got[kOutputStreams];
  bool saw_gap = false;
  bool cancelled = false;
  bool refused = false;  // the session was closed before its command was accepted
  int generation = 0;    // a Drive of an older one has been left: nobody hears it any more
  std::shared_ptr<CommandRun> run;  // known to the present Drive
  std::optional<CommandInfo> finished;
};

struct World {
  explicit World(uint64_t seed) : random(seed) { host.spool_dir = dir.path(); }
  ~World() { FakeDaemon::Crash(std::move(daemon)); }

  bool Percent(uint64_t percent) { return random.Below(100) < percent; }
  MemoryStore::Verdict Gate();
  void StartDaemon();
  void Send(Client& client);  // the client calls; an earlier call of it is left
  void Step();
  bool AllFinished() const;

  SeededRandom random;
  TempDir dir;
  FakeHost host;
  std::unique_ptr<FakeDaemon> daemon;
  std::vector<Client> clients{kClients};
  bool dead = false;   // the gate killed the daemon
  bool faults = true;  // off in the end, so that everything can finish
  bool runner_died = false;
  bool closed = false;  // its sessions were
  int crashes = 0;
};

// Takes events as a flaky client does: slowly, or not at all any more.
class ClientSink : public EventSink {
 public:
  ClientSink(World& world, Client& client)
      : world_(world), client_(client), generation_(client.generation) {}

  Task<bool> Send(CommandEvent event) override {
    if (client_.generation != generation_) co_return false;
    if (const auto* piece = std::get_if<OutputPiece>(&event)) {
      std::string& got = client_.got[static_cast<size_t>(piece->stream)];
      EXPECT_EQ(piece->offset, got.size()) << "output lost or doubled";
      got += piece->data;
    } else if (const auto* gap = std::get_if<GapPiece>(&event)) {
      client_.saw_gap = true;
      client_.got[static_cast<size_t>(gap->stream)].resize(gap->to, '?');
    } else if (const auto* end = std::get_if<FinishedInfo>(&event)) {
      EXPECT_FALSE(client_.finished.has_value()) << "two ends";
      client_.finished = end->command;
    }
    if (world_.faults && world_.Percent(20)) {
      co_await world_.daemon->clock.SleepFor(milliseconds(world_.random.Below(400)));
    }
    co_return !(world_.faults && world_.Percent(3));
  }

 private:
  World& world_;
  Client& client_;
  const int generation_;
};

Task<void> Cancel(std::shared_ptr<CommandRun> run) {
  (void)co_await run->Kill(seconds(1), Cause::kCancelled);
}

// One client against one daemon; the next daemon gets a new one of these, the Client stays.
Task<void> Drive(World* world, Client* client, int generation) {
  FakeDaemon* daemon = world->daemon.get();
  if (client->generation != generation) co_return;
  while (!client->finished && !client->refused) {
    auto started =
        co_await daemon->table.Start(MakeStart(client->session, client->script, client->run_id));
    if (client->generation != generation) co_return;
    if (!started.ok()) {
      Reason reason = ReasonOf(started.status()).value_or(Reason::k_BUG);
      EXPECT_NE(reason, Reason::k_BUG) << started.status();
      client->refused = world->closed && reason == Reason::k_SESSION_NOT_READY;
      co_await daemon->clock.SleepFor(milliseconds(50 + world->random.Below(200)));
      if (client->generation != generation) co_return;
      continue;
    }
    if (world->faults && world->Percent(10)) {
      client->cancelled = true;
      asio::co_spawn(daemon->loop.executor(), Cancel(started->run), [](std::exception_ptr) {});
    }
    client->run = started->run;
    ClientSink sink(*world, *client);
    Follower::Options options;
    options.from = Cursor{{client->got[0].size(), client->got[1].size()}};
    if (world->faults && world->Percent(20)) {
      options.wait_until = daemon->clock.Now() + milliseconds(world->random.Below(300));
    }
    Follower follower(daemon->clock, started->run, options);
    auto result = co_await follower.Run(sink);
    if (client->generation != generation) co_return;
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) co_return;
  }
}

MemoryStore::Verdict World::Gate() {
  if (!faults || dead) return MemoryStore::Verdict::kOk;
  if (Percent(2)) return MemoryStore::Verdict::kFull;
  if (!Percent(3)) return MemoryStore::Verdict::kOk;
  dead = true;
  return Percent(50) ? MemoryStore::Verdict::kDieBefore : MemoryStore::Verdict::kDieAfter;
}

void World::StartDaemon() {
  if (daemon != nullptr) {
    ++crashes;
    FakeDaemon::Crash(std::move(daemon));
  }
  dead = false;
  daemon = std::make_unique<FakeDaemon>(host, random.Next(), TableLimits{},
                                        [this](const char*) { return Gate(); });
  for (Client& client : clients) {
    if (!client.finished) Send(client);
  }
}

void World::Send(Client& client) {
  ++client.generation;
  client.run = nullptr;
  asio::co_spawn(daemon->loop.executor(), Drive(this, &client, client.generation),
                 [](std::exception_ptr) {});
}

bool World::AllFinished() const {
  return std::all_of(clients.begin(), clients.end(),
                     [](const Client& c) { return c.finished.has_value() || c.refused; });
}

// Some time passes, then something happens.
void World::Step() {
  daemon->Pass(milliseconds(1 + random.Below(300)));
  if (!dead && faults) {
    if (Percent(10)) host.place.reachable = !host.place.reachable;
    if (Percent(1)) {
      runner_died = true;
      host.place.KillRunner();
      dead = true;  // a daemon over a fake place does not notice by itself: it starts anew
    }
    if (Percent(3)) dead = true;
  }
  if (dead) StartDaemon();
}

std::string RandomScript(SeededRandom& random) {
  std::string script;
  for (uint64_t steps = 1 + random.Below(5); steps > 0; --steps) {
    uint64_t size = random.Below(10) == 0 ? random.Below(200'000) : random.Below(3'000);
    script += (random.Below(2) == 0 ? "outn " : "errn ") + std::to_string(size) + ";";
    script += "sleep " + std::to_string(random.Below(700)) + ";";
  }
  return script + "exit " + std::to_string(random.Below(256));
}

void CreateSessions(World& world) {
  world.faults = false;
  world.StartDaemon();
  for (int i = 0; i < kSessions; ++i)
    ASSERT_TRUE(world.daemon->Create("s" + std::to_string(i)).ok());
  for (Client& client : world.clients) {
    client.session = "s" + std::to_string(world.random.Below(kSessions));
    client.run_id = world.random.Uuid();
    client.script = RandomScript(world.random);
  }
  world.faults = true;
}

// What must be true of each command once its client knows the end.
void Check(World& world, const Client& client) {
  const CommandInfo& end = *client.finished;
  int starts = world.host.place.starts[client.run_id];
  EXPECT_LE(starts, 1) << "the command ran twice";
  EXPECT_FALSE(client.saw_gap) << "acknowledged output was lost";
  CommandSpec spec;
  spec.run_id = client.run_id;
  spec.script = client.script;
  auto plan = FakePlace::Plan(spec, SteadyTime{});
  for (size_t i = 0; i < kOutputStreams; ++i) {
    std::string whole = plan->Produced(static_cast<OutputStream>(i), SteadyTime::max());
    ASSERT_LE(client.got[i].size(), whole.size());
    EXPECT_EQ(client.got[i], whole.substr(0, client.got[i].size()))
        << "other bytes than were written";
    if (end.state == CommandState::kExited)
      EXPECT_EQ(client.got[i].size(), whole.size()) << "bytes are missing";
  }
  switch (end.state) {
    case CommandState::kExited:
      EXPECT_EQ(starts, 1);
      EXPECT_EQ(end.outcome->value, plan->outcome.value) << "an invented exit code";
      break;
    case CommandState::kKilled:
      EXPECT_TRUE(client.cancelled || world.closed);
      break;
    case CommandState::kNeverStarted:
      EXPECT_EQ(starts, 0) << "it did start";
      break;
    case CommandState::kUnknown:
      EXPECT_TRUE(world.runner_died) << "unknown without a reason";
      break;
    default:
      ADD_FAILURE() << "not an end";
  }
}

// Returns how often the daemon died.
int RunSeed(uint64_t seed) {
  World world(seed);
  CreateSessions(world);
  world.host.place.faults = {.refuse_open_percent = 10,
                             .refuse_start_percent = 10,
                             .small_chunks_percent = 5,
                             .stall_percent = 5,
                             .longest_stall = milliseconds(500)};
  world.StartDaemon();
  for (int step = 0; step < 60 && !world.AllFinished(); ++step) world.Step();
  world.faults = false;
  world.host.place.faults = {};
  world.host.place.reachable = true;
  world.StartDaemon();
  world.daemon->RunUntil([&] { return world.AllFinished(); }, kWorstCase);
  for (const Client& client : world.clients) {
    if (client.finished) Check(world, client);
  }
  return world.crashes;
}

// A dead daemon is kept, with the descriptors of its loop: a process has room for so many seeds.
constexpr uint64_t kSeedsPerProcess = 500;

void RunSeeds(uint64_t first, uint64_t count) {
  int crashes = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    crashes += RunSeed(seed);
    if (testing::Test::HasFailure()) FAIL() << "replay with --seed=" << seed;
  }
  std::cout << count << " seeds, " << crashes << " deaths of the daemon" << std::endl;
}

TEST(SimTest, NoSeedLosesDoublesOrInventsAnything) {
  if (g_seeds == 1) return RunSeeds(g_first_seed, 1);  // as a debugger wants it
  for (uint64_t done = 0; done < g_seeds; done += kSeedsPerProcess) {
    const uint64_t first = g_first_seed + done;
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      RunSeeds(first, std::min(kSeedsPerProcess, g_seeds - done));
      _exit(HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0) << "the process that began with seed " << first;
  }
}

// What happens to one run at one of its steps.
enum class Act { kCancel, kLeave, kCrash, kRunnerDies, kClose };
constexpr Act kActs[] = {Act::kCancel, Act::kLeave, Act::kCrash, Act::kRunnerDies, Act::kClose};
constexpr int kMostSteps = 5000;

Task<void> Close(std::shared_ptr<Session> session) {
  EXPECT_TRUE((co_await session->Close({.grace = seconds(1)}, nullptr)).ok());
}

void Do(World& world, Act act) {
  Client& client = world.clients[0];
  asio::any_io_executor loop = world.daemon->loop.executor();
  switch (act) {
    case Act::kCancel:
      client.cancelled = client.run != nullptr;
      if (client.run) asio::co_spawn(loop, Cancel(client.run), [](std::exception_ptr) {});
      return;
    case Act::kLeave:
      return world.Send(client);
    case Act::kRunnerDies:
      world.runner_died = true;
      world.host.place.KillRunner();
      return world.StartDaemon();
    case Act::kCrash:
      return world.StartDaemon();
    case Act::kClose:
      world.closed = true;
      asio::co_spawn(loop, Close(*world.daemon->table.Find("s")), [](std::exception_ptr) {});
      return;
  }
}

// One handler of the loop, or the next alarm: between two of these lies every await.
bool OneStep(FakeDaemon& daemon) {
  daemon.loop.context().restart();
  return daemon.loop.context().poll_one() > 0 || daemon.clock.PostNext();
}

// False: the run was over before its step number `at`.
bool DisturbAt(int at, Act act) {
  World world(1);
  world.faults = false;
  world.clients.resize(1);
  Client& client = world.clients[0];
  client.session = "s";
  client.run_id = "run-1";
  client.script = "outn 40;sleep 5;errn 70000;sleep 20;outn 9;sleep 30;outn 5;cd /usr;exit 3";
  client.finished.emplace();  // until there is a session
  world.StartDaemon();
  EXPECT_TRUE(world.daemon->Create("s").ok());
  client.finished.reset();
  // So that nothing is answered at once: every await is one to be disturbed in.
  world.host.place.faults = {
      .small_chunks_percent = 20, .stall_percent = 90, .longest_stall = milliseconds(20)};
  world.Send(client);
  int step = 0;
  for (; !world.AllFinished() && step < kMostSteps; ++step) {
    if (step == at) Do(world, act);
    if (!OneStep(*world.daemon)) break;
  }
  EXPECT_TRUE(world.AllFinished()) << "nothing more happens";
  if (client.finished) Check(world, client);
  if (client.refused) EXPECT_EQ(world.host.place.starts["run-1"], 0) << "refused, and started";
  return step > at;
}

TEST(SimTest, NoCancelLeaveCrashOrCloseAtAnyStepLosesDoublesOrInventsAnything) {
  int runs = 0;
  for (Act act : kActs) {
    for (int at = 0; DisturbAt(at, act); ++at, ++runs) {
      ASSERT_FALSE(HasFailure()) << "act " << static_cast<int>(act) << " at step " << at;
    }
  }
  std::cout << runs << " runs disturbed\n";
  EXPECT_GT(runs, 100);
}

}  // namespace
}  // namespace hermes

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (std::getenv("HERMES_DEEP") != nullptr) hermes::g_seeds = hermes::kDeepSeeds;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--seed=", 7) == 0) {
      hermes::g_first_seed = std::strtoull(argv[i] + 7, nullptr, 10);
      hermes::g_seeds = 1;
    } else if (std::strncmp(argv[i], "--seeds=", 8) == 0) {
      hermes::g_seeds = std::strtoull(argv[i] + 8, nullptr, 10);
    }
  }
  return RUN_ALL_TESTS();
}
