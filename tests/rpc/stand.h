#pragma once

// Stand: a whole daemon below main, with a real loop thread and a real Unix socket, over a scripted
// place. Sessions named flood-... run only the script "flood BYTES", which writes that many bytes
// as fast as they are taken; all others run FakePlace's scripts. Any thread.

#include <grpcpp/grpcpp.h>

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "daemon/core/session_table.h"
#include "daemon/rpc/server.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/workers.h"
#include "hermes/v1/admin.grpc.pb.h"
#include "hermes/v1/error.pb.h"
#include "hermes/v1/exec.grpc.pb.h"
#include "hermes/v1/session.grpc.pb.h"
#include "tests/fakes/eventually.h"
#include "tests/fakes/fake_place.h"
#include "tests/fakes/fake_sync.h"
#include "tests/fakes/memory_store.h"
#include "tests/rpc/scratch.h"

namespace hermes {

// While it is shut, sessions named held-... stay OPENING and floods do not say that they started.
// Loop thread.
struct Gate {
  explicit Gate(Loop& loop) : changed(loop) {}
  void Set(bool to) {
    shut = to;
    changed.NotifyAll();
  }
  bool shut = false;
  Event changed;
};

class FloodFactory : public FakeEngineFactory {
 public:
  FloodFactory(Loop& loop, Clock& clock, Random& random, FakePlace& place)
      : FakeEngineFactory(loop, clock, random, place), loop_(loop), gate_(loop) {}
  Task<absl::StatusOr<OpenPlace>> Open(Request request) override;
  Gate& gate() { return gate_; }

 private:
  Loop& loop_;
  Gate gate_;
};

class Stand {
 public:
  // `change` may change the options of each server before it starts.
  explicit Stand(AccessRules access = {.own_uid = 0, .full = {}, .operate = {}},
                 std::function<void(RpcOptions&)> change = nullptr);
  ~Stand();

  // Runs `work` on the loop and returns when it has returned.
  void OnLoop(std::function<void()> work);
  // Begins a drain, as SIGTERM does; Drained returns when it is over.
  void Drain();
  void Drained() { drained_.wait(); }
  // Drains, and starts the next daemon on the same place and store.
  void Restart();

  std::string socket() const { return scratch_.path("s"); }
  RpcServer& server() { return *server_; }
  SessionTable& table() { return *table_; }
  Stats& stats() { return stats_; }  // loop
  FakePlace& place() { return place_; }
  void SetGate(bool shut) {
    OnLoop([&] { engines_.gate().Set(shut); });
  }

  // A connection of its own.
  std::shared_ptr<grpc::Channel> Connect() const;
  // Makes a session as no client may ask for it.
  void Create(CreateSession request);
  // Makes a session that is ready, or only asks for it.
  void Session(const std::string& id, bool wait_ready = true);

 private:
  void Build(SessionStore::Contents contents);
  SessionStore::Contents Load();
  Task<void> End();

  const AccessRules access_;
  const std::function<void(RpcOptions&)> change_;
  Scratch scratch_;
  Loop loop_;
  SystemClock clock_{loop_};
  SystemRandom random_;
  ThreadWorkers workers_{loop_, 2};
  Stats stats_;
  MemoryStore::Disk disk_;
  MemoryStore store_{loop_, disk_};
  FakePlace place_;
  FloodFactory engines_{loop_, clock_, random_, place_};
  FakeSync sync_{loop_, clock_, random_, workers_, scratch_.path("")};
  std::unique_ptr<SessionTable> table_;
  std::unique_ptr<RpcServer> server_;
  std::promise<void> drain_over_;
  std::shared_future<void> drained_{drain_over_.get_future()};
  bool draining_ = false;  // loop
  std::thread thread_;
};

// The reason that a failed RPC carries; "" when it has none.
std::string ReasonOf(const grpc::Status& status);
std::string MetadataOf(const grpc::Status& status, const std::string& key);

v1::ExecuteRequest Script(const std::string& session, const std::string& script);

// Everything that a finished stream said.
struct Heard {
  std::string out;
  std::string err;
  std::vector<v1::CommandEvent> events;  // without the bytes of outputs
  grpc::Status status;
  bool finished() const { return !events.empty() && events.back().has_finished(); }
  const v1::Command& command() const { return events.back().finished(); }
};
void Hear(v1::CommandEvent event, Heard* heard);
Heard Execute(v1::ExecService::StubInterface& stub, const v1::ExecuteRequest& request);
Heard Attach(v1::ExecService::StubInterface& stub, const v1::AttachRequest& request);

}  // namespace hermes
