#pragma once

// FakePlace: a place with a runner, as the daemon sees it, without processes. It is passive: what a
// command has written and whether it has ended is a function of its plan and of the clock, so a
// place outlives any daemon (and its loop) that a test throws away. Engines and factories connect a
// daemon to it. Loop thread of whoever calls.
//
// A command's script is its plan: steps joined by ';'
//   out TEXT | err TEXT   writes           outn N | errn N   writes N bytes of Pattern(run id,
//   offset) sleep MS              lets time pass   exit N | sig N    ends       hang   goes on
//   until killed cd DIR                commits a new working directory at the end
//   child              leaves a child behind that holds its output open until it is killed
//   timeout MS         is killed over there so long after its start, if it has not ended

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/backend.h"
#include "daemon/core/engines.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"

namespace hermes {

// The byte at `offset` of a stream written by outn or errn: tests can check any range of it.
char PatternByte(const std::string& run_id, OutputStream stream, uint64_t offset);

struct FakeCommand {
  struct Write {
    SteadyTime when;
    OutputStream stream;
    std::string bytes;
  };
  std::string run_id;
  std::string session;
  std::string new_cwd;
  std::vector<Write> writes;       // in time order
  std::optional<SteadyTime> ends;  // nullopt: never by itself
  Outcome outcome;                 // at `ends`
  bool child = false;              // that goes on after it
  uint64_t acked[kOutputStreams] = {0, 0};
  std::string stdin_bytes;
  bool stdin_eof = false;
  std::vector<std::pair<int, int>> signals;            // and their scopes
  std::vector<std::pair<uint16_t, uint16_t>> resizes;  // columns and rows
  std::optional<SteadyTime> times_out;
  bool killed = false;
  bool forgotten = false;

  std::string Produced(OutputStream stream, SteadyTime now) const;
  bool Ended(SteadyTime now) const { return ends && *ends <= now; }
  std::optional<SteadyTime> NextChange(SteadyTime now) const;
};

class FakePlace {
 public:
  // What may go wrong, each drawn per call from the daemon's seeded Random; 0 is never, 100 always.
  struct Faults {
    int refuse_open_percent = 0;
    int refuse_start_percent = 0;
    int small_chunks_percent = 0;  // a read returns few bytes
    int stall_percent = 0;         // an answer, or the next bytes, are held back for a while ...
    Duration longest_stall{0};     // ... of at most this
  };

  std::string incarnation = "place-1";
  bool reachable = true;
  // Most output bytes of a stream that are not acknowledged: at the limit the command waits.
  static constexpr uint64_t kNoWindow = std::numeric_limits<uint64_t>::max();
  uint64_t output_window = kNoWindow;
  // What is written to a command's stdin waits on its way, and is lost with its daemon.
  bool holds_stdin = false;
  bool silent = false;  // an attempt to open it ends only when nobody wants it any more
  Faults faults;

  // The far ends of mounts; null: there are none.
  std::function<std::unique_ptr<sync::RemoteTree>()> new_tree = nullptr;
  bool runs_files = false;            // commands may follow others, as a runner's may ...
  bool first_fails = false;           // ... and what they follow has not succeeded
  std::vector<std::string> followed;  // what commands asked to follow
  std::function<void(const CommandSpec&)> on_start = nullptr;  // of each process
  std::function<void()> on_adopt = nullptr;                    // before each adoption

  std::map<std::string, std::shared_ptr<FakeCommand>> commands;  // by run id
  std::map<std::string, int> starts;            // by run id: how many processes ever
  std::map<std::string, std::string> poisoned;  // run ids that must never start
  std::map<std::string, std::string> cwd;       // by session
  std::map<std::string, uint64_t> generation;
  // By session: its daemon, to be told when contact is lost and found again.
  std::map<std::string, std::function<void(bool)>> tell_reachable;
  // By session: its daemon, to be told that the place is another one.
  std::map<std::string, IncarnationChanged> tell_changed;

  // How long the next thing is held back.
  Duration Stall(Random& random) const;

  // Every process dies, every record is gone, the next runner is another one.
  void KillRunner();
  // And every daemon that is connected meets it.
  void ReplaceRunner();

  // The plan of a script, from `now` on.
  static std::shared_ptr<FakeCommand> Plan(const CommandSpec& spec, SteadyTime now);
};

class FakeEngineFactory : public EngineFactory {
 public:
  FakeEngineFactory(Loop& loop, Clock& clock, Random& random, FakePlace& place)
      : loop_(loop), clock_(clock), random_(random), place_(place) {}

  absl::Status CheckBackend(const std::string& backend, const SandboxSpec&) const override;
  std::vector<Backend*> backends() const override { return {}; }
  Task<absl::StatusOr<OpenPlace>> Open(Request request) override;

 private:
  Loop& loop_;
  Clock& clock_;
  Random& random_;
  FakePlace& place_;
};

}  // namespace hermes
