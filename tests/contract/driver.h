#pragma once

// What the contract suite runs over, and a small daemon's worth of driving: one place, one engine
// kind, sessions and commands, on a real loop that runs on the test's thread while it waits.

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/backend.h"
#include "backends/engine/plain_engine.h"
#include "backends/engine/runner_engine.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "tests/fakes/temp_dir.h"

namespace hermes::contract {

// One line of the tables in *_places.cc.
struct Place {
  std::string name;
  std::string engine;  // "runner" | "plain"
  std::function<std::unique_ptr<Backend>(Loop&, Clock&, const std::string& dir)> backend;
  // Fills in where a session is; empty: nothing needs to be said.
  std::function<void(SandboxSpec&)> where = {};
  // As `backend`, but out of order until the returned function is called.
  std::function<std::pair<std::unique_ptr<Backend>, std::function<void()>>(Loop&, Clock&,
                                                                           const std::string& dir)>
      broken_backend;
  // Ends the far end's own process, if the place has one: as kill -9 does.
  std::function<void(const std::string& dir)> kill_far_end;
  // What all tests of a process share: made before the first, taken away after the last.
  std::function<void()> begin = {};
  std::function<void()> end = {};
  bool complete = false;  // it has every capability there is
  int scale = 1;          // repetitions are divided by this
};

inline void PrintTo(const Place& place, std::ostream* out) { *out << place.name; }

// A sandbox whose runner connections the test can cut.
class CuttableSandbox : public Sandbox {
 public:
  explicit CuttableSandbox(std::unique_ptr<Sandbox> inner) : inner_(std::move(inner)) {}
  void Cut();
  size_t open_streams() const;

  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string boot_line, Lane lane,
                                                           WishPtr wish) override;
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr wish) override;
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane lane, WishPtr wish) override;
  std::string place_key() const override { return inner_->place_key(); }
  std::string handle() const override { return inner_->handle(); }
  Task<absl::Status> Close(bool destroy) override { return inner_->Close(destroy); }

 private:
  std::unique_ptr<Stream> Keep(std::unique_ptr<Stream> stream);

  std::unique_ptr<Sandbox> inner_;
  std::vector<std::weak_ptr<Stream>> streams_;
};

struct TestSession {
  std::string id;
  std::shared_ptr<CuttableSandbox> sandbox;
  std::unique_ptr<Engine> engine;
  SessionFacts facts;
  std::string changed_to;  // the incarnation last told by the engine
};

// One command: its channel, and all that came out of it so far.
struct TestRun {
  std::string run_id;
  std::unique_ptr<Channel> channel;
  std::string out;
  std::string err;
  uint64_t offset[kOutputStreams] = {0, 0};  // received
  std::vector<LostEvent> lost;
  std::optional<StartedEvent> started;
  std::optional<Outcome> outcome;
  bool drained = false;
  bool reading = false;
  bool keep = true;  // false: only `tap` sees the bytes
  std::function<void(const DataEvent&)> tap;
  SteadyTime asked, started_at, first_byte_at, ended_at;

  // How it ended, in words for failure messages.
  std::string Told() const;
};
using RunPtr = std::shared_ptr<TestRun>;

inline constexpr Duration kPatience = std::chrono::seconds(30);
// Longer than an engine may wait for a login shell that never answers.
inline constexpr Duration kOpenPatience = std::chrono::seconds(90);

// SIGKILL for the runner that listens at `socket_path`, if one does.
void KillRunnerOf(const std::string& socket_path);

class World {
 public:
  World(const Place& place, std::string dir);
  ~World();

  // Runs the loop until `done` or for `limit`; false: it never was.
  bool Until(std::function<bool()> done, Duration limit = kPatience);

  template <typename T>
  T Await(Task<T> task, Duration limit = kPatience) {
    auto result = std::make_shared<std::optional<T>>();
    asio::co_spawn(loop.executor(), std::move(task), [this, result](std::exception_ptr, T value) {
      result->emplace(std::move(value));
      Poke();
    });
    if (!Until([result] { return result->has_value(); }, limit)) {
      ADD_FAILURE() << "the task did not return in time";
      std::abort();
    }
    return std::move(**result);
  }

  // Opens a session that must open. An id of its own when `spec` has none.
  TestSession& Open(SessionSpec spec = {}, Duration lease = Duration(0));
  absl::Status TryOpen(TestSession& session, SessionSpec spec, Duration lease, std::string handle);

  RunPtr Start(TestSession& session, CommandSpec spec);
  RunPtr Adopt(TestSession& session, const RunPtr& old, uint64_t out, uint64_t err);
  RunPtr Start(TestSession& session, std::string script) {
    CommandSpec spec;
    spec.script = std::move(script);
    return Start(session, std::move(spec));
  }

  // From within a task, which it does not hold up: its channel comes later.
  RunPtr StartSoon(TestSession& session, CommandSpec spec);

  // Starts and waits for the end.
  template <typename What>
  RunPtr Run(TestSession& session, What what) {
    RunPtr run = Start(session, std::move(what));
    WaitEnd(run);
    return run;
  }
  void WaitEnd(const RunPtr& run, Duration limit = kPatience);
  void WaitDrained(const RunPtr& run, Duration limit = kPatience);
  absl::StatusOr<TreeReport> Kill(const RunPtr& run, Duration grace);
  absl::Status Write(const RunPtr& run, uint64_t offset, std::string data, bool eof);

  // As a daemon that dies and comes back: every connection is dropped without a word, nothing is
  // remembered but the sessions' ids and handles. Runs lose their channels; Adopt takes them up.
  void RestartDaemon(Duration lease = Duration(0),
                     std::optional<std::set<std::string, std::less<>>> live_runs = {});
  void KillFarEnd() { place.kill_far_end(dir); }

  // How many processes there have exactly this as one of their arguments.
  int CountArgument(TestSession& session, std::string argument);

  // The same, asked again until it is `wanted`: for what nobody told us the moment of, as a child
  // that was forked but is not yet the program it will be, or a tree that ends with its runner.
  int AwaitArgument(TestSession& session, const std::string& argument, int wanted);

  std::string UniqueSeconds(int whole);  // "77.000123": a number for sleep that nobody else uses
  void Poke();

  const Place& place;
  const std::string dir;
  Loop loop;
  SystemClock clock{loop};
  SystemRandom random;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<RunnerLinks> links;
  std::vector<std::unique_ptr<TestSession>> sessions;

 private:
  std::unique_ptr<Engine> MakePlain(TestSession& session);
  std::unique_ptr<Engine> MakeRunner(TestSession& session, Duration lease);
  Task<void> Pump(RunPtr run);
  Task<void> StartAndPump(Engine* engine, CommandSpec spec, RunPtr run);
  Task<absl::Status> StopLinks();
  void TakeEvent(TestRun& run, ChannelEvent event);
  void LetGo();

  std::vector<std::weak_ptr<TestRun>> runs_;
  std::function<bool()> waiting_for_;
  int pumps_ = 0;
};

class BackendContract : public ::testing::TestWithParam<Place> {
 protected:
  static void TearDownTestSuite();

  // One directory, so one far end, for all tests of this process.
  static const std::string& Dir();

  World& world() {
    if (!world_) world_ = std::make_unique<World>(GetParam(), Dir());
    return *world_;
  }
  TestSession& session() {
    if (world().sessions.empty()) world().Open();
    return *world().sessions.front();
  }
  const Capabilities& capabilities() { return session().engine->capabilities(); }
  RunPtr Run(std::string script) { return world().Run(session(), std::move(script)); }
  std::string Out(std::string script) { return Run(std::move(script))->out; }
  int Scaled(int repetitions) { return std::max(1, repetitions / GetParam().scale); }

  // `run` ended by itself with this code.
  static void ExpectExit(const RunPtr& run, int code);

  // The engine must refuse, not guess, what its capabilities deny.
  void ExpectRefused(CommandSpec spec);

 private:
  std::unique_ptr<World> world_;
};

}  // namespace hermes::contract
