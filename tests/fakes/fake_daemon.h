#pragma once

// FakeDaemon: the whole core over a FakePlace and a MemoryStore, on a loop and a clock of its own.
// Destroying it is not a shutdown: Crash() lets go of everything between two steps as kill -9 does,
// and the next FakeDaemon starts on the same place, disk and output directory. Everything on the
// test's thread.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "daemon/core/follow.h"
#include "daemon/core/session_table.h"
#include "daemon/runtime/workers.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_place.h"
#include "tests/fakes/fake_sync.h"
#include "tests/fakes/memory_store.h"

namespace hermes {

// What survives a daemon: shared by all that are started one after the other.
struct FakeHost {
  FakePlace place;
  MemoryStore::Disk disk;
  std::string spool_dir;
  std::string base_dir;  // of sync; empty: no session has mounts
  SteadyTime now;
};

// Records events; `pause` is how long each is held before the next may come.
class RecordingSink : public EventSink {
 public:
  RecordingSink(Clock& clock, Duration pause) : clock_(clock), pause_(pause) {}

  Task<bool> Send(CommandEvent event) override {
    events.push_back(std::move(event));
    if (pause_.count() > 0) co_await clock_.SleepFor(pause_);
    co_return !gone;
  }

  // The bytes of one stream; a gap is written as "[GAP]".
  std::string Text(OutputStream stream) const;
  const CommandInfo* finished() const;

  std::vector<CommandEvent> events;
  bool gone = false;

 private:
  Clock& clock_;
  Duration pause_;
};

class FakeDaemon {
 public:
  explicit FakeDaemon(FakeHost& host, uint64_t seed = 1, TableLimits limits = {},
                      MemoryStore::Gate gate = nullptr);

  // Runs everything until the task has returned, letting time pass as needed; fails the test after
  // `limit`.
  template <typename T>
  T Await(Task<T> task, Duration limit = std::chrono::hours(2)) {
    std::optional<T> result;
    asio::co_spawn(loop.executor(), std::move(task),
                   [&](std::exception_ptr, T value) { result.emplace(std::move(value)); });
    RunUntil([&] { return result.has_value(); }, limit);
    return *std::move(result);
  }

  // True when `done` became true within `limit` of simulated time.
  bool RunUntil(std::function<bool()> done, Duration limit = std::chrono::hours(2));
  void Pass(Duration duration);

  absl::StatusOr<SessionInfo> Create(std::string id);
  absl::StatusOr<Session::StartResult> Start(std::string session, std::string script,
                                             std::string run_id = "");

  // A reader from `from` on, running in the background; ends by itself at the end.
  struct Reader {
    std::unique_ptr<RecordingSink> sink;
    std::unique_ptr<Follower> follower;
    std::optional<absl::StatusOr<Follower::Result>> result;
  };
  std::shared_ptr<Reader> Follow(std::shared_ptr<CommandRun> run, Cursor from = {},
                                 Duration pause = Duration(0));

  // As kill -9: nothing of it runs ever again. Only the host's parts stay.
  static void Crash(std::unique_ptr<FakeDaemon> daemon);

  FakeHost& host;
  Loop loop;
  FakeClock clock;
  SeededRandom random;
  InlineWorkers workers{loop};
  MemoryStore store;
  Stats stats;
  FakeEngineFactory engines;
  FakeSync sync;
  SessionTable table;
};

// The request that Start() sends, for tests that change it first.
StartCommand MakeStart(std::string session, std::string script, std::string run_id);

}  // namespace hermes
